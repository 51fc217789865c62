"""What repairs did to many scenes, as plain values: counts, each change with its rules, and what is broken still."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from neurosym.constraints.repair import Repair


def repair_summary(repairs: Mapping[str, Repair]) -> dict[str, Any]:
    """Counts over images, by image id: removed and relabelled detections, and which rules forced how many changes."""
    changes = [change for r in repairs.values() for change in r.changes]
    return {
        "images": len(repairs),
        "images_changed": sum(bool(r.changes) for r in repairs.values()),
        "removed": sum(change.after is None for change in changes),
        "relabelled": sum(change.after is not None for change in changes),
        "forced_by": dict(Counter(rule for change in changes for rule in change.rules).most_common()),
        "unsatisfied": dict(Counter(b.id for r in repairs.values() for b in r.unsatisfied).most_common()),
    }


def repair_details(repairs: Mapping[str, Repair]) -> dict[str, Any]:
    """Each change, and each place that breaks a rule still."""
    changes = [
        {"image": image, "detection": c.detection, "before": c.before, "after": c.after, "cost": round(c.cost, 4)}
        | {"rules": list(c.rules), "partners": list(c.partners), "message": str(c)}
        for image, r in repairs.items()
        for c in r.changes
    ]
    unmet = [
        {"image": image, "rule": b.id, "detections": list(b.detections), "message": str(b)}
        for image, r in repairs.items()
        for b in r.unsatisfied
    ]
    return {"changes": changes, "unsatisfied_places": unmet}
