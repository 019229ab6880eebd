"""What a load is: what arrives when, how long a job takes, what goes wrong, and how the pool is set up for it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a load is; its goals depend on it."""

    SMOOTH = "smooth"
    """The load moves slowly, or in a step that lasts."""
    WAVE = "wave"
    """The load rises and falls faster than a pool may shrink."""
    BURST = "burst"
    """Many jobs come at once, or within a minute."""
    LONG = "long"
    """Jobs are rare and take longer than all else."""
    FAULT = "fault"
    """Something is broken."""
    START = "start"
    """Nothing is known yet."""


class Counting(StrEnum):
    """What the source of the samples can count."""

    EVENTS = "events"
    """Arrivals, ended attempts and failures, as a preset with events does."""
    DELETED = "deleted"
    """Jobs are deleted when they are done: there is what is in flight, and no ended attempts."""
    TWO_NUMBERS = "two-numbers"
    """SQL of one's own for lag and backlog only."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs that become ready at one moment. From `known_at` on the queue has them as scheduled ones."""

    at: float
    jobs: int
    known_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One load with the pool that meets it. Times are seconds; what is measured begins at `measured_from`.

    `rate` is arrivals per second at a moment. `is_known` says that the pool knows from before how long a job takes and
    a worker starts; `remembered_seconds` is what it believes where that is wrong. `concurrency` is what a worker can
    do, `declared_concurrency` what the spec says where that is wrong. `locked_seconds` is the part of each job that
    only one job at a time can do. `slow` lists when the database runs at a fraction of its speed, and beyond `cores`
    running jobs all of them share it. `keys` is the number of keys of which only one job at a time may run. At
    `stuck_at` a job arrives that no worker can take. `failing` are two moments and the share of attempts that fails
    between them. `most_workers` is the count that must not be passed, where more help nobody. `options` are further
    fields of the spec.
    """

    name: str
    title: str
    kind: Kind
    duration: float
    rate: Callable[[float], float] = lambda _at: 0.0
    highest_rate: float = 0.0
    batches: tuple[Batch, ...] = ()
    job_seconds: float = 1.0
    is_constant: bool = False
    expected_job_seconds: float | None = None
    concurrency: int = 1
    declared_concurrency: int | None = None
    min_workers: int = 1
    max_workers: int = 100
    start_workers: int = 1
    target_lag: float | None = None
    drain_within: float = 300.0
    is_known: bool = True
    remembered_seconds: float | None = None
    measured_from: float = 600.0
    locked_seconds: float = 0.0
    slow: tuple[tuple[float, float, float], ...] = ()
    cores: int | None = None
    keys: int | None = None
    stuck_at: float | None = None
    failing: tuple[float, float, float] | None = None
    retry_seconds: float = 60.0
    grace_seconds: float = 30.0
    counting: Counting = Counting.EVENTS
    connections: int | None = None
    most_workers: int | None = None
    options: dict[str, object] = field(default_factory=dict)

    @property
    def slot_seconds(self) -> float:
        """How long a job takes a slot of an idle database on average."""
        return self.job_seconds + self.locked_seconds

    def failing_share(self, at: float) -> float:
        """The share of attempts that fail at a moment."""
        if self.failing is None or not self.failing[0] <= at < self.failing[1]:
            return 0.0
        return self.failing[2]

    def speed(self, at: float) -> float:
        """The speed of the database at a moment, before its own load slows it down."""
        return next((factor for since, until, factor in self.slow if since <= at < until), 1.0)
