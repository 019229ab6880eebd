"""What a window of time cost the primary and the standby that was copied: processor, memory, disk, WAL, commits."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from e2e.bench.replicas.meter import Meter, Usage
from e2e.bench.replicas.writer import Writes
from e2e.lab import shop as objects

PRIMARY_POD = f"{objects.PRIMARY}-0"


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when, in epoch seconds; `source` is the pod that was copied, empty if none was or the primary."""

    start: float
    end: float
    source: str = ""

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one window. What could not be measured is None.

    `kept_wal` is the most that slots of members kept, and that anchors of snapshots did. `commits`: milliseconds each.
    """

    seconds: float
    primary: Usage | None = None
    source: Usage | None = None
    kept_wal: tuple[int, int] | None = None
    commits: Sequence[float] = field(default_factory=tuple)

    def as_json(self) -> dict[str, Any]:
        """All of it but the single commits."""
        return {
            "seconds": round(self.seconds, 3),
            "primary": asdict(self.primary) if self.primary else None,
            "source": asdict(self.source) if self.source else None,
            "keptWal": self.kept_wal,
            "commits": len(self.commits),
        }


def count_cost(window: Window, meter: Meter, writes: Writes) -> Cost:
    """Everything that is known of a window."""
    start, end = window.start, window.end
    return Cost(
        seconds=window.seconds,
        primary=meter.usage(PRIMARY_POD, start, end),
        source=meter.usage(window.source, start, end) if window.source else None,
        kept_wal=writes.kept_bytes(start, end),
        commits=tuple(writes.milliseconds(start, end)),
    )


def list_uids(pods: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Uids of pods by name."""
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}
