"""Results as files: one JSON a script, with the machine named; a figure that was not measured is absent."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path("build/results")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; `met` is None where no goal is set. Samples in the same unit."""

    value: float
    unit: str = "s"
    goal: float | None = None
    met: bool | None = None
    samples: Sequence[float] = field(default_factory=tuple)


def at_most(value: float, goal: float, unit: str = "s", samples: Sequence[float] = ()) -> Figure:
    """A figure that should not exceed its goal."""
    return Figure(round(value, 4), unit, goal, value <= goal, [round(sample, 4) for sample in samples])


def at_least(value: float, goal: float, unit: str = "s", samples: Sequence[float] = ()) -> Figure:
    """A figure that should reach its goal."""
    return Figure(round(value, 4), unit, goal, value >= goal, [round(sample, 4) for sample in samples])


def percentile(samples: Sequence[float], share: float) -> float:
    """Nearest-rank percentile; `share` in 0..1."""
    ranked = sorted(samples)
    return ranked[min(len(ranked) - 1, max(0, round(share * len(ranked) + 0.5) - 1))]


def write_results(name: str, figures: dict[str, Figure], **extra: Any) -> Path:
    """Write `build/results/NAME.json` and return its path."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {
        "name": name,
        "commit": describe_commit(),
        "machine": describe_machine(),
        "figures": {key: asdict(figure) for key, figure in figures.items()},
        **extra,
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def add_to_results(name: str, prefix: str, figures: dict[str, Figure]) -> Path | None:
    """Add figures of another script to `build/results/NAME.json`, as PREFIX_...; None where there is no such file."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    content["figures"] |= {f"{prefix}_{key}": asdict(figure) for key, figure in figures.items()}
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def describe_machine() -> dict[str, Any]:
    """Cores, memory, kernel and the kind of cluster."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": os.cpu_count(),
        "memoryGiB": round(memory, 1),
        "kernel": platform.release(),
        "cluster": os.environ.get("HEADROOM_CLUSTER", "bundled"),
    }


def describe_commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
