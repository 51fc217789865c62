"""Rules over knowledge graphs of any size: counted exactly on compressed rows by compiled loops, evolved, selected, applied.

    names, store, parts           entities, relations and facts by number, memory-mapped
    facts, reading, rdf,          graphs from files and endpoints, classes of an ontology as facts
    tables, endpoint, types
    compiled, kernels             functions kept compiled on disk; where a path leads
    rules                         rules in columns: paths, constants, sets, pairs
    paths, constants              all short rules
    bodies, orders, engine,       bodies of any shape, measured for all heads at once
    evaluator, measures
    archive, refinement, growth,  the genetic search
    racing, island, evolution,
    assembly, cluster
    selection, thinning           the rules that known facts need, and facts that were held back
    forecast, clock, ending       a budget for the search and for what comes after it
    learner                       facts → rules
    applied, completion,          rules → answers to h(x, ?) → filtered ranks
    aggregation, weights
    files                         rule files

`neurosym.induction` is for the facts of scenes, of which there are thousands; this is for graphs of millions. Needs the extra
`graphs` (numba, pyarrow).
"""
