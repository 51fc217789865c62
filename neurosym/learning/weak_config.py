"""Settings of weak supervision, as written in a config's ``weak`` section (see docs/supervision.md)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class WeakConfig(BaseModel):
    """How much each kind of weak supervision counts; it acts on films that have some, and on no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(1.0, ge=0)
    """Of all terms; 0 leaves them out, and open films then teach what is annotated on them alone."""
    warmup_steps: int = Field(50, ge=0)
    """The weight grows linearly over these steps: bags of a detector that sees nothing yet say little."""
    label: float = Field(0.3, ge=0)
    """Of image labels that are present."""
    tag: float = Field(0.3, ge=0)
    mark: float = Field(0.5, ge=0)
    """Of points and strokes."""
    cover: float = Field(0.2, ge=0)
    """Of strokes: their proposal grows to hold them."""
    stroke: float = Field(0.3, ge=0)
    """Of strokes, in models with a mask branch."""
    rule: float = Field(0.2, ge=0)
    """Of what rules conclude from labels of the study."""
    negative: float = Field(1.0, ge=0)
    """Of what proposals cannot be."""
    through_boxes: bool = False
    """True lets labels, tags and marks move boxes, too."""
    place: bool = True
    """A finding whose label is present is looked for in the organs that the rules say it lies in."""
    shape: bool = True
    """Proposals count as far as they are as big as boxes of their class are (`neurosym.learning.class_shapes`)."""
    temperature: float = Field(0.1, gt=0)
    """Softness of places, in sides of their frames."""
    refine: bool = True
    """The teacher's targets on weakly annotated films agree with what is said of them (`neurosym.learning.weak_targets`)."""
    floor: float = Field(0.05, gt=0, le=1)
    """The least score of what the teacher offers for a label, tag or mark."""
    problems: Literal["stop", "report"] = "stop"
    """What happens where a label contradicts a box, an unlabelled film is also a test film, or an annotation cannot have the
    kind it should have: stop before training, or say so and go on."""
