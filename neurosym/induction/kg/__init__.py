"""Rules over knowledge graphs of any size: counted exactly on compressed rows by compiled loops, applied, and weighed.

    names        entities and relations by number
    store        facts as rows, both ways, memory-mapped
    compiled     functions kept compiled on disk
    kernels      where a path leads, and for which heads that holds
    rules        rules in columns: paths, constants
    paths        rules whose body is a path; all of one and two atoms
    constants    all rules with constants of one body atom
    completion   rules → answers to h(x, ?) → filtered ranks
    aggregation  the rules that speak for an entity → its standing
    weights      learned weights of rules

`neurosym.induction` is for the facts of scenes, of which there are thousands; this is for graphs of millions. Needs the extra
`graphs` (numba).
"""
