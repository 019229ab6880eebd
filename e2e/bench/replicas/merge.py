"""The results file, to which a run of some sizes adds: figures of other sizes stay, those over all are made anew."""

import json
import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from e2e.bench.replicas.figures import summarize
from e2e.bench.replicas.series import Kind, Sample
from e2e.lab import results
from e2e.lab.results import Figure, describe_commit, describe_machine, write_results
from e2e.run import LOAD_BEFORE

OF_SIZE = re.compile(r"_(\d+)gib$")


@dataclass(slots=True)
class Size:
    """One size of the database: its figures, and the single turns of each kind, as far as they were measured."""

    gib: int
    figures: dict[str, Figure] = field(default_factory=dict)
    rows: dict[Kind, list[Sample]] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """When it was measured, at which commit, and how busy the machine was before."""
        rows = {str(kind): [describe_sample(each) for each in samples] for kind, samples in self.rows.items()}
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return {"commit": describe_commit(), "at": at, "loadBefore": os.environ.get(LOAD_BEFORE), "rows": rows}


def describe_sample(sample: Sample) -> dict[str, Any]:
    """One turn as JSON."""
    return {
        "calm": sample.calm.as_json(),
        "ours": sample.ours.as_json() if sample.ours is not None else None,
        "byHand": {**sample.hand.as_json(), "bareSeconds": round(sample.bare_seconds, 3)},
    }


def add_size(name: str, size: Size) -> dict[str, Figure]:
    """Write the results with this size in the place of an earlier one; returns all figures that are there then."""
    figures, sizes = read_others(size.gib, results.RESULTS / f"{name}.json")
    figures |= size.figures
    figures |= summarize(figures)
    sizes |= {str(size.gib): size.describe()}
    write_results(name, figures, sizes=sizes)
    return figures


def read_others(gib: int, path: Path) -> tuple[dict[str, Figure], dict[str, Any]]:
    """Figures and rows of the other sizes, if they were measured on this machine."""
    if not path.exists():
        return {}, {}
    content = json.loads(path.read_text())
    if content["machine"] != describe_machine():
        return {}, {}
    figures = {
        name: Figure(**figure)
        for name, figure in content["figures"].items()
        if (found := OF_SIZE.search(name)) and int(found[1]) != gib and "_to_" not in name
    }
    return figures, {key: size for key, size in content.get("sizes", {}).items() if key != str(gib)}
