"""The results file, written part by part: a part replaces its earlier self, others stay, figures over all are new."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from e2e.bench.replicas.figures import summarize
from e2e.bench.replicas.series import Sample
from e2e.lab import results
from e2e.lab.results import Figure, describe_commit, describe_machine, write_results
from e2e.run import LOAD_BEFORE

Parts = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """What one series measured at one size of the database: its figures and its single turns."""

    what: str
    gib: int
    figures: Mapping[str, Figure]
    turns: Sequence[Sample] = field(default_factory=tuple)

    @property
    def key(self) -> str:
        """Its name in the file."""
        return f"{self.what}_{self.gib}gib"

    def describe(self) -> dict[str, Any]:
        """Its turns, which figures are its own, when it was measured, and how busy the machine was before."""
        return {
            "commit": describe_commit(),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "loadBefore": os.environ.get(LOAD_BEFORE),
            "figures": list(self.figures),
            "turns": [describe_turn(each) for each in self.turns],
        }


def describe_turn(sample: Sample) -> dict[str, Any]:
    """One turn as JSON."""
    return {
        "calm": sample.calm.as_json(),
        "ours": sample.ours.as_json() if sample.ours is not None else None,
        "byHand": {**sample.hand.as_json(), "bareSeconds": round(sample.bare_seconds, 3)},
    }


def add_part(name: str, part: Part) -> dict[str, Figure]:
    """Write the results with this part in them; returns all figures that are there then."""
    figures, parts = read_parts(results.RESULTS / f"{name}.json")
    parts.pop(part.key, None)
    kept = {figure for each in parts.values() for figure in each["figures"]}
    figures = {figure: value for figure, value in figures.items() if figure in kept} | dict(part.figures)
    figures |= summarize(figures)
    write_results(name, figures, parts=parts | {part.key: part.describe()})
    return figures


def read_parts(path: Path) -> tuple[dict[str, Figure], Parts]:
    """The figures and parts of a file, if they were measured on this machine."""
    if not path.exists():
        return {}, {}
    content = json.loads(path.read_text())
    if content["machine"] != describe_machine():
        return {}, {}
    return {name: Figure(**figure) for name, figure in content["figures"].items()}, content.get("parts", {})
