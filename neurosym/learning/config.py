"""A training run, as written in a YAML file: read once, checked at once, never changed; no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from neurosym.data.config import DataConfig, DataPath
from neurosym.learning.comatch_config import RegionCoMatchConfig
from neurosym.learning.config_file import load_settings
from neurosym.learning.weak_config import WeakConfig
from neurosym.models.config import BOX_HEADS, DetectorConfig

Semantics = Literal["product-log", "product", "lukasiewicz", "goedel", "sigmoidal", "exact"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OptimConfig(_Strict):
    """How long and how fast; the learning rate warms up linearly, then falls as a cosine to 1% of itself."""

    steps: int = Field(300, ge=1)
    batch_size: int = Field(4, ge=1)
    """Images that a step learns from: of all processes together, and of all the parts that it is seen in."""
    accumulate: int = Field(1, ge=1)
    """Parts that a batch is seen in, one after the other, where all of it does not fit into memory."""
    precision: Literal["32", "bf16", "16"] = "32"
    """Of backbone and pyramid (mixed precision); heads, losses and knowledge always have 32 bits. 16 scales the loss."""
    lr: float = Field(5e-4, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    warmup_steps: int = Field(30, ge=0)
    gradient_clip: float = Field(5.0, gt=0)
    ema: float = Field(0.98, ge=0, lt=1)
    """Decay of the weight average that is evaluated and saved; 0 turns it off."""
    augment: bool = True
    """Exposure, contrast, scale and shift; never a mirror image, which would swap left and right."""
    checkpoint_every: int = Field(100, ge=1)
    sampling: Literal["uniform", "repeat_factor", "quality"] = "uniform"
    """Show each image as often as any other, those of rare classes more often (see `neurosym.learning.sampling`), or those that
    seem well annotated (`neurosym.learning.quality_order`)."""
    repeat_threshold: float = Field(0.3, gt=0, le=1)
    """Of `repeat_factor`: classes on a smaller share of the images are repeated."""
    quality_start: int = Field(100, ge=1)
    """Of `quality`: steps before the images are judged; `model.inexact` must have votes by then."""
    quality_every: int = Field(30, ge=1)
    """Of `quality`: steps until they are judged again, which takes about as long as to predict them."""
    quality_repeat: float = Field(6.0, ge=1)
    """Of `quality`: how often the best images are shown where the worst are shown once."""


class ConstraintConfig(_Strict):
    """The premise-normalised violation (see `neurosym.constraints.loss`); `weight` 0 trains without knowledge."""

    weight: float = Field(0.0, ge=0)
    warmup_steps: int = Field(100, ge=0)
    """The weight grows linearly from 0 over these steps, so that a detector that sees nothing yet is not constrained."""
    temperature: float = Field(0.1, gt=0)
    epsilon: float = Field(1.0, gt=0)
    semantics: Semantics = "product-log"
    """How truth values are joined and what a violation costs (see `neurosym.constraints.semantics`); `exact` is weighted model
    counting (`neurosym.constraints.exact`)."""
    learn_confidence: bool = False
    """Learn how far each rule can be trusted from the labelled images and the teacher's sure detections."""
    unlabelled_batch: int = Field(0, ge=0)
    """Unlabelled images a step that, without a teacher, constraints and energy alone are computed on."""


class TeacherConfig(_Strict):
    """Pseudo-labels on unlabelled images (mean teacher: Tarvainen & Valpola 2017; for detectors: Liu et al. 2021).

    The teacher is the weight average of the student (`train.ema`). It sees the plain image; what it finds with at least
    `threshold` is the target of the student, which sees the image augmented.
    """

    weight: float = Field(0.0, ge=0)
    """Of the losses on pseudo-labels; 0 trains without a teacher."""
    start: int = Field(100, ge=0)
    """Steps of training on labels alone before the teacher starts (burn-in)."""
    batch: int = Field(2, ge=1)
    """Unlabelled images a step."""
    threshold: float = Field(0.7, gt=0, le=1)
    adaptive: bool = False
    """A threshold for each class, at most `threshold` (see `neurosym.learning.class_thresholds`)."""
    adaptive_floor: float = Field(0.3, gt=0, le=1)
    """Of `adaptive`: the least threshold, and the least score of a detection that it is told by."""
    adaptive_decay: float = Field(0.9, ge=0, lt=1)
    strong: bool = False
    """The student's view is harder: wider contrast, blur, noise, rectangles cut out (`neurosym.learning.strong_view`)."""
    jitters: int = Field(0, ge=0)
    """Boxes that are not found again from this many places nearby teach no offsets (`neurosym.learning.box_jitter`); 0 trusts
    all of them. Of models with a box head."""
    jitter: float = Field(0.06, gt=0, lt=0.5)
    variance: float = Field(0.02, gt=0)


class ComposeConfig(_Strict):
    """Labelled findings laid onto labelled films where the rules let them be (see `neurosym.learning.composed`)."""

    rate: float = Field(0.0, ge=0)
    """Findings added to a film, on average; 0 adds none."""
    unlabelled: bool = False
    """Onto the teacher's unlabelled films as well, by the anatomy that it sees there."""
    rules: bool = True
    """False: anywhere on the film, whatever it shows (an ablation)."""


class RefinerConfig(_Strict):
    """The graph network that refines the teacher's scenes (see `neurosym.constraints.graph`); it needs a teacher."""

    enabled: bool = False
    weight: float = Field(0.5, ge=0)
    """Of the consistency loss: the student's classes against the refined ones of the teacher."""
    confidence: float = Field(0.6, gt=0, le=1)
    """Refined classes less sure than this teach nothing."""
    threshold: float = Field(0.5, gt=0, le=1)
    """Refined detections of at least this are pseudo-labels (in the place of `teacher.threshold`)."""
    warmup_steps: int = Field(20, ge=0)
    films: int = Field(200, ge=1)
    """Films composed from labelled ones (see `ComposeConfig`) that show how the detector errs."""
    scenes: int = Field(800, ge=1)
    """Scenes sampled from ontology, rules and labelled films to train it on."""
    steps: int = Field(200, ge=1)
    batch: int = Field(24, ge=1)
    hidden: int = Field(64, ge=8)
    rounds: int = Field(3, ge=1)
    trust: float = Field(0.5, gt=0, le=1)
    """Of the network against the detector's own probabilities."""
    relations: bool = True
    """False leaves out of graphs and violation whatever relates two detections (an ablation)."""
    at_test: bool = True
    """Predictions of the run are refined, too."""


class EnergyConfig(_Strict):
    """An energy of scenes, given their images, that the detector lowers (see `neurosym.learning.energy_term`).

    It learns from labelled films at each step, and from as many unlabelled ones as the teacher, if there is one, or
    `constraints.unlabelled_batch` shows.
    """

    weight: float = Field(0.0, ge=0)
    """Of the energy in the loss; 0 trains without one."""
    start_after_updates: int = Field(50, ge=0)
    """Updates of the energy before the detector hears of it."""
    warmup_steps: int = Field(50, ge=0)
    """Then its weight grows linearly from 0 over these steps."""
    updates: int = Field(1, ge=1)
    """Updates of the energy at each step of the detector."""
    lr: float = Field(3e-3, gt=0)
    """Of the energy, which has a few hundred updates to learn in."""
    contrast: Literal["margin", "infonce"] = "margin"
    image_features: bool = True
    """False: the energy knows only which scenes are likely at large (an ablation)."""
    relations: bool = True
    """False leaves out of its graphs whatever relates two detections (an ablation)."""
    hidden: int = Field(48, ge=8)
    rounds: int = Field(2, ge=1)


class InstancesConfig(_Strict):
    """Refinement of instance masks when the run predicts (see `neurosym.learning.mask_refinement`); of models with masks."""

    enabled: bool = False
    classes: tuple[str, ...] = ()
    """Which may be changed, added or deleted; none named: all of them."""
    iterations: int = Field(3, ge=1)
    branching: int = Field(2, ge=1)
    gain: float = Field(0.05, ge=0)
    """By how much a change must raise the scorer's estimate."""
    threshold: float = Field(0.5, ge=0, le=1)
    """Detections of at least this score are the scene, others what may be added to it."""
    images: bool = True
    """The scorer sees how bright the film is in and around masks."""
    films: int = Field(200, ge=1)
    """Labelled films that it learns from at most."""
    groups: int = Field(6, ge=1)
    """Spoilt scenes of each."""
    steps: int = Field(240, ge=1)
    hidden: int = Field(32, ge=8)
    rounds: int = Field(2, ge=1)


class TrainConfig(_Strict):
    """Everything a run depends on."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(0, ge=0)
    base: Annotated[Path, AfterValidator(Path.absolute)] = Path()
    """The folder that relative paths start from; `load_config` sets it to the config file's own."""
    knowledge: tuple[DataPath, ...]
    reason: bool = False
    """Classify the ontology with HermiT first: entailed subsumptions then count like told ones."""
    data: DataConfig
    model: DetectorConfig = DetectorConfig()
    train: OptimConfig = OptimConfig()
    constraints: ConstraintConfig = ConstraintConfig()
    teacher: TeacherConfig = TeacherConfig()
    comatch: RegionCoMatchConfig = RegionCoMatchConfig()
    refiner: RefinerConfig = RefinerConfig()
    compose: ComposeConfig = ComposeConfig()
    weak: WeakConfig = WeakConfig()
    energy: EnergyConfig = EnergyConfig()
    instances: InstancesConfig = InstancesConfig()
    initial: str = ""
    """A run folder, relative to the config file, whose averaged weights this run starts from; what serves training alone, such
    as `model.inexact`, may differ."""

    @property
    def rules_are_witnesses(self) -> bool:
        """Whether the rules have a say in where inexact boxes are."""
        return self.model.inexact.rules and self.constraints.weight > 0

    @model_validator(mode="after")
    def _fits_boxes_of_several_labels(self) -> TrainConfig:
        idle = {
            "teacher.weight": self.teacher.weight > 0,
            "compose.rate": self.compose.rate > 0,
            "energy.weight": self.energy.weight > 0,
            "data.degrade": self.data.degrade is not None,
            "data.supervision": self.data.supervision is not None,
        }
        found = [key for key, is_set in idle.items() if is_set]
        if self.model.multi_label and found:
            raise ValueError(
                f"{found[0]}: it takes a box for an object of one class; leave it out, or model.multi_label"
            )
        return self

    @model_validator(mode="after")
    def _quality_is_estimated(self) -> TrainConfig:
        if self.train.sampling == "quality":
            inexact = self.model.inexact
            if not inexact.posterior or self.model.kind == "fpn_segmenter":
                raise ValueError(
                    "train.sampling: quality is what a detector's model.inexact.posterior estimates; turn that on"
                )
            if self.train.quality_start < inexact.start:
                raise ValueError(
                    f"train.quality_start: {self.train.quality_start} is before model.inexact.start, {inexact.start}"
                )
        return self

    @model_validator(mode="after")
    def _fits_the_teacher(self) -> TrainConfig:
        if self.refiner.enabled and self.teacher.weight == 0:
            raise ValueError("refiner.enabled: the refiner refines a teacher's scenes; set teacher.weight above 0")
        if self.compose.unlabelled and self.teacher.weight == 0:
            raise ValueError("compose.unlabelled: a teacher sees where things are there; set teacher.weight above 0")
        if self.data.supervision is not None and self.data.supervision.labels_in == "pool" and self.teacher.weight == 0:
            raise ValueError(
                "data.supervision.labels_in: pool leaves films with labels alone to a teacher; set teacher.weight above 0"
            )
        if self.comatch.weight > 0 and self.teacher.weight == 0:
            raise ValueError("comatch.weight: its pseudo-labels are a teacher's; set teacher.weight above 0")
        if self.comatch.weight > 0 and self.model.embedding == 0:
            raise ValueError("comatch.weight: regions need an embedding; set model.embedding, e.g. to 64")
        if self.teacher.jitters and self.model.kind not in BOX_HEADS:
            raise ValueError(f"teacher.jitters: {self.model.kind} has no box head to ask about a box; set it to 0")
        if self.model.oamil.enabled and self.teacher.weight > 0:
            raise ValueError("model.oamil: pseudo-labels would be taken for annotations; set teacher.weight to 0")
        return self


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML config, with ``key.sub=value`` overrides (values are YAML too).

    Raises:
        ConfigError: every mistake of the file at once, each with its line, what was expected, and the nearest known key.
    """
    return load_settings(TrainConfig, path, overrides)
