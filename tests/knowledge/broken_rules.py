"""Broken rule files, each with everything that is said about it (checked together with ontologies/thorax.ttl)."""

# ruff: noqa: E501
from __future__ import annotations

BROKEN: dict[str, tuple[str | bytes, list[str]]] = {
    "one variable in small letters": (
        "inside(G, l) :- ground_glass_opacity(G), lung(L).",
        ["warning: x.rules:1: l is a constant: variables begin with a capital letter; write L"],
    ),
    "all variables in small letters": (
        "left_of(r, h) :- right_lung(r), heart(h).",
        [
            "warning: x.rules:1: the rule has no variables: variables begin with a capital letter; "
            "write R, H if they are variables"
        ],
    ),
    "lost dot": (
        "left_of(X, Y) :- heart(X), lung(Y)\nabove(X, Y) :- heart(X), lung(Y).\n",
        ["x.rules:1:35: the rule does not end; expected '.'"],
    ),
    "weight without a digit before its point": (
        ".9 :: left_of(X, Y) :- heart(X), lung(Y).",
        ["x.rules:1:2: unexpected '9'; a number has a digit before its point, as in 0.9"],
    ),
    "comment of another language": ("# hearts\n", ["x.rules:1:1: unexpected character '#'; a comment begins with %"]),
    "name with a hyphen": (
        "left_of(X, Y) :- left-lung(X), heart(Y).",
        ["x.rules:1:27: unexpected '('; expected a comparison"],
    ),
    "name with a prefix": (
        "left_of(X, Y) :- thorax:heart(X), lung(Y).",
        ["x.rules:1:24: unexpected ':'; expected '(' or a comparison; a name stands without a prefix"],
    ),
    "lost dot at the end": (
        "left_of(X, Y) :- heart(X), lung(Y)",
        ["x.rules:1:35: the rule does not end; expected '.'"],
    ),
    "bracket not closed": (
        "left_of(X, Y :- heart(X), lung(Y).",
        ["x.rules:1:14: unexpected ':-'; expected ')' or ','"],
    ),
    "bracket too many": (
        "left_of(X, Y)) :- heart(X), lung(Y).",
        ["x.rules:1:14: unexpected ')'; expected ',' or '.' at the end of the rule or ':-'"],
    ),
    "comma too many": (
        "left_of(X, Y) :- heart(X),, lung(Y).",
        ["x.rules:1:27: unexpected ','; expected '(' or a name in lower case or a number or a variable"],
    ),
    "comma at the end": (
        "left_of(X, Y) :- heart(X), lung(Y),.",
        ["x.rules:1:36: unexpected '.'; expected '(' or a name in lower case or a number or a variable"],
    ),
    "semicolon": ("left_of(X, Y) :- heart(X); lung(Y).", ["x.rules:1:26: unexpected character ';'"]),
    "arrow of another language": (
        "left_of(X, Y) <- heart(X), lung(Y).",
        ["x.rules:1:15: unexpected '<'; expected ',' or '.' at the end of the rule or ':-'"],
    ),
    "implication sign": (
        "heart(X) → lung(X).",
        [
            "x.rules:1:10: unexpected character '→'; write it in plain ASCII; a name with other letters stands in single quotes"
        ],
    ),
    "class in capitals": (
        "Heart(X) :- lung(X).",
        [
            "x.rules:1:6: 'Heart' starts like a variable, and a variable has no arguments; write heart, or 'Heart' in quotes"
        ],
    ),
    "smart quotes around a name": (
        "near(X, Y) :- heart(X), ‘left lung’(Y).",
        ["x.rules:1:25: unexpected character '‘'; write plain ASCII quotes"],
    ),
    "smart quotes in metadata": (
        "near(X, Y) :- heart(X), lung(Y).  %! source=“JSRT, 98 of 98”",
        ["x.rules:1: metadata 'source=“JSRT, 98 of 98”' is not key=value; write plain ASCII quotes"],
    ),
    "dash from a word processor": (
        "near(X, Y) :– heart(X), lung(Y).",
        ["x.rules:1:12: unexpected ':'; expected ',' or '.' at the end of the rule or ':-'"],
    ),
    "quote not closed": ("near(X, Y) :- heart(X), 'left lung(Y).", ["x.rules:1:25: a quote is not closed on its line"]),
    "string not closed": ('near(X, Y) :- heart(X), near(X, "y).', ["x.rules:1:33: a quote is not closed on its line"]),
    "broken escape": (
        'near(X, "\\x") :- heart(X).',
        ['x.rules:1: string "\\x" has a broken escape; write \\\\ for a backslash'],
    ),
    "no atom without brackets": (
        "pneumonia :- heart(X).",
        ["x.rules:1:11: unexpected ':-'; expected '(' or a comparison"],
    ),
    "empty brackets": (
        "near() :- heart(X).",
        ["x.rules:1:6: unexpected ')'; expected a name in lower case or a number or a variable"],
    ),
    "weight above 1": (
        "1.2 :: near(X, Y) :- heart(X), lung(Y).",
        ["x.rules:1: weight 1.2 is not a probability; expected 0 < weight <= 1"],
    ),
    "weight 0": (
        "0 :: near(X, Y) :- heart(X), lung(Y).",
        ["x.rules:1: weight 0 is not a probability; expected 0 < weight <= 1"],
    ),
    "weight in percent": (
        "93% :: near(X, Y) :- heart(X), lung(Y).",
        ["x.rules:1: 93 stands alone; a weight is a share like 0.93, and % starts a comment"],
    ),
    "weight with a comma": (
        "0,9 :: near(X, Y) :- heart(X), lung(Y).",
        ["x.rules:1:2: unexpected ','; expected '::' or a comparison"],
    ),
    "weight negative": (
        "-0.5 :: near(X, Y) :- heart(X), lung(Y).",
        ["x.rules:1:6: unexpected '::'; expected a comparison"],
    ),
    "number too large": ("near(X, Y) :- heart(X), lung(Y), 1e999 > 3.", ["x.rules:1: number 1e999 is too large"]),
    "only a dot": (".", ["x.rules:1: a rule needs a head or a body"]),
    "only an arrow": (
        ":- .",
        ["x.rules:1:4: unexpected '.'; expected '(' or a name in lower case or a number or a variable"],
    ),
    "comparison as a head": (
        "3 > 2 :- heart(X).",
        ["x.rules:1: '3 > 2' cannot be a head; a head is made of atoms, or is X = Y"],
    ),
    "negation as a head": (
        "\\+ heart(X) :- lung(X).",
        ["x.rules:1: '\\+ heart(X)' cannot be a head; a head is made of atoms, or is X = Y"],
    ),
    "equality with arithmetic": (
        "near(X, Y) :- heart(X), lung(Y), X = 3 + 1.",
        ["x.rules:1: 'X = 3 + 1' compares a calculation; write =:= to compare, `is` to name the result"],
    ),
    "equality in a body": (
        "near(X, Y) :- heart(X), lung(Y), X = Y.",
        ["x.rules:1: an equality may only be a head; use the same variable twice instead"],
    ),
    "equality beside another head": (
        "X = Y, near(X, Y) :- heart(X), heart(Y).",
        ["x.rules:1: an equality must be the only head atom; split the rule"],
    ),
    "is without a variable": (
        "near(X, Y) :- heart(X), lung(Y), 3 is 1 + 2.",
        ["x.rules:1: '3 is …' names no variable; write `V is …`, or =:= to compare"],
    ),
    "function with a wrong number of values": (
        "near(X, Y) :- heart(X), lung(Y), min(1) < 2.",
        ["x.rules:1: min takes 2 value(s); found 1"],
    ),
    "count of nothing": (
        "near(X, Y) :- heart(X), lung(Y), count{X : X > 2} > 1.",
        ["x.rules:1: count{…} counts nothing; name an atom behind its ':'"],
    ),
    "count not closed": (
        "near(X, Y) :- heart(X), lung(Y), count{Z : nodule(Z) > 1.",
        ["x.rules:1:54: unexpected '>'; expected ',' or '}'"],
    ),
    "count in a count": (
        "near(X, Y) :- heart(X), lung(Y), count{Z : nodule(Z), count{W : lung(W)} > 1} > 1.",
        ["x.rules:1: count{…} inside count{…} is not part of the language; name the inner count in a rule of its own"],
    ),
    "brackets without end": (
        "near(X, Y) :- heart(X), lung(Y), " + "(" * 5000 + "1 < 2.",
        ["x.rules:1: brackets are nested deeper than 40"],
    ),
    "unknown status": (
        "near(X, Y) :- heart(X), lung(Y).  %! status=acepted",
        ["x.rules:1: unknown status 'acepted'; did you mean 'accepted'?"],
    ),
    "impossible date": (
        "near(X, Y) :- heart(X), lung(Y).  %! date=2026-13-01",
        ["x.rules:1: date '2026-13-01' is not a date; write it as year-month-day, e.g. 2026-01-31"],
    ),
    "distinct neither yes nor no": (
        "near(X, Y) :- heart(X), lung(Y).  %! distinct=maybe",
        ["x.rules:1: distinct=maybe is neither yes nor no"],
    ),
    "metadata without a key": (
        "near(X, Y) :- heart(X), lung(Y).  %! seen in 98 films",
        ["x.rules:1: metadata 'seen in 98 films' is not key=value; write key=value or key=\"some words\""],
    ),
    "unknown class": (
        "near(X, Y) :- hart(X), lung(Y).",
        [
            "x.rules:1: unknown class 'hart'; did you mean 'heart'? (declared in ontologies/neurosym.ttl, ontologies/thorax.ttl)"
        ],
    ),
    "unknown relation": (
        "locted_in(X, Y) :- heart(X), lung(Y).",
        [
            "x.rules:1: unknown relation 'locted_in'; known: above, adjacent, area_share, aspect, below, centre_x, centre_y, encloses, height_share, inside, larger_than, left_of, … (declared in ontologies/neurosym.ttl, ontologies/thorax.ttl)"
        ],
    ),
    "unknown class in a negation": (
        "near(X, Y) :- heart(X), lung(Y), \\+ nodul(X).",
        [
            "x.rules:1: unknown class 'nodul'; did you mean 'nodule'? (declared in ontologies/neurosym.ttl, ontologies/thorax.ttl)"
        ],
    ),
    "unknown class in a count": (
        "near(X, Y) :- heart(X), lung(Y), count{Z : nodul(Z)} > 1.",
        [
            "x.rules:1: unknown class 'nodul'; did you mean 'nodule'? (declared in ontologies/neurosym.ttl, ontologies/thorax.ttl)"
        ],
    ),
    "class with two arguments": (
        "near(X, Y) :- heart(X, Y).",
        ["x.rules:1: 'heart' is a class: expected 1 argument(s), found 2"],
    ),
    "relation with one argument": (
        "near(X) :- heart(X).",
        ["x.rules:1: 'near' is a relation: expected 2 argument(s), found 1"],
    ),
    "three arguments": (
        "near(X, Y) :- heart(X), lung(Y), near(X, Y, Z).",
        ["x.rules:1: near(X, Y, Z) has 3 arguments; expected 1 (class) or 2 (relation)"],
    ),
    "number where an object belongs": (
        "near(X, 3) :- heart(X).",
        ["x.rules:1: near(X, 3) needs an object where 3 stands; name a measurement, or a variable"],
    ),
    "head variable without a body": ("near(X, Y).", ["x.rules:1: a fact must not have variables; add a body"]),
    "unsafe head": (
        "heart(Y) :- lung(X).",
        ["x.rules:1: unsafe rule: the body does not bind Y; add a body atom with it"],
    ),
    "unsafe equality": (
        "X = Z :- heart(X).",
        ["x.rules:1: unsafe rule: the body does not bind Z; add a body atom with it"],
    ),
    "unsafe comparison": (
        "near(X, Y) :- heart(X), lung(Y), R > 0.5.",
        ["x.rules:1: unsafe rule: nothing binds R of R > 0.5; add a body atom with it"],
    ),
    "unsafe negation": (
        "near(X, Y) :- heart(X), lung(Y), \\+ inside(X, Z).",
        [
            "x.rules:1: unsafe rule: nothing binds Z of \\+ inside(X, Z); add a body atom with it, or name it _Z if any value will do"
        ],
    ),
    "unsafe arithmetic": (
        "near(X, Y) :- heart(X), lung(Y), A is B + 1, B is A + 1.",
        [
            "x.rules:1: unsafe rule: nothing binds B of A is B + 1; add a body atom with it",
            "x.rules:1: unsafe rule: nothing binds A of B is A + 1; add a body atom with it",
        ],
    ),
    "unsafe count": (
        "near(X, Y) :- heart(X), lung(Y), count{Z : nodule(Z), W > 3} > 1.",
        ["x.rules:1: unsafe rule: nothing binds W of count{Z : nodule(Z), W > 3}; add an atom with it to the count"],
    ),
    "object and number at once": (
        "near(X, Y) :- heart(X), lung(Y), X > 3.",
        ["x.rules:1: X is an object in near(X, Y) and a value in a comparison; use two variables"],
    ),
    "duplicate": (
        "near(X, Y) :- heart(X), lung(Y).\nnear(A, B) :- lung(B), heart(A).",
        ["x.rules:2: the rule says the same as x.rules:1; keep one"],
    ),
    "duplicated id": (
        "near(X, Y) :- heart(X), lung(Y).  %! id=a\nabove(X, Y) :- heart(X), lung(Y).  %! id=a",
        ["x.rules:2: id 'a' is used before in x.rules:1; give each rule its own id"],
    ),
    "itself": ("near(X, X) :- heart(X).", ["x.rules:1: near(X, X) relates an object to itself; use two variables"]),
    "atom and its negation": (
        "near(X, Y) :- heart(X), lung(Y), \\+ heart(X).",
        ["x.rules:1: the rule can never fire: it asks for heart(X) and for \\+ heart(X); remove one of them"],
    ),
    "empty range": (
        "near(X, Y) :- heart(X), lung(Y), count{Z : nodule(Z)} > 5, count{Z : nodule(Z)} < 3.",
        [
            "x.rules:1: the rule can never fire: no number is both count{Z : nodule(Z)} > 5 and count{Z : nodule(Z)} < 3; correct one of them"
        ],
    ),
    "negation through recursion": (
        "near(X, Y) :- heart(X), lung(Y), \\+ overlaps(X, Y).\noverlaps(X, Y) :- heart(X), lung(Y), \\+ near(X, Y).",
        [
            "x.rules:1: near depends on its own negation or count: near negates overlaps, by near(X, Y) :- heart(X), lung(Y), \\+ overlaps(X, Y). (x.rules:1); overlaps needs near, by overlaps(X, Y) :- heart(X), lung(Y), \\+ near(X, Y). (x.rules:2); break the cycle: what is negated or counted must not need the result"
        ],
    ),
    "disjoint classes in a body": (
        "near(X, Y) :- left_lung(X), right_lung(X), heart(Y).",
        [
            "x.rules:1: the rule can never fire: its body breaks 'left_lung DisjointWith right_lung' (ontologies/thorax.ttl:LINE); correct the body, or remove the rule"
        ],
    ),
    "disjoint by domain": (
        "near(X, Y) :- heart(X), nodule(X), lung(Y).",
        [
            "x.rules:1: the rule can never fire: its body breaks 'DisjointClasses anatomical_structure, finding, device' (ontologies/thorax.ttl:LINE) and 'heart SubClassOf anatomical_structure' (ontologies/thorax.ttl:LINE) and 'nodule SubClassOf opacity' (ontologies/thorax.ttl:LINE) and 'opacity SubClassOf finding' (ontologies/thorax.ttl:LINE); correct the body, or remove the rule"
        ],
    ),
    "contradicts a denial": (
        "left_of(X, Y) :- heart(X), nodule(Y).\n:- heart(X), nodule(Y), left_of(X, Y).",
        [
            "x.rules:1: the rule contradicts ':- heart(X), nodule(Y), left_of(X, Y).' (x.rules:2): where its body holds, they cannot all be true; give one of them a weight, or remove it"
        ],
    ),
    "contradicts another rule": (
        "left_of(X, Y) :- heart(X), nodule(Y).\nleft_of(Y, X) :- heart(X), nodule(Y).",
        [
            "x.rules:1: the rule contradicts 'left_of(Y, X) :- heart(X), nodule(Y).' (x.rules:2) and ':- left_of(X, Y), left_of(Y, X).' (what the words mean): where its body holds, they cannot all be true; give one of them a weight, or remove it"
        ],
    ),
    "contradicts by the inverse word": (
        "left_of(X, Y) :- heart(X), nodule(Y).\nright_of(X, Y) :- heart(X), nodule(Y).",
        [
            "x.rules:1: the rule contradicts 'right_of(X, Y) :- heart(X), nodule(Y).' (x.rules:2) and ':- left_of(X, Y), left_of(Y, X).' (what the words mean) and 'left_of InverseOf right_of' (ontologies/neurosym.ttl:LINE): where its body holds, they cannot all be true; give one of them a weight, or remove it"
        ],
    ),
    "contradicts itself": (
        "left_of(X, Y) :- nodule(X), nodule(Y).",
        [
            "x.rules:1: the rule contradicts ':- left_of(X, Y), left_of(Y, X).' (what the words mean): where its body holds, they cannot all be true; give one of them a weight, or remove it"
        ],
    ),
    "contradicts the ontology": (
        "heart(X) :- left_lung(X).",
        [
            "x.rules:1: the rule contradicts 'DisjointClasses lung, heart, cardiomediastinum, airways, clavicle, rib, diaphragm' (ontologies/thorax.ttl:LINE) and 'left_lung SubClassOf lung' (ontologies/thorax.ttl:LINE): where its body holds, they cannot all be true; give one of them a weight, or remove it"
        ],
    ),
    "contradiction over three rules": (
        "above(X, Y) :- heart(X), nodule(Y).\nabove(Y, Z) :- nodule(Y), rib(Z).\nbelow(X, Z) :- heart(X), nodule(Y), rib(Z).",
        [
            "x.rules:3: the rule contradicts 'above(X, Y) :- heart(X), nodule(Y).' (x.rules:1) and 'above(Y, Z) :- nodule(Y), rib(Z).' (x.rules:2) and 'above InverseOf below' (ontologies/neurosym.ttl:LINE) and 'above Characteristics Transitive' (ontologies/neurosym.ttl:LINE) and ':- above(X, Y), above(Y, X).' (what the words mean): where its body holds, they cannot all be true; give one of them a weight, or remove it"
        ],
    ),
    "body breaks an equality": (
        "X = Y :- heart(X), heart(Y).\nnear(X, Y) :- heart(X), heart(Y).",
        [
            "x.rules:2: the rule can never fire: its body breaks 'X = Y :- heart(X), heart(Y).' (x.rules:1); correct the body, or remove the rule"
        ],
    ),
    "superfluous": (
        "0.9 :: near(X, Y) :- heart(X), lung(Y).\n0.9 :: near(X, Y) :- heart(X), lung(Y), nodule(Z).",
        [
            "warning: x.rules:2: the more general rule x.rules:1 makes this one superfluous; remove it, or give it a higher weight than the general one"
        ],
    ),
    "entailed": (
        "right_of(Y, X) :- heart(X), lung(Y), left_of(X, Y).",
        [
            "warning: x.rules:1: the rule follows anyway from 'left_of InverseOf right_of' (ontologies/neurosym.ttl:LINE); remove it"
        ],
    ),
    "not UTF-8": (b"near(X, Y) :- heart(X), lung(Y).\n\xff\n", ["x.rules:2: not UTF-8 text; save the file as UTF-8"]),
    "UTF-16": (
        "near(X, Y) :- heart(X), lung(Y).".encode("utf-16"),
        ["x.rules: is UTF-16 text; save the file as UTF-8"],
    ),
    "NUL byte": (b"near(X, Y) :- heart(X)\x00, lung(Y).\n", ["x.rules:1: holds a NUL byte: not a text file"]),
    "no end in sight": (
        "near(X, Y) :- " + "heart(X), " * 3000,
        ["x.rules:1: the rule is longer than 20000 characters; is a '.' missing?"],
    ),
}
