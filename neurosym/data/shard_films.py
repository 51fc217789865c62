"""What `neurosym data shards` packs: films of a COCO file, or of a split of a config in any format, each with a COCO record.

The record of a film is the part of the COCO file that is about it, as it stands there, so that any ontology can read it later.
VOC pictures and generated films get a record of the same form, in which a class is named by the category that it is tied to.
Truths that `neurosym data degrade` has left in a file are not packed, and what a config does to annotations (`few`, `degrade`,
`supervision`) is not done here but by the run that trains on the shards.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from neurosym.data.coco import checked_annotations, read_coco
from neurosym.data.coco_weak import DRAWN
from neurosym.data.config import AnyData, CocoSplit, PhantomData, ShardData, Split, class_names, open_split, own_split
from neurosym.data.images import BadBoxes, BoxChecker, ImageSet, image_id_of, require_file, require_folder
from neurosym.data.patient import ANATOMY, IN_LUNG
from neurosym.data.phantom import Phantom
from neurosym.data.shard_pack import FilmsToPack, PackedFilm
from neurosym.errors import ConfigError, DataError, Problem, short_path
from neurosym.knowledge import Knowledge
from neurosym.records import Annotation, Sample

_OF_IMAGE = ("id", "file_name", "width", "height", "attributes", "supervision")
_OF_ANNOTATION = ("id", "image_id", "category_id", "bbox", "segmentation", "iscrowd", "drawn")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")


def split_films(data: AnyData, name: Split, base: Path, knowledge: Knowledge) -> FilmsToPack:
    """The films of one split of a config, as its files have them.

    Raises:
        ConfigError: no such split, or one of shards. DataError: what is wrong with the files.
    """
    split = own_split(data, name)
    if isinstance(data, ShardData):
        raise ConfigError(f"data.{name}: these films are packed already; copy the folder")
    if isinstance(split, CocoSplit):
        return coco_films(base / split.annotations, base / split.images, data.bad_boxes, split.limit)
    plain = data.model_copy(update={"degrade": None, "supervision": None, "few": None})
    if isinstance(plain, PhantomData):
        films = open_split(plain, name, base, knowledge)
        assert isinstance(films, Phantom)
        return sample_films(films, sorted((*ANATOMY, *IN_LUNG)), knowledge)
    images = open_split(plain, name, base, knowledge)
    assert isinstance(images, ImageSet)
    return sample_films(images, class_names(plain, images, knowledge), knowledge)


def coco_films(annotations: Path, images: Path, bad_boxes: BadBoxes = "error", limit: int | None = None) -> FilmsToPack:
    """The films of a COCO file, of `limit` its first ones; every mistake of it is told before anything is packed.

    Raises:
        DataError: missing file, folder or images, not COCO, bad boxes (`bad_boxes="drop"` leaves those out and says so).
    """
    require_file(annotations, "annotation file")
    require_folder(images, "image")
    shown = short_path(annotations)
    raw, data = read_coco(annotations, shown)
    checker = BoxChecker(shown, bad_boxes)
    category_of = {c.id: c.name for c in data.categories}
    usable = {k for k, _ in checked_annotations(data, {c: c for c in category_of.values()}, checker)}
    usable |= {k for k, a in enumerate(data.annotations) if a.drawn not in DRAWN}  # films are not complete without them
    first = data.images[:limit]
    checker.check_images([images / i.file_name for i in first])
    taken: set[str] = set()
    ids = [image_id_of(i.file_name, taken, shown) for i in first]
    checker.finish()
    own: dict[int, list[int]] = {i.id: [] for i in first}
    for k in sorted(usable):
        if data.annotations[k].image_id in own:
            own[data.annotations[k].image_id].append(k)

    def film(n: int) -> PackedFilm:
        given = [data.annotations[k] for k in own[first[n].id]]
        # numbers as they were read: in the file they may stand in quotes
        as_read = [{"image_id": a.image_id, "category_id": a.category_id} for a in given]
        record = {
            "images": [_only(_OF_IMAGE, raw["images"][n])],
            "annotations": [
                _only(_OF_ANNOTATION, raw["annotations"][k] | of)
                for k, of in zip(own[first[n].id], as_read, strict=True)
            ],
            "categories": _categories({a.category_id: category_of[a.category_id] for a in given}),
        }
        path = images / first[n].file_name
        return PackedFilm(ids[n], _suffix(path), _content(path), record)

    said = sha256(annotations.read_bytes()).hexdigest()
    digest = _digest(said, bad_boxes, len(first), _state(images / i.file_name for i in first))
    return FilmsToPack(len(first), film, tuple(dict.fromkeys(category_of.values())), digest)


def sample_films(samples: ImageSet | Phantom, classes: Sequence[str], knowledge: Knowledge) -> FilmsToPack:
    """Pictures of VOC files, or generated films; `classes` are those of the data, in the order of its categories.

    Raises:
        DataError: a class is tied to no category (``ns:category``), by which it could be read again.
    """
    ties: dict[str, str] = {}
    for category, name in knowledge.ontology.categories.items():
        ties.setdefault(name, category)
    for name in classes:
        if name not in ties:
            cure = f'add ns:category "{name}" to it in {knowledge.ontology.where}'
            raise DataError(Problem(f"class {name!r} is tied to no category, by which shards could name it", cure=cure))
    numbers = {name: k for k, name in enumerate(classes, 1)}

    def film(n: int) -> PackedFilm:
        sample = samples[n]
        record = _record(sample, numbers, ties)
        if isinstance(samples, ImageSet):
            path = samples.entries[n].path
            return PackedFilm(sample.image_id, _suffix(path), _content(path), record)
        file = io.BytesIO()
        Image.fromarray(sample.image).save(file, "PNG")
        return PackedFilm(sample.image_id, ".png", file.getvalue(), record)

    if isinstance(samples, ImageSet):
        digest = _digest(samples.entries, tuple(classes), _state(e.path for e in samples.entries))
    else:
        digest = _digest((samples.indices, samples.config), tuple(classes))
    return FilmsToPack(len(samples), film, tuple(ties[name] for name in classes), digest)


def _record(sample: Sample, numbers: Mapping[str, int], ties: Mapping[str, str]) -> dict[str, Any]:
    """A sample as a COCO file of one image; relations are left out, for they are read off the true boxes."""
    height, width = sample.image.shape[:2]
    image: dict[str, Any] = {"id": 1, "file_name": f"{sample.image_id}.png", "width": width, "height": height}
    image["attributes"] = {k: v for k, v in sample.attributes.items() if k != "relations"}
    if sample.labels:
        image["supervision"] = {"present": sorted(sample.labels)}
    known = [a for a in sample.annotations if a.name in numbers]
    return {
        "images": [image],
        "annotations": [_entry(k, a, numbers[a.name]) for k, a in enumerate(known, 1)],
        "categories": _categories({numbers[a.name]: ties[a.name] for a in known}),
    }


def _entry(number: int, a: Annotation, category: int) -> dict[str, Any]:
    bbox = [a.box.x1, a.box.y1, a.box.width, a.box.height]
    entry: dict[str, Any] = {"id": number, "image_id": 1, "category_id": category, "bbox": bbox}
    return entry | ({"segmentation": dict(a.mask)} if a.mask is not None else {})


def _categories(names: Mapping[int, str]) -> list[dict[str, Any]]:
    return [{"id": k, "name": name} for k, name in sorted(names.items())]


def _only(keys: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    return {k: given[k] for k in keys if k in given}


def _suffix(path: Path) -> str:
    """What the image's member is called in the shard; what kind of image it is, its bytes say."""
    found = path.suffix.lower()
    return found if _SUFFIX.fullmatch(found) and found != ".json" else ".image"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _state(paths: Iterable[Path]) -> str:
    """A digest of where image files lie, how long they are and when they were changed; none is read."""
    found = sha256()
    for path in paths:
        try:
            file = path.stat()
        except OSError as error:
            raise _unreadable(path, error) from error
        found.update(f"{path.absolute()}\0{file.st_size}\0{file.st_mtime_ns}\0".encode())
    return found.hexdigest()


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(Problem(f"image cannot be read ({error.strerror})", short_path(path)))


def _digest(*what: object) -> str:
    return sha256(repr(what).encode()).hexdigest()
