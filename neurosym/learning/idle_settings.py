"""Settings of `model.inexact` that were written down and do nothing: told, not refused.

An ablation switches one setting at a time (``--set model.inexact.posterior=false``) and leaves what depends on it where it is,
so a config with idle settings must still load; but whoever sets one should hear that it has no effect. Settings that were left
out are never idle, and neither are the defaults that a run's resolved config writes out. No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from neurosym.errors import Problem
from neurosym.learning.config import TrainConfig
from neurosym.models.config import InexactConfig

Need = tuple[Callable[[TrainConfig], bool], str]
"""Whether a config has what a setting needs, and what that is."""

_POSTERIOR: Final[Need] = (lambda c: c.model.inexact.posterior, "model.inexact.posterior: true")
_FILTER: Final[Need] = (lambda c: c.model.inexact.filter, "model.inexact.filter: true")
_EITHER: Final[Need] = (lambda c: c.model.inexact.active, "model.inexact.posterior or model.inexact.filter: true")
_RULES: Final[Need] = (lambda c: c.constraints.weight > 0, "constraints.weight above 0")
_BOXES: Final[Need] = (lambda c: c.model.kind != "fpn_segmenter", "a model.kind that learns boxes")
NEEDS: Final[Mapping[str, tuple[Need, ...]]] = {
    "posterior": (),
    "centroids": (_POSTERIOR,),
    "weigh": (_BOXES, _POSTERIOR),
    "mixed": (_BOXES, _POSTERIOR),
    "rules": (_BOXES, _POSTERIOR, _RULES),
    "filter": (),
    "adversary": (),
    "votes": (_BOXES, _POSTERIOR),
    "start": (_EITHER,),
    "strictness": (_FILTER,),
}
"""What each setting of `model.inexact` needs to have an effect; all of it. An adversary without a filter is refused."""


def idle_settings(config: TrainConfig) -> list[Problem]:
    """A warning for each setting of `model.inexact` that was set and has no effect, with what it needs."""
    found = []
    for name in _written(config.model.inexact):
        missing = [what for there, what in NEEDS[name] if not there(config)]
        if missing:
            message = f"model.inexact.{name}: set to {_shown(config, name)}, but it has no effect here"
            cure = f"it needs {' and '.join(missing)}; else leave it out"
            found.append(Problem(message, cure=cure, severity="warning"))
    return found


def _written(inexact: InexactConfig) -> list[str]:
    """The settings that somebody wrote down, in the order of the model; of a resolved config those that are no defaults."""
    fields, written = InexactConfig.model_fields, inexact.model_fields_set
    resolved = written == fields.keys()
    return [k for k in fields if k in written and not (resolved and getattr(inexact, k) == fields[k].default)]


def _shown(config: TrainConfig, name: str) -> str:
    value = getattr(config.model.inexact, name)
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
