"""Scenes as graphs: a network that refines them under an ontology and rules, and what it teaches the detector."""

from neurosym.constraints.graph.energy import EnergyLoss, EnergyModel, EnergySettings, EnergyStep, energy_loss
from neurosym.constraints.graph.energy_scenes import (
    EnergyScene,
    corrupted_scene,
    judged_scene,
    labelled_scene,
    relabelled_scene,
    spoilt_scene,
)
from neurosym.constraints.graph.error_model import ErrorModel
from neurosym.constraints.graph.instance_scorer import InstanceScorer, ScorerSettings, mask_quality, train_scorer
from neurosym.constraints.graph.instances import InstanceRefinement, InstanceStep, RefineSettings, refine_instances
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
    "EnergyLoss",
    "EnergyModel",
    "EnergyScene",
    "EnergySettings",
    "EnergyStep",
    "ErrorModel",
    "GraphSettings",
    "InstanceRefinement",
    "InstanceScorer",
    "InstanceStep",
    "ObjectScene",
    "OntologyGraph",
    "RefineSettings",
    "RefinedScene",
    "RefinerSettings",
    "SamplerSettings",
    "SceneRefiner",
    "SceneSampler",
    "ScorerSettings",
    "consistency_loss",
    "corrupted_scene",
    "energy_loss",
    "judged_scene",
    "labelled_scene",
    "mask_quality",
    "ontology_graph",
    "refine_instances",
    "relabelled_scene",
    "scene_graph",
    "spoilt_scene",
    "train_refiner",
    "train_scorer",
]
