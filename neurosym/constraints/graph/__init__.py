"""Scenes as graphs: a network that refines them under an ontology and rules, and what it teaches the detector."""

from neurosym.constraints.graph.error_model import ErrorModel
from neurosym.constraints.graph.ontology_graph import OntologyGraph, ontology_graph
from neurosym.constraints.graph.refiner import (
    RefinedScene,
    RefinerSettings,
    SceneRefiner,
    consistency_loss,
    train_refiner,
)
from neurosym.constraints.graph.sampler import ObjectScene, SamplerSettings, SceneSampler
from neurosym.constraints.graph.scene_graph import GraphSettings, scene_graph

__all__ = [
    "ErrorModel",
    "GraphSettings",
    "ObjectScene",
    "OntologyGraph",
    "RefinedScene",
    "RefinerSettings",
    "SamplerSettings",
    "SceneRefiner",
    "SceneSampler",
    "consistency_loss",
    "ontology_graph",
    "scene_graph",
    "train_refiner",
]
