"""Predictions → `Scene` → weighted facts, in the words of the ontology; without torch."""

from neurosym.scenes.facts import facts_from
from neurosym.scenes.files import is_facts_of_scenes, load_facts, load_scenes, save_facts, save_scenes

__all__ = ["facts_from", "is_facts_of_scenes", "load_facts", "load_scenes", "save_facts", "save_scenes"]
