"""What the text of a location means, through the ontology's own labels and synonyms."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurosym.errors import DataError
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.knowledge.geometry import ZONES
from neurosym.knowledge.regions import Region, Regions

ROOT = Path(__file__).parents[2]
RIGHT, LEFT = ("right_lung",), ("left_lung",)
HIGH, LOW = ZONES[:2], ZONES[1:]


@pytest.fixture(scope="module")
def regions() -> Regions:
    return Regions(load_knowledge([ROOT / "ontologies/lung-lobes.ttl"]).ontology)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("r.upper lobe(S2)", Region(RIGHT, HIGH)),
        ("l.upper lobe(S1+2)", Region(LEFT, HIGH)),
        ("r.middle lobe(S4)", Region(RIGHT, LOW)),
        ("l.lower lobe(S6-S8)", Region(LEFT, LOW)),
        ("left lung", Region(LEFT)),
        ("right_lung", Region(RIGHT)),
        ("Lower lobe of the right lung", Region(RIGHT, LOW)),
        ("RUL", Region(RIGHT, HIGH)),
        ("upper_lobe_of_left_lung", Region(LEFT, HIGH)),
        ("right_lung/upper_zone", Region(RIGHT, ZONES[:1])),
        ("right_lung/lower_zone+upper_zone", Region(RIGHT, (ZONES[0], ZONES[2]))),
        ("lung", Region(("lung", "left_lung", "right_lung"))),
    ],
)
def test_a_location_means_the_part_of_a_lung_that_its_words_say(regions: Regions, text: str, meant: Region) -> None:
    assert regions.find(text) == meant


def test_every_location_text_of_jsrt_is_a_region_of_the_side_that_it_names(regions: Regions) -> None:
    texts = [
        "r.upper lobe(S2-S3)",
        "l.upper lobe",
        "r.lower lobe(S9-10)",
        "l.lower lobe(S10)",
        "right lung",
        "r.middle lobe",
    ]
    for text in texts:
        region = regions.find(text)
        assert region is not None
        assert region.frames == (RIGHT if text.startswith("r") else LEFT)


def test_what_no_class_is_called_is_refused_with_the_nearest_name(thorax: Knowledge) -> None:
    regions = Regions(thorax.ontology)
    assert regions.find("r.upper lobe") is None  # the lobes are in an ontology of their own
    assert regions.find("right_lung/top") is None
    with pytest.raises(DataError, match="'right lunk' is no region that the ontology knows; did you mean 'right lung'"):
        regions.named("right lunk", "film-1")
