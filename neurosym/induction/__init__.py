"""Facts → candidate rules: a genetic logic program learner over an exact query engine. NumPy only, never torch.

    index        facts as sorted integer arrays
    joins        conjunctive queries as joins of binding tables
    engine       `evaluate_rule`: the exact measures of one rule, and their definitions
    clauses      rules as integer tuples, canonical form
    subsumption  θ-subsumption, and what known rules make redundant
    scores       one body scored for all heads at once; the quality that ranks rules
    seeds        every body of one and two atoms
    paths        chains between the arguments of a fact, to start from
    evolution    longer bodies: Evoda (Wu et al., ICDE 2022), adapted
    selection    the short, non-redundant list
    search       `induce`: all of it in order

Scenes or a general graph: where facts carry a scene, a rule ranges over one scene at a time and its atoms need not
share variables; where none does, the body hangs together with the head. Distinct variables bind distinct entities
unless `injective=False`. Learned rules are free of constants; `evaluate_rule` measures rules with constants, several
head atoms and existential variables too.

    candidates = induce(facts, InductionConfig(targets=("left_of",)), background=knowledge.rules)
"""

from neurosym.induction.config import InductionConfig, Progress
from neurosym.induction.engine import Evaluation, evaluate_rule
from neurosym.induction.search import induce

__all__ = ["Evaluation", "InductionConfig", "Progress", "evaluate_rule", "induce"]
