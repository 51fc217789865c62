"""What films are called in what leaves the house: by number, because an image's id or file name may say who the patient is."""

from __future__ import annotations

from collections.abc import Sequence

from neurosym.records import Scene


def film_names(scenes: Sequence[Scene], keep_identifiers: bool = False) -> dict[str, str]:
    """The name of each film by its image id: its number in the order of the scenes ("film 1"), or the id itself.

    The order is that of the run's split, so whoever holds the run can tell which film is meant, and nobody else.
    """
    return {s.image_id: s.image_id if keep_identifiers else f"film {n}" for n, s in enumerate(scenes, 1)}
