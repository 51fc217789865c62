"""Knowledge as pictures: the ontology and the constraint graph, as one interactive HTML page and as SVG.

An ontology is drawn as its class hierarchy; rules as a factor graph (Kschischang, Frey and Loeliger 2001): one node a class,
one node a rule, and an edge where a rule speaks of a class.
"""

from neurosym.knowledge.views.graph import Graph, neighbourhood, ontology_graph, rule_graph
from neurosym.knowledge.views.page import write_page
from neurosym.knowledge.views.svg import write_svg

__all__ = ["Graph", "neighbourhood", "ontology_graph", "rule_graph", "write_page", "write_svg"]
