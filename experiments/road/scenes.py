"""Generated road scenes: a street seen along its course, and on it agents that show by their looks what they do and where.

A scene is strips beside one another (pavements, lanes, a side strip for buses, parked cars or bicycles) under a band that may
be a junction with a pavement behind it, perhaps with a zebra crossing. An agent is drawn where its location says, in its own
shape and colour; what it does is drawn on it: lamps behind and in front, indicators, a face or a back, a trolley. So each label
can be seen; labels are ROAD's (`labels.txt`). Nothing here knows which labels may go together but for what can be drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 160, 128
Area = tuple[int, int, int, int]
_TARMAC, _PAVING, _WHITE, _BICYCLES = (70, 70, 74), (168, 162, 150), (235, 235, 235), (120, 66, 60)
_ONCOMING, _OTHER_LANE, _PARKING, _BUSES = (62, 72, 96), (84, 84, 84), (96, 92, 66), (128, 112, 58)
_AMBER, _RED, _GREEN = (255, 176, 0), (235, 20, 20), (30, 220, 70)

VEHICLES: Final = {
    "Car": (16, 15, (40, 90, 200)),
    "MedVeh": (18, 20, (230, 230, 215)),
    "LarVeh": (20, 27, (110, 70, 140)),
    "Bus": (19, 29, (200, 40, 50)),
    "EmVeh": (17, 18, (250, 240, 60)),
    "Mobike": (8, 14, (20, 20, 20)),
}
"""Width, height and colour."""
_OFTEN: Final = np.array([8, 3, 2, 2, 2, 3]) / 20


@dataclass
class RoadObject:
    """One box with all its labels."""

    box: Area
    labels: frozenset[str]


@dataclass
class RoadScene:
    """A picture and what is on it."""

    image: Image.Image
    objects: list[RoadObject] = field(default_factory=list)


def draw_scene(rng: np.random.Generator) -> RoadScene:
    """A scene of 160×128 pixels with three to seven objects that do not overlap."""
    street = _Street(rng)
    wanted = int(rng.integers(3, 8))
    for _ in range(6 * wanted):
        if len(street.scene.objects) == wanted:
            break
        street.add()
    noise = rng.normal(0, 5, (HEIGHT, WIDTH, 3))
    pixels = np.asarray(street.scene.image, dtype=float) + noise
    street.scene.image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return street.scene


class _Street:
    """The places of one scene, by the label of their location, and the agents that were put there."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.scene = RoadScene(Image.new("RGB", (WIDTH, HEIGHT), _TARMAC))
        self.pen = ImageDraw.Draw(self.scene.image)
        self.places: dict[str, Area] = {}
        top = 0
        if rng.random() < 0.6:
            self._place("Pav", (0, 0, WIDTH, 20), _PAVING)
            self._place("Jun", (0, 20, WIDTH, 52), (56, 56, 58))
            top = 52
        side, cycles = rng.choice(["Parking", "BusStop", "OutgoCycLane"]), rng.random() < 0.3
        other = rng.random() < 0.4
        strips = [("LftPav", 24, _PAVING), (str(side), 24, self._colour(str(side)))]
        strips += [("OutgoLane", 24, _OTHER_LANE)] if other else []
        strips += [("VehLane", 26, _TARMAC), ("IncomLane", 26, _ONCOMING)]
        strips += [("IncomCycLane", 14, _BICYCLES)] if cycles else []
        left = 0
        for name, width, colour in strips:
            self._place(name, (left, top, left + width, HEIGHT), colour)
            left += width
            self.pen.line((left, top, left, HEIGHT), fill=_WHITE if name != "LftPav" else (90, 90, 90))
        self._place("RhtPav", (left, top, WIDTH, HEIGHT), _PAVING)
        if rng.random() < 0.5:
            y = int(rng.integers(top + 4, HEIGHT - 30))
            self._place("XingLoc", (24, y, left, y + 26), None)
            for x in range(26, left - 3, 8):
                self.pen.rectangle((x, y, x + 4, y + 25), fill=(205, 205, 205))

    def _place(self, name: str, area: Area, colour: tuple[int, int, int] | None) -> None:
        self.places[name] = area
        if colour is not None:
            self.pen.rectangle((area[0], area[1], area[2] - 1, area[3] - 1), fill=colour)

    @staticmethod
    def _colour(side: str) -> tuple[int, int, int]:
        return {"Parking": _PARKING, "BusStop": _BUSES}.get(side, _BICYCLES)

    def add(self) -> None:
        """Try to add one agent of a kind that has a place here."""
        kind = self.rng.choice(["vehicle", "pedestrian", "cyclist", "light"], p=[0.45, 0.27, 0.13, 0.15])
        {"vehicle": self._vehicle, "pedestrian": self._pedestrian, "cyclist": self._cyclist, "light": self._light}[
            kind
        ]()

    def _somewhere(self, names: tuple[str, ...], width: int, height: int) -> tuple[str, Area] | None:
        """A free box of a size in one of the places, which is drawn; None if none was found at the first try."""
        there = [n for n in names if n in self.places]
        if not there:
            return None
        name = str(self.rng.choice(there))
        left, top, right, bottom = self.places[name]
        if right - left < width or bottom - top < height:
            return None
        x = int(self.rng.integers(left, right - width + 1))
        y = int(self.rng.integers(top, bottom - height + 1))
        box = (x, y, x + width, y + height)
        if any(_meet(box, other.box) for other in self.scene.objects):
            return None
        zebra = self.places.get("XingLoc")
        if name != "XingLoc" and zebra is not None and _meet(box, zebra):
            return None  # its location could be told in two ways
        return name, box

    def _keep(self, box: Area, *labels: str) -> None:
        self.scene.objects.append(RoadObject(box, frozenset(labels)))

    def _vehicle(self) -> None:
        kind = str(self.rng.choice(list(VEHICLES), p=_OFTEN))
        width, height, colour = VEHICLES[kind]
        names = (
            "VehLane",
            "OutgoLane",
            "IncomLane",
            "Jun",
            "Parking",
            "XingLoc",
            *(("BusStop",) if kind == "Bus" else ()),
        )
        found = self._somewhere(names, width, height)
        if found is None:
            return
        place, box = found
        x1, y1, x2, y2 = box
        self.pen.rectangle((x1, y1, x2 - 1, y2 - 1), fill=colour, outline=(10, 10, 10))
        self.pen.rectangle((x1 + 2, y1 + 2, x2 - 3, y1 + 5), fill=(150, 190, 210))
        labels = [kind, place]
        if place in ("Parking", "BusStop"):
            labels.append("Stop")
            self.pen.line((x1, y2 - 1, x2 - 1, y2 - 1), fill=(10, 10, 10), width=2)
        elif place == "Jun":
            left = bool(self.rng.random() < 0.5)
            labels += ["TurLft" if left else "TurRht", "IncatLeft" if left else "IncatRht"]
            self._indicate(box, left, not left)
        elif place == "IncomLane":
            labels.append("MovTow")
            for x in (x1 + 1, x2 - 4):
                self.pen.rectangle((x, y2 - 5, x + 2, y2 - 3), fill=(255, 255, 210))
        else:
            labels += self._own_way(box, place)
        self._keep(box, *labels)

    def _own_way(self, box: Area, place: str) -> list[str]:
        """What a vehicle that is seen from behind does."""
        x1, _, x2, y2 = box
        labels, draw = [], self.rng.random()
        if draw < 0.4 or place == "XingLoc":
            labels += ["MovAway"]
        elif draw < 0.75:
            labels += ["Stop", "Brake"]
            for x in (x1 + 1, x2 - 5):
                self.pen.rectangle((x, y2 - 6, x + 3, y2 - 3), fill=_RED)
        elif place == "OutgoLane":
            labels += ["MovAway", "Ovtak"]
            self.pen.line((x1 - 2, y2 - 2, x1 - 2, y2 - 9), fill=_WHITE, width=2)
        else:
            labels += ["Stop", "HazLit"]
            self._indicate(box, True, True)
        return labels

    def _indicate(self, box: Area, left: bool, right: bool) -> None:
        for x, on in ((box[0], left), (box[2] - 4, right)):
            if on:
                self.pen.rectangle((x, box[1] + 7, x + 3, box[1] + 10), fill=_AMBER)

    def _pedestrian(self) -> None:
        pushes = bool(self.rng.random() < 0.2)
        found = self._somewhere(("LftPav", "RhtPav", "Pav", "XingLoc"), 15 if pushes else 8, 18)
        if found is None:
            return
        place, box = found
        x1, y1, x2, y2 = box
        labels = ["Ped", place]
        if place == "XingLoc":
            labels.append(str(self.rng.choice(["XingFmLft", "XingFmRht", "Xing"])))
        elif place == "Pav":
            labels.append("Mov")
        else:
            labels.append(str(self.rng.choice(["MovAway", "MovTow", "Stop", "Wait2X"])))
        self._person(x1, y1, y2, labels[-1])
        if pushes:
            self.pen.rectangle((x1 + 8, y2 - 8, x2 - 1, y2 - 3), fill=(120, 80, 30), outline=(20, 20, 20))
            labels.append("PushObj")
        self._keep(box, *labels)

    def _person(self, x: int, y1: int, y2: int, does: str) -> None:
        """A head that shows a face or hair, a coat, and legs that stand or go; who waits raises an arm."""
        face, hair = (240, 200, 170), (60, 40, 20)
        coat = {"Stop": (40, 40, 60), "Wait2X": (250, 130, 30)}.get(does, (20, 140, 120))
        self.pen.ellipse((x + 1, y1, x + 6, y1 + 5), fill=hair if does == "MovAway" else face)
        self.pen.rectangle((x + 1, y1 + 6, x + 6, y1 + 12), fill=coat)
        if does in ("Mov", "XingFmLft", "XingFmRht"):
            ahead = x + 7 if does == "XingFmLft" else x
            self.pen.line((x + 3, y1 + 12, ahead, y2 - 1), fill=(20, 20, 20), width=2)
            self.pen.rectangle(
                (x + 4 if ahead > x else x + 1, y1 + 1, x + 6 if ahead > x else x + 3, y1 + 4), fill=hair
            )
        elif does == "Xing":
            self.pen.line((x, y2 - 1, x + 3, y1 + 12, x + 7, y2 - 1), fill=(20, 20, 20), width=2)
        else:
            for leg in (x + 1, x + 5):
                self.pen.line((leg, y1 + 12, leg, y2 - 1), fill=(20, 20, 20), width=1 + (does != "Stop"))
        if does == "Wait2X":
            self.pen.line((x + 7, y1 + 7, x + 7, y1 + 1), fill=face, width=1)

    def _cyclist(self) -> None:
        found = self._somewhere(("OutgoCycLane", "IncomCycLane", "VehLane"), 9, 20)
        if found is None:
            return
        place, box = found
        x1, y1, x2, y2 = box
        away = place != "IncomCycLane"
        self.pen.ellipse((x1 + 2, y1, x2 - 3, y1 + 5), fill=(60, 40, 20) if away else (240, 200, 170))
        self.pen.rectangle((x1 + 1, y1 + 6, x2 - 2, y1 + 12), fill=(150, 220, 40))
        self.pen.ellipse((x1 + 2, y1 + 11, x2 - 3, y2 - 1), outline=(5, 5, 5), width=2)
        self._keep(box, "Cyc", place, "MovAway" if away else "MovTow")

    def _light(self) -> None:
        own = bool(self.rng.random() < 0.6)
        found = self._somewhere(("LftPav",) if own else ("RhtPav", "Pav"), 9 if own else 7, 20 if own else 16)
        if found is None:
            return
        _, box = found
        x1, y1, x2, y2 = box
        self.pen.rectangle((x1, y1, x2 - 1, y2 - 1), fill=(8, 8, 8), outline=_WHITE if own else (8, 8, 8))
        lamp = int(self.rng.integers(3))
        step = (y2 - y1 - 2) // 3
        for k, colour in enumerate((_RED, _AMBER, _GREEN)):
            y = y1 + 1 + k * step
            shade = colour if k == lamp else (40, 40, 40)
            self.pen.ellipse((x1 + 2, y, x2 - 3, y + step - 1), fill=shade)
        self._keep(box, "TL" if own else "OthTL", ("Red", "Amber", "Green")[lamp])


def _meet(a: Area, b: Area) -> bool:
    return a[0] < b[2] + 2 and b[0] < a[2] + 2 and a[1] < b[3] + 2 and b[1] < a[3] + 2
