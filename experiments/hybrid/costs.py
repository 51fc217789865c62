"""What annotators' time a run's films cost, with published seconds for each kind of annotation.

    box, drawn to be exact      35 s an object   Su, Deng & Fei-Fei 2012 (ILSVRC), as cited by Papadopoulos
    box, drawn quickly           7 s an object   Papadopoulos et al., ICCV 2017 (extreme clicking; the boxes there are good)
    mask                        79 s an object   Lin et al., ECCV 2014 (COCO)
    point                      2.4 s an object   Bearman et al., ECCV 2016 (the first point of a class)
    scribble                  10.9 s a class     Bearman et al., ECCV 2016
    image label                  1 s a class     Bearman et al., ECCV 2016 (asked of each class, present or not)

All were measured on photographs and crowd workers; a radiologist's seconds are other and dearer, their ratios are what is
of use here. A film also has to be read, which is the same for all kinds and left out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from arms import Job, config_of

from neurosym.data.config import open_split
from neurosym.data.supervision import SupervisedSamples
from neurosym.knowledge import load_knowledge

OBJECT: Final = {"exact": 35.0, "box": 35.0, "inexact": 7.0, "coarse_mask": 35.0, "point": 2.4, "scribble": 10.9}
"""Seconds an object; exact annotations count as boxes, for the detectors here learn from boxes."""
CLASS: Final = {"image": 1.0, "location": 1.0}
"""Seconds a class of a film."""


@lru_cache
def seconds_of(job: Job) -> float:
    """Seconds that the annotations of the training films took, whatever arm learns from them."""
    config = config_of(job)
    knowledge = load_knowledge(config.base / p for p in config.knowledge)
    assert config.data.supervision is not None
    # labels cost the same, whoever is shown them
    shown = config.data.supervision.model_copy(update={"labels_in": "batch"})
    films = open_split(config.data.model_copy(update={"supervision": shown}), "train", config.base, knowledge)
    assert isinstance(films, SupervisedSamples)
    total = 0.0
    for n in range(len(films)):
        kinds = films.kinds(n)
        total += sum(CLASS.get(kind, 0.0) for kind in kinds.values())
        total += sum(OBJECT.get(kinds.get(a.name, ""), 0.0) for a in films.truth(n))
    return total
