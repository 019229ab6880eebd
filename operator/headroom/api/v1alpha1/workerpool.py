"""WorkerPool: the workers that drain one or more queues."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from headroom.api.base import MapBy, SpecModel, rule
from headroom.api.v1alpha1.common import LocalRef, Mode, RoleName
from headroom.api.v1alpha1.queue import Claims, Queue
from headroom.api.v1alpha1.schedules import Schedule
from headroom.api.v1alpha1.workers import Workers
from headroom.api.values import DurationRange

MAX_WORKERS = 10_000
WorkerCount = Annotated[int, Field(ge=0, le=MAX_WORKERS)]


class Priority(StrEnum):
    """Which pools give way when the database is overloaded."""

    CRITICAL = "Critical"
    STANDARD = "Standard"
    BACKGROUND = "Background"


class PauseMethod(StrEnum):
    """How workers are kept from taking new items."""

    WORKERS = "Workers"
    QUEUE = "Queue"


class Direction(StrEnum):
    """A direction in which a pool can change."""

    UP = "Up"
    DOWN = "Down"


class Objective(SpecModel):
    """What the size of the pool must achieve."""

    target_lag: Annotated[timedelta, DurationRange("1s", "24h")] = timedelta(seconds=30)
    """Lag that is acceptable: items that wait no longer than this need no more workers."""
    drain_within: Annotated[timedelta, DurationRange("5s", "168h")] = timedelta(minutes=5)
    """Time in which the backlog must be drained once the lag is above the target."""
    expected_job_duration: Annotated[timedelta, DurationRange("1ms", "24h")] | None = None
    """How long one item takes, used until it is measured. Absent: the pool first doubles in careful steps."""


class ScaleUp(SpecModel):
    """How fast a pool may grow: how much per lead time of a worker, or per 15 s if a start takes longer."""

    max_step: Annotated[int, Field(ge=1, le=MAX_WORKERS)] | None = None
    """Workers added at most in one step. Absent: only the percentage limits the step."""
    max_step_percent: Annotated[int, Field(ge=1, le=1000)] = 100
    """Growth at most in one step, in percent of the current workers; four workers are always possible."""


class ScaleDown(SpecModel):
    """How slowly a pool shrinks."""

    stabilization_window: Annotated[timedelta, DurationRange("0s", "1h")] = timedelta(seconds=300)
    """The pool shrinks to the largest count that was wanted within this window."""
    max_step_percent: Annotated[int, Field(ge=1, le=100)] = 20
    """Shrinkage at most in one step, in percent of the current workers (at least one worker)."""


class Behavior(SpecModel):
    """Limits on how fast the number of workers changes."""

    scale_up: ScaleUp = ScaleUp()
    """Limits on growth."""
    scale_down: ScaleDown = ScaleDown()
    """Limits on shrinkage."""


class Effectiveness(SpecModel):
    """Whether growth stops when more workers do not raise the throughput."""

    enabled: bool = True
    """Whether each step is measured before the next one."""
    min_gain_percent: Annotated[int, Field(ge=1, le=90)] = 10
    """The throughput that another worker must add, in percent of what each current worker achieves."""
    retry_after: Annotated[timedelta, DurationRange("1m", "24h")] = timedelta(minutes=15)
    """The longest wait between two attempts to grow beyond a freeze. The first wait is one minute, then it doubles."""


class Shedding(SpecModel):
    """How the pool is held back while the database is overloaded."""

    pause: PauseMethod = PauseMethod.WORKERS
    """`Workers` removes idle workers; `Queue` first pauses the queue itself, where the preset can (river,
    solid_queue, good_job)."""
    max_deferral: Annotated[timedelta, DurationRange("1m", "168h")] = timedelta(minutes=30)
    """After this time one worker is allowed again, except in an emergency."""


class WorkerSchedule(Schedule):
    """A recurring span of time with a larger minimum of workers."""

    min_workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)]
    """Workers kept at least during the span."""


class WorkerPoolSpec(SpecModel):
    """Which queue a pool of workers drains, how far behind it may be, and what it may cost the database."""

    mode: Mode = Mode.ACTIVE
    """`Active` scales; `DryRun` decides and reports what it would do; `Paused` stops scaling. The mode of the
    DatabaseGuard alone decides how the database is protected."""
    paused: Direction | None = None
    """Stops one direction, whatever asks for it: `Down` never takes a worker away, `Up` never adds one. Absent: both
    are open; `mode: Paused` stops both."""
    workers: Workers
    """What runs the workers: exactly one of `targetRef` and `suspendRef`."""
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Items one worker handles at a time."""
    min_workers: WorkerCount = 1
    """Workers kept at least. 0 lets the pool go to zero when the queue is empty."""
    max_workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)]
    """Workers at most. With `suspendRef`: the most pods of one run, for the connection budget."""
    queue: Queue | None = None
    """The queue or queues that the workers drain. Required with `targetRef`."""
    objective: Objective = Objective()
    """The lag to hold and the time in which to drain a backlog."""
    behavior: Behavior = Behavior()
    """Limits on how fast the number of workers changes."""
    effectiveness: Effectiveness = Effectiveness()
    """Stops growth that does not raise the throughput, and reports what the workers wait for."""
    database_ref: LocalRef | None = None
    """The DatabaseGuard of the workers' database: its state and connection budget limit the pool."""
    database_role: RoleName | None = None
    """The PostgreSQL role of the workers: it identifies their connections and what they wait for."""
    connections_per_worker: Annotated[int, Field(ge=1, le=1000)] = 1
    """Connections to the database that one worker may hold; the larger of this and the measured number applies."""
    priority: Priority
    """Which pools get connections of the database first: `Critical`, then `Standard`, then `Background`. Not acted on
    yet: while the database is overloaded, `Background` is to pause and `Standard` to stop growing."""
    shedding: Shedding = Shedding()
    """How the pool is held back while the database is overloaded."""
    schedules: Annotated[tuple[WorkerSchedule, ...], Field(max_length=16), MapBy("name")] = ()
    """Spans of time with a larger minimum of workers."""

    @rule(
        "self.minWorkers <= self.maxWorkers",
        "minWorkers is above maxWorkers: lower it or raise maxWorkers",
        field=".minWorkers",
        ratcheting=True,
    )
    def _minimum_fits(self) -> bool:
        return self.min_workers <= self.max_workers

    @rule(
        "!has(self.schedules) || self.schedules.all(s, s.minWorkers <= self.maxWorkers)",
        "a schedule's minWorkers is above maxWorkers: lower it or raise maxWorkers",
        field=".schedules",
        ratcheting=True,
    )
    def _schedules_fit(self) -> bool:
        return all(schedule.min_workers <= self.max_workers for schedule in self.schedules)

    @rule(
        "has(self.queue) || has(self.workers.suspendRef)",
        "say which queue the workers drain: set queue.type and the member of that name",
        field=".queue",
        ratcheting=True,
    )
    def _has_queue(self) -> bool:
        return self.queue is not None or self.workers.suspend_ref is not None

    @rule(
        "!has(self.queue) || self.queue.type != 'Postgres' || !has(self.queue.postgres)"
        " || has(self.queue.postgres.connection) || has(self.databaseRef)",
        "say where the queue is: set databaseRef, or queue.postgres.connection",
        field=".databaseRef",
        ratcheting=True,
    )
    def _knows_where_the_queue_is(self) -> bool:
        postgres = self.queue.postgres if self.queue else None
        return postgres is None or postgres.connection is not None or self.database_ref is not None

    @rule(
        "!has(self.queue) || !has(self.queue.claims) || self.queue.claims != 'Unfenced'"
        " || (self.maxWorkers == 1 && self.concurrency == 1)",
        "with Unfenced claims two workers can take the same item: set maxWorkers: 1 and concurrency: 1",
        field=".maxWorkers",
        ratcheting=True,
    )
    def _unfenced_claims_have_one_worker(self) -> bool:
        is_unfenced = self.queue is not None and self.queue.claims is Claims.UNFENCED
        return not is_unfenced or (self.max_workers == 1 and self.concurrency == 1)

    @rule(
        "self.shedding.pause != 'Queue' || (has(self.queue) && has(self.queue.postgres)"
        " && has(self.queue.postgres.preset)"
        " && self.queue.postgres.preset in ['river', 'solid_queue', 'good_job'])",
        "only the presets river, solid_queue and good_job can pause a queue: set shedding.pause: Workers",
        field=".shedding",
        ratcheting=True,
    )
    def _queue_can_be_paused(self) -> bool:
        postgres = self.queue.postgres if self.queue else None
        preset = postgres.preset if postgres else None
        return self.shedding.pause is PauseMethod.WORKERS or (preset is not None and preset.may_pause)
