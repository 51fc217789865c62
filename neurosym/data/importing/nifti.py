"""NIfTI volumes with label volumes → slices as films, each with the outlines of its objects.

    DIR/CASE/image.nii.gz + DIR/CASE/label.nii.gz                   or, as nnU-Net and the Decathlon have it,
    DIR/imagesTr/CASE_0000.nii.gz + DIR/labelsTr/CASE.nii.gz        (CASE.nii.gz in both is fine, too)

The affine says how a volume lies: it is turned to the nearest anatomical axes, and slices are shown as radiologists see them,
the patient's right on the left of an axial or coronal slice, the front above or on the left. A voxel stays a pixel: where
voxels are not as high as wide, pixels are not, either (attribute `pixel_spacing`). A volume of one slice is a film in the plane
that it has. Grey is windowed by `window`, else the volume's 0.5th to 99.5th percentile becomes 0 to 255. Each connected piece
of a value in a slice is one object. What the values mean stands in dataset.json or in `labels`. A case is taken for a patient.
Needs nibabel.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from neurosym.data.dicom_grey import windowed
from neurosym.data.images import require_folder
from neurosym.data.importing.source import Drawn, Loaded, Source, ToImport, raise_all
from neurosym.data.masks import box_of, encode_mask
from neurosym.errors import DataError, Problem, short_path

Plane = Literal["axial", "coronal", "sagittal"]
Slices = Literal["labelled", "all"]
_ACROSS: Final = {"sagittal": 0, "coronal": 1, "axial": 2}
_SUFFIXES: Final = (".nii.gz", ".nii")
MOST_VOXELS: Final = 2**30


def nifti_source(
    folder: Path,
    labels: Mapping[int, str] | None = None,
    plane: Plane = "axial",
    slices: Slices = "labelled",
    window: tuple[float, float] | None = None,
) -> Source:
    """The slices of every pair of image and label below a folder.

    Args:
        folder: see above.
        labels: what each value but 0 means; None reads dataset.json.
        plane: of the slices; of a volume of one slice its own plane counts.
        slices: those on which something is labelled, or all.
        window: centre and width.

    Raises:
        DataError: no pair, images and labels of different shapes, values without a meaning; all mistakes at once.
    """
    require_folder(folder, "NIfTI")
    names = dict(labels) if labels else _dataset_labels(folder / "dataset.json")
    pairs = list(_pairs(folder))
    if not pairs:
        cure = "expected CASE/image.nii.gz with CASE/label.nii.gz, or imagesTr/ with labelsTr/"
        raise DataError(Problem("no pair of image and label", short_path(folder), cure=cure))
    films: list[ToImport] = []
    missing: list[Problem] = []
    problems: list[Problem] = []
    for case, image, label in pairs:
        try:
            marked, axis = _checked(image, label, plane)
        except DataError as error:
            missing += error.problems
            continue
        unknown = sorted({int(v) for v in np.unique(marked)} - {0, *names})
        if unknown:
            cure = f'known: {", ".join(f"{k} {v}" for k, v in sorted(names.items())) or "none"}; give --labels "1=lung"'
            problems.append(Problem(f"value {unknown[0]} has no name", short_path(label), cure=cure))
        shown = np.flatnonzero(marked.any(axis=tuple(k for k in range(3) if k != axis)))
        for at in shown.tolist() if slices == "labelled" and marked.shape[axis] > 1 else range(marked.shape[axis]):
            name = case if marked.shape[axis] == 1 else f"{case}/{at:04d}"
            load = partial(_load, image, label, axis, at, tuple(sorted(names.items())), window, case)
            films.append(ToImport(name, (image, label), load, f"{axis} {at} {window} {sorted(names.items())}"))
    raise_all(problems)
    return Source(tuple(films), tuple(dict.fromkeys(names[k] for k in sorted(names))), missing=tuple(missing))


def _dataset_labels(path: Path) -> dict[int, str]:
    """The meanings in dataset.json, either way round, without the background."""
    if not path.is_file():
        return {}
    try:
        said: Any = json.loads(path.read_text(encoding="utf-8-sig"))["labels"]
        pairs = [(k, v) if str(k).isdigit() else (v, k) for k, v in said.items()]
        found = {int(k): str(v) for k, v in pairs}
        if len(found) < len(pairs) or any(int(k) != float(k) for k, _ in pairs):
            raise ValueError
        return {k: v for k, v in found.items() if k != 0}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        cure = 'expected {"labels": {"background": 0, "lung": 1}}'
        raise DataError(Problem("has no labels that can be read", short_path(path), cure=cure)) from error


def _pairs(folder: Path) -> list[tuple[str, Path, Path]]:
    """Each case with its image and its label."""
    found = []
    for path in sorted(folder.rglob("*.nii*")):
        stem = _stem(path)
        if stem is None:
            continue
        inside = path.relative_to(folder)
        if stem == "image":
            others = [path.parent / f"label{s}" for s in _SUFFIXES]
            name = str(inside.parent) if len(inside.parts) > 1 else folder.resolve().name
        elif inside.parts[0].startswith("images") and not stem.endswith(("_0001", "_0002", "_0003")):
            case = stem.removesuffix("_0000")
            others = [folder / inside.parts[0].replace("images", "labels", 1) / f"{case}{s}" for s in _SUFFIXES]
            name = case
        else:
            continue
        label = next((p for p in others if p.is_file()), None)
        if label is not None:
            found.append((name, path, label))
    return found


def _stem(path: Path) -> str | None:
    return next((path.name.removesuffix(s) for s in _SUFFIXES if path.name.endswith(s)), None)


def _checked(image: Path, label: Path, plane: Plane) -> tuple[NDArray[np.int64], int]:
    """The label volume, and across which axis it is cut."""
    values, _, place = _volume(label)
    marked = np.rint(values).astype(np.int64)
    if np.abs(values - marked).max() > 0.01:
        raise DataError(Problem("label has values that are no whole numbers", short_path(label)))
    volume, zooms, own = _volume(image)
    shape = volume.shape
    if shape != marked.shape:
        found, said = ("×".join(map(str, s)) for s in (marked.shape, shape))
        raise DataError(Problem(f"label has {found} voxels, its image {said}", short_path(label)))
    corners = np.array([*product(*((0, side - 1) for side in shape))])
    apart = float(np.linalg.norm((corners @ (place - own)[:3, :3].T) + (place - own)[:3, 3], axis=1).max())
    if not apart <= min(zooms):
        message = f"label lies {apart:.3g} mm from where its image does"
        raise DataError(Problem(message, short_path(label), cure="its affine must be that of the image"))
    thin = [k for k in range(3) if shape[k] == 1]
    return marked, thin[0] if len(thin) == 1 else _ACROSS[plane]


@lru_cache(maxsize=2)
def _volume(path: Path) -> tuple[NDArray[np.float32], tuple[float, ...], NDArray[np.float64]]:
    """A volume along the axes right, front, top, the millimetres between its voxels along each, and its affine."""
    import nibabel

    library: Any = nibabel  # typed in part only

    try:
        image: Any = library.load(path)
        shape = tuple(image.shape)
        if len(shape) not in (2, 3) or min(shape) < 1 or np.prod([float(n) for n in shape]) > MOST_VOXELS:
            found = "×".join(map(str, shape))
            cure = f"expected two or three axes, at most {MOST_VOXELS // 10**6} million voxels"
            raise DataError(Problem(f"has {found} voxels", short_path(path), cure=cure))
        if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
            raise DataError(Problem("its affine is not invertible", short_path(path)))
        if len(shape) == 2:
            image = library.Nifti1Image(np.asanyarray(image.dataobj)[..., None], image.affine)
        turned = library.as_closest_canonical(image)
        volume = np.asarray(turned.dataobj, dtype=np.float32)
    except DataError:
        raise
    except Exception as error:  # nibabel lets whatever a damaged file causes pass through
        raise DataError(Problem(f"cannot be read as NIfTI ({error})", short_path(path))) from error
    if not np.isfinite(volume).all():
        raise DataError(Problem("has voxels that are not finite", short_path(path)))
    zooms, sizes = turned.header.get_zooms()[:3], library.affines.voxel_sizes(turned.affine)
    # what the header says beside the affine may be damaged
    return volume, tuple(map(float, zooms if np.allclose(zooms, sizes, rtol=1e-3) else sizes)), turned.affine


@lru_cache(maxsize=2)
def _ends(path: Path) -> tuple[float, float]:
    low, high = np.percentile(_volume(path)[0], (0.5, 99.5))
    return float(low), float(high)


def seen(volume: np.ndarray, axis: int, at: int) -> np.ndarray:
    """A slice of a volume along right, front, top as a radiologist sees it."""
    cut = np.take(volume, at, axis=axis)
    # rows run from top or front; columns from the patient's right, or from the front
    return np.ascontiguousarray(cut[::-1, ::-1].T)


def _load(
    image: Path,
    label: Path,
    axis: int,
    at: int,
    names: tuple[tuple[int, str], ...],
    window: tuple[float, float] | None,
    case: str,
) -> Loaded:
    volume, zooms, _ = _volume(image)
    grey = seen(volume, axis, at).astype(np.float64)
    if window is not None:
        shades = windowed(grey, *window, function="LINEAR_EXACT", shown=short_path(image))
    else:
        low, high = _ends(image)
        shades = np.clip((grey - low) / max(high - low, 1e-9), 0, 1)
    marked = np.rint(seen(_volume(label)[0], axis, at)).astype(np.int64)
    objects = []
    for value, name in names:
        pieces, count = ndimage.label(marked == value, structure=np.ones((3, 3)))
        for k in range(1, count + 1):
            piece = pieces == k
            objects.append(Drawn(name, box_of(piece), encode_mask(piece)))
    across, down = (zooms[k] for k in range(3) if k != axis)
    return Loaded(
        np.asarray(shades * 255 + 0.5, dtype=np.uint8), tuple(objects), {"pixel_spacing": [down, across]}, case
    )
