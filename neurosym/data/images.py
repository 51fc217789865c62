"""Annotated images on disk: entries that were checked once, and the `Sample`s read from them one at a time."""

from __future__ import annotations

import logging
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, overload

import numpy as np
from PIL import Image, UnidentifiedImageError

from neurosym.errors import DataError, Problem, short_path
from neurosym.records import Annotation, Box, Detection, Sample, Scene

log = logging.getLogger(__name__)
BadBoxes = Literal["error", "drop"]
CLIP_TOLERANCE = 1.0
"""Pixels a box may leave the image by (rounding in an annotation tool); it is clipped."""
_MAX_PROBLEMS = 20
_LONGEST_NAME = 255
"""Bytes, of file systems."""
_LONGEST_PATH = 2000
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_DEEP = ("I;16", "I;16L", "I;16B", "I", "F")
"""Pillow's modes of grey images with more than 8 bits."""


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One image on disk with its annotations in pixels."""

    image_id: str
    path: Path
    width: int
    height: int
    annotations: tuple[Annotation, ...] = ()
    labels: frozenset[str] = frozenset()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    complete: frozenset[str] | None = None
    absent: frozenset[str] = frozenset()
    tags: tuple[tuple[str, str], ...] = ()

    def require_size(self, image: np.ndarray, shown: str) -> None:
        """Refuse pixels that the annotations are not of.

        Raises:
            DataError: the image has another size than its annotation says.
        """
        if image.shape[:2] != (self.height, self.width):
            found = f"{image.shape[1]}×{image.shape[0]}"
            raise DataError(Problem(f"image is {found} pixels; its annotation says {self.width}×{self.height}", shown))

    def sample(self, image: np.ndarray) -> Sample:
        """The sample that it is with its image."""
        said = (self.annotations, self.labels, self.attributes, str(self.path), self.complete, self.absent, self.tags)
        return Sample(self.image_id, image, *said)


class ImageSet(Sequence[Sample]):
    """Images read from disk when they are asked for; `names` are the classes that its categories are tied to."""

    def __init__(self, entries: Sequence[ImageEntry], names: Sequence[str]) -> None:
        self.entries, self.names = tuple(entries), tuple(names)

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> ImageSet: ...
    def __getitem__(self, index: int | slice) -> Sample | ImageSet:
        if isinstance(index, slice):
            return ImageSet(self.entries[index], self.names)
        entry = self.entries[index]
        image = read_image(entry.path)
        entry.require_size(image, str(entry.path))
        return entry.sample(image)

    def select(self, indices: Sequence[int]) -> ImageSet:
        """Some of the images, in this order."""
        return ImageSet([self.entries[i] for i in indices], self.names)


def folder_images(folder: Path) -> ImageSet:
    """Every image below a folder, without annotations.

    Raises:
        DataError: no such folder, or no image in it.
    """
    require_folder(folder, "image")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not paths:
        raise DataError(Problem(f"no image ({', '.join(IMAGE_SUFFIXES)}) in the folder", short_path(folder)))
    taken: set[str] = set()
    entries = []
    for path in paths:
        height, width = read_image(path).shape[:2]
        name = image_id_of(str(path.relative_to(folder)), taken, short_path(folder))
        entries.append(ImageEntry(name, path, width, height))
    return ImageSet(entries, ())


def annotated_scene(sample: Sample) -> Scene:
    """What is annotated on a sample, as a scene with scores of 1 and the annotations' masks."""
    height, width = sample.image.shape[:2]
    detections = tuple(Detection(a.name, a.box, mask=a.mask) for a in sample.annotations if not a.iscrowd)
    labels = dict.fromkeys(sorted(sample.labels), 1.0)
    return Scene(sample.image_id, width, height, detections, labels, sample.path)


def read_image(path: Path) -> np.ndarray:
    """An 8-bit image, (height, width) if grey, else (height, width, 3).

    Grey images of more than 8 bits are windowed: their 0.5th to 99.5th percentile becomes 0 to 255.

    Raises:
        DataError: missing, truncated or not an image, or several of them.
    """
    return decode_image(path, short_path(path))


def decode_image(file: Path | BinaryIO, shown: str) -> np.ndarray:
    """As `read_image`, from a file or the bytes of one; `shown` is what messages call it.

    Raises:
        DataError: as `read_image`.
    """
    with opened_image(file, shown) as image:
        _load(image)
        if image.mode in _DEEP:
            return _windowed(np.asarray(image, dtype=np.float64), shown)
        return np.asarray(image.convert("L" if image.mode in ("L", "1", "LA") else "RGB"))


@contextmanager
def opened_image(file: Path | BinaryIO, shown: str) -> Iterator[Image.Image]:
    """An image whose header was read; its pixels are read by who takes them.

    Raises:
        DataError: missing, truncated, not an image, or several pages, of which nobody knows which one is meant.
    """
    try:
        with Image.open(file) as image:
            pages = _pages(image)
            if pages > 1 and image.format != "MPO":  # a photograph, with previews of itself behind it
                raise DataError(Problem(f"image has {pages} pages", shown, cure="split it into single images"))
            yield image
    except FileNotFoundError as error:
        raise DataError(Problem("image not found", shown, cure="check the image folder")) from error
    except MemoryError as error:
        raise DataError(Problem("image cannot be read (it does not fit into the memory)", shown)) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(Problem(f"image cannot be read ({error})", shown)) from error


def _pages(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except (LookupError, TypeError, EOFError, struct.error) as error:  # what damage behind the first page comes to
        raise ValueError(f"its pages cannot be told: {error}") from error


def _load(image: Image.Image) -> None:
    # Pillow leaves black what no strip of a TIFF holds, however many rows its header claims
    rows = max((tile[1][3] for tile in getattr(image, "tile", ()) if tile[1]), default=image.height)
    if image.format == "TIFF" and rows < image.height:
        raise ValueError(f"its strips have {rows} of {image.height} rows")
    try:
        image.load()
    except TypeError as error:  # from a TIFF whose damaged header has fractions where whole numbers belong
        raise ValueError(str(error)) from error


def _windowed(pixels: np.ndarray, shown: str) -> np.ndarray:
    if not np.isfinite(pixels).all():
        raise DataError(Problem("image has pixels that are not finite", shown))
    low, high = np.percentile(pixels, (0.5, 99.5))
    scaled = (pixels - low) / max(high - low, 1e-9)
    return np.asarray(np.clip(scaled * 255.0 + 0.5, 0, 255), dtype=np.uint8)


def image_id_of(name: str, taken: set[str], file: str) -> str:
    """An image's name in facts, reports and file names: its path in the image folder, without suffix, free of separators.

    Raises:
        DataError: see `require_within`; or another image has the same id.
    """
    found = re.sub(r"[^\w.-]", "_", str(require_within(name, file).with_suffix("")))
    if found in taken:
        raise DataError(Problem(f"two images have the id {found!r}", file, cure="rename one, or remove the duplicate"))
    taken.add(found)
    return found


def require_within(name: str, file: str) -> PurePosixPath:
    """An image's name as a path in the image folder; `file` is where it was read.

    Raises:
        DataError: the name leaves the image folder, or is none that a file can have.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise DataError(Problem(f"image name {name!r} leaves the image folder", file))
    if not can_be_a_file(name):
        raise DataError(Problem(f"image name {name!r:.60} is none that a file can have", file))
    return path


def can_be_a_file(name: str) -> bool:
    """Whether a path may be asked for; file systems raise at others.

    >>> [can_be_a_file(name) for name in ("a/b.png", "/", "a\\0b", "a" * 256)]
    [True, False, False, False]
    """
    path = PurePosixPath(name.replace("\\", "/"))
    longest = max((len(part.encode("utf-8", "replace")) for part in path.parts), default=0)
    return bool(path.name) and "\0" not in name and longest <= _LONGEST_NAME and len(name) <= _LONGEST_PATH


def require_folder(path: Path, what: str) -> Path:
    """The folder, or one message that says how to get it."""
    if path.is_dir():
        return path
    cure = "set NEUROSYM_DATA to the folder that holds the data sets, or correct the path in the config"
    raise DataError(Problem(f"{what} folder not found", short_path(path), cure=cure))


def require_file(path: Path, what: str) -> Path:
    """The file, or one message that says how to get it."""
    if path.is_file():
        return path
    cure = "set NEUROSYM_DATA to the folder that holds the data sets, or correct the path in the config"
    raise DataError(Problem(f"{what} not found", short_path(path), cure=cure))


@dataclass
class BoxChecker:
    """Checks every box of one annotation file; mistakes are collected and told at once."""

    file: str
    bad_boxes: BadBoxes = "error"
    problems: list[Problem] = field(default_factory=list)
    dropped: list[Problem] = field(default_factory=list)

    def check(self, box: Box, width: int, height: int, what: str) -> Box | None:
        """The box clipped to the image, or None if it cannot be used."""
        if not all(map(math.isfinite, box.xyxy)):
            self._bad(f"{what}: box {_shown(box)} is not finite", "correct its numbers")
            return None
        if box.width <= 0 or box.height <= 0:
            self._bad(f"{what}: box {_shown(box)} is empty", "redraw or remove it")
            return None
        if max(box.x2, box.y2) <= 1 < min(width, height):
            self._bad(f"{what}: box {_shown(box)} lies within one pixel", "write pixels, not shares of the image")
            return None
        outside = max(-box.x1, -box.y1, box.x2 - width, box.y2 - height)
        if outside > CLIP_TOLERANCE:
            message = f"{what}: box {_shown(box)} leaves its {width}×{height} image by {outside:g} px"
            self._bad(message, "clip or redraw it")
            return None
        clipped = Box(max(box.x1, 0.0), max(box.y1, 0.0), min(box.x2, float(width)), min(box.y2, float(height)))
        if clipped.width <= 0 or clipped.height <= 0:
            self._bad(f"{what}: box {_shown(box)} lies outside its {width}×{height} image", "redraw or remove it")
            return None
        return clipped

    def unusable(self, message: str, cure: str) -> None:
        """Note an annotation that cannot be used for another reason than its box."""
        self._bad(message, cure)

    def _bad(self, message: str, cure: str) -> None:
        if self.bad_boxes == "drop":
            self.dropped.append(Problem(message, self.file))
        else:
            self.problems.append(Problem(message, self.file, cure=f"{cure}, or set bad_boxes: drop"))

    def check_images(self, paths: Sequence[Path]) -> None:
        """Report the images that are not there, before training meets them."""
        for path in paths:
            if not path.is_file():
                self.problems.append(Problem(f"image {path.name!r} is not in {short_path(path.parent)}", self.file))

    def finish(self) -> None:
        """Raise what was found, and say what was dropped."""
        if self.problems:
            rest = len(self.problems) - _MAX_PROBLEMS
            more = [Problem(f"… and {rest} more", self.file)] if rest > 0 else []
            raise DataError([*self.problems[:_MAX_PROBLEMS], *more])
        for problem in self.dropped:
            log.warning("dropped: %s", problem)


def _shown(box: Box) -> str:
    return "[" + ", ".join(f"{v:g}" for v in box.xyxy) + "]"
