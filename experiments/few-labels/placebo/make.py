"""Writes the placebo rules: the same rules with the class names exchanged, so that they are as many, as strong, and wrong."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
RULES = HERE.parents[2] / "rules"
EXCHANGED = {
    "phantom": {
        "left_lung": "right_lung",
        "right_lung": "left_lung",
        "lung": "opacity",
        "opacity": "lung",
        "heart": "nodule",
        "nodule": "pleural_effusion",
        "pleural_effusion": "ground_glass_opacity",
        "ground_glass_opacity": "consolidation",
        "consolidation": "heart",
    },
    "jsrt": {
        "left_lung": "right_lung",
        "right_lung": "left_lung",
        "lung": "heart",
        "heart": "nodule",
        "nodule": "lung",
    },
}
PLACES = {"small_object", "large_object", "lower_zone", "peripheral"}
SOURCES = {"phantom": "phantom.rules", "jsrt": "thorax.rules"}


def placebo(text: str, names: dict[str, str]) -> str:
    """The rules of a file that speak only of exchanged classes, with the names exchanged; comments and metadata but ids go."""
    lines = []
    for line in text.splitlines():
        rule, _, meta = line.partition("%!")
        if not rule.strip() or rule.lstrip().startswith("%"):
            continue
        used = set(re.findall(r"\b([a-z_]+)\([A-Z]\w*\)", rule)) - PLACES
        if not used <= set(names):
            continue
        wrong = re.sub(r"\b([a-z_]+)\(([A-Z]\w*)\)", lambda m: f"{names.get(m[1], m[1])}({m[2]})", rule)
        name = re.search(r"id=(\S+)", meta)
        lines.append(f"{wrong.rstrip()}  %! id=placebo_{name[1] if name else len(lines)} source=placebo\n")
    return "".join(lines)


if __name__ == "__main__":
    for name, source in SOURCES.items():
        text = placebo((RULES / source).read_text(encoding="utf-8"), EXCHANGED[name])
        head = f"% Wrong on purpose: {source} with class names exchanged (placebo/make.py). A control, not knowledge.\n"
        (HERE / f"{name}.rules").write_text(head + text, encoding="utf-8")
