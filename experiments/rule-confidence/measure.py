"""Counts how often each written rule holds on the train splits: the only source of the weights in rules/*.rules.

It shares no code with `neurosym`, so that it can serve as an oracle of the geometry. See README.md beside this file.
"""

import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels, y downwards
Film = tuple[float, list[tuple[str, Box]]]  # image area, and the objects' category strings and boxes

DATA = Path(os.environ.get("NEUROSYM_DATA") or Path(__file__).resolve().parents[2] / ".." / "shared" / "data")
PARTS = {"lung": ("left_lung", "right_lung")}

# Rule id, the data sets that can speak about it, the form of the rule (see `answers`) and the names in it.
RULES = """
one_heart                             jsrt                 one       heart
one_left_lung                         jsrt,lungs,lesions   one       left_lung
one_right_lung                        jsrt,lungs,lesions   one       right_lung
one_cardiomediastinum                 lesions              one       cardiomediastinum
lungs_in_order                        jsrt,lungs,lesions   always    right_lung left_of left_lung
right_lung_left_of_heart              jsrt                 always    right_lung left_of heart
heart_left_of_left_lung               jsrt                 always    heart left_of left_lung
right_lung_left_of_cardiomediastinum  lesions              always    right_lung left_of cardiomediastinum
cardiomediastinum_left_of_left_lung   lesions              always    cardiomediastinum left_of left_lung
right_lung_left_of_airways            lesions              always    right_lung left_of airways
airways_left_of_left_lung             lesions              always    airways left_of left_lung
heart_below_lung                      jsrt                 always    heart below lung
cardiomediastinum_below_lung          lesions              always    cardiomediastinum below lung
airways_above_cardiomediastinum       lesions              always    airways above cardiomediastinum
nodule_in_lung                        jsrt                 some      nodule inside lung
ground_glass_in_lung                  lesions              some      ground_glass_opacity inside lung
consolidation_in_lung                 lesions              some      consolidation inside lung
tube_in_airways                       lesions              some      endotracheal_tube inside airways
lung_overlaps_heart                   jsrt                 always    lung overlaps heart
lung_overlaps_cardiomediastinum       lesions              always    lung overlaps cardiomediastinum
heart_larger_than_nodule              jsrt                 always    heart larger_than nodule
lung_larger_than_nodule               jsrt                 always    lung larger_than nodule
lung_larger_than_heart                jsrt                 always    lung larger_than heart
lung_larger_than_ground_glass         lesions              always    lung larger_than ground_glass_opacity
lung_larger_than_consolidation        lesions              always    lung larger_than consolidation
nodule_is_small                       jsrt                 sized     nodule small_object
lung_is_large                         jsrt,lungs,lesions   sized     lung large_object
lungs_apart                           jsrt,lungs,lesions   never     left_lung overlaps right_lung
heart_not_in_lung                     jsrt                 never     heart inside lung
cardiomediastinum_not_in_lung         lesions              never     cardiomediastinum inside lung
nodule_not_around_lung                jsrt                 never     nodule encloses lung
white_cell_larger_than_red_cell       bccd                 always    WBC larger_than RBC
red_cell_larger_than_platelet         bccd                 always    RBC larger_than Platelets
white_cell_larger_than_platelet       bccd                 always    WBC larger_than Platelets
platelet_is_small                     bccd                 sized     Platelets small_object
red_cell_is_medium                    bccd                 sized     RBC medium_object
platelet_not_around_red_cell          bccd                 never     Platelets encloses RBC
platelet_not_around_white_cell        bccd                 never     Platelets encloses WBC
red_cell_not_in_red_cell              bccd                 never     RBC inside RBC
"""


def area(a: Box) -> float:
    return (a[2] - a[0]) * (a[3] - a[1])


def shared(a: Box, b: Box) -> tuple[float, float]:
    return min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])


def inside(a: Box, b: Box) -> bool:
    width, height = shared(a, b)
    return width >= 0.75 * (a[2] - a[0]) and height >= 0.75 * (a[3] - a[1])


RELATIONS: dict[str, Callable[[Box, Box], bool]] = {
    "left_of": lambda a, b: a[0] + a[2] < b[0] + b[2],
    "above": lambda a, b: a[1] + a[3] < b[1] + b[3],
    "below": lambda a, b: a[1] + a[3] > b[1] + b[3],
    "inside": inside,
    "encloses": lambda a, b: inside(b, a),
    "overlaps": lambda a, b: min(shared(a, b)) > 0,
    "larger_than": lambda a, b: area(a) > area(b),
}


def size(share: float) -> str:
    return "small_object" if share < 0.01 else "large_object" if share > 0.1 else "medium_object"


def answers(film: Film, form: str, a: str, *names: str) -> Iterator[bool]:
    """Whether the rule holds, once for each choice of the objects that its body names."""

    def named(name: str) -> list[Box]:
        return [box for kind, box in film[1] if kind in PARTS.get(name, (name,))]

    if form == "one":  # X = Y :- a(X), a(Y).  Over the films that show one at all.
        yield from [len(named(a)) == 1] if named(a) else []
    elif form == "sized":  # size(X) :- a(X).
        yield from (size(area(x) / film[0]) == names[0] for x in named(a))
    elif form == "some":  # relation(X, Y), b(Y) :- a(X).  Over the films on which no part of b is missing.
        relation, b = RELATIONS[names[0]], names[1]
        if all(named(part) for part in PARTS.get(b, (b,))):
            yield from (any(relation(x, y) for y in named(b)) for x in named(a))
    else:  # always: relation(X, Y) :- a(X), b(Y).  never: :- a(X), b(Y), relation(X, Y).
        relation, wanted = RELATIONS[names[0]], form == "always"
        yield from (relation(x, y) is wanted for x, y in product(named(a), named(names[1])) if x is not y)


def coco(path: Path) -> list[Film]:
    data = json.loads(path.read_text())
    names = {c["id"]: c["name"] for c in data["categories"]}
    films: dict[int, Film] = {i["id"]: (i["width"] * i["height"], []) for i in data["images"]}
    for found in data["annotations"]:
        x, y, width, height = found["bbox"]
        films[found["image_id"]][1].append((names[found["category_id"]], (x, y, x + width, y + height)))
    return list(films.values())


def voc(folder: Path, split: str) -> list[Film]:
    films: list[Film] = []
    for name in (folder / split).read_text().split():
        root = ET.parse(folder / "annotations" / f"{name}.xml").getroot()  # noqa: S314  (our own copy)  # nosec B314
        films.append((float(root.findtext("size/width", "")) * float(root.findtext("size/height", "")), []))
        for found in root.iter("object"):
            x1, y1, x2, y2 = (float(found.findtext(f"bndbox/{k}", "")) for k in ("xmin", "ymin", "xmax", "ymax"))
            if area((x1, y1, x2, y2)) > 0:  # two boxes of bccd are single points
                films[-1][1].append((found.findtext("name", ""), (x1, y1, x2, y2)))
    return films


def measure() -> dict[str, dict[str, tuple[int, int]]]:
    """Rule id: data set: how often the rule holds, out of how many times."""
    films = {"jsrt": coco(DATA / "jsrt/train.json"), "bccd": voc(DATA / "bccd", "train.txt")}
    films |= {name: coco(DATA / f"covid-cxr/{name}_train.json") for name in ("lungs", "lesions")}
    counts: dict[str, dict[str, tuple[int, int]]] = {}
    for rule, sources, form, *names in map(str.split, RULES.strip().splitlines()):
        found = {s: [yes for film in films[s] for yes in answers(film, form, *names)] for s in sources.split(",")}
        counts[rule] = {source: (sum(said), len(said)) for source, said in found.items()}
    return counts


if __name__ == "__main__":
    if not DATA.is_dir():
        raise SystemExit(f"skipped: no data at {DATA}; NEUROSYM_DATA names the folder of jsrt, covid-cxr and bccd")
    for rule, counts in measure().items():
        holds, of = (sum(column) for column in zip(*counts.values(), strict=True))
        parts = ", ".join(f"{source} {h}/{n}" for source, (h, n) in counts.items())
        print(f"{rule:37} {holds:>5}/{of:<5}  {holds / of:.3f}  ({parts})")
