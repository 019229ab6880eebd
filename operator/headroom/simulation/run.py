"""Plays one case: a shape with a seed, a start delay and a target, under one autoscaler; the result is figures."""

from dataclasses import dataclass
from itertools import pairwise

from headroom.policy.workerpool import limits_of
from headroom.simulation.keda import Keda
from headroom.simulation.load import draw_load
from headroom.simulation.optimum import find_optimum
from headroom.simulation.scalers import Headroom, Scaler, make_headroom, make_spec
from headroom.simulation.shapes import Shape
from headroom.simulation.world import World

KEDA_PARTS = {"KEDA K": 1.0, "KEDA K/3": 1 / 3}
"""Jobs per replica as a share of what one replica ends within the target lag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is played. A shape that has its own target keeps it.

    With `is_notified` the operator hears of each arrival, as where the library of the queue notifies.
    """

    shape: Shape
    seed: int
    start_delay_seconds: float = 5.0
    target_lag_seconds: float = 30.0
    is_notified: bool = False

    @property
    def target(self) -> float:
        """The target lag in seconds."""
        return self.shape.target_lag or self.target_lag_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What came out in the measured time; times are seconds.

    `worker_seconds` are those of all pods from creation to end, and of the work that is left at the end.
    `reversals_per_hour` are changes of direction of the count.
    """

    highest_lag: float
    late_seconds: float
    worker_seconds: float
    changes: int
    reversals_per_hour: float
    highest_workers: int
    cut: int


@dataclass(slots=True)
class Meter:
    """What the measured time of a run began with."""

    world: World
    backlog: int = 0

    def begin(self) -> None:
        """Forget what was before."""
        world = self.world
        world.deployment.begin_bill()
        world.tally.forget()
        self.backlog = len(world.line) + world.in_flight

    def read(self) -> Figures:
        """The figures since then."""
        world, shape = self.world, self.world.shape
        world.close()
        world.deployment.update_bill()
        bill, tally = world.deployment.bill, world.tally
        work = (len(world.line) + world.in_flight - self.backlog) * shape.slot_seconds
        hours = (shape.duration - shape.measured_from) / 3600
        return Figures(
            highest_lag=tally.highest_lag,
            late_seconds=tally.late_seconds,
            worker_seconds=bill.worker_seconds + work / shape.concurrency,
            changes=len(bill.changes),
            reversals_per_hour=count_reversals(bill.changes) / hours,
            highest_workers=bill.highest,
            cut=tally.cut,
        )


def count_reversals(changes: list[tuple[float, int, int]]) -> int:
    """Changes that go another way than the one before."""
    rises = [after > before for _, before, after in changes]
    return sum(first is not second for first, second in pairwise(rises))


def make_world(case: Case) -> World:
    """The world of a case, before its first event."""
    shape = case.shape
    return World(
        shape,
        draw_load(shape, case.seed),
        workers=shape.start_workers,
        start_delay_seconds=case.start_delay_seconds,
        target_lag_seconds=case.target,
    )


def play(case: Case, scaler: Scaler, world: World | None = None) -> Figures:
    """Play a case to its end; `world` is that of the case, if somebody wants to look at it afterwards."""
    world = make_world(case) if world is None else world
    meter = Meter(world)
    scaler.start(world)
    world.call_at(case.shape.measured_from, meter.begin)
    world.advance(case.shape.duration)
    return meter.read()


def play_headroom(case: Case) -> tuple[Figures, Headroom, World]:
    """Play a case under the operator's policy; the steps of all its passes are in the second."""
    scaler, world = headroom_for(case), make_world(case)
    return play(case, scaler, world), scaler, world


def headroom_for(case: Case) -> Headroom:
    """The operator's policy for a case."""
    scaler = make_headroom(case.shape, start_delay_seconds=case.start_delay_seconds, target_lag_seconds=case.target)
    scaler.is_notified = case.is_notified
    return scaler


def keda_for(case: Case, share: float = 1.0) -> Keda:
    """KEDA for a case: told the true rate, as nobody is."""
    shape = case.shape
    per_replica = shape.concurrency * case.target / shape.slot_seconds
    # Less than one job for each replica would be another configuration: nobody runs a worker without a job.
    return Keda(max(per_replica * share, float(shape.concurrency)), shape.min_workers, shape.max_workers)


def optimum_seconds(case: Case) -> float:
    """Worker-seconds of the reference that knows the future."""
    limits = limits_of(make_spec(case.shape, case.target))
    load = draw_load(case.shape, case.seed)
    return find_optimum(case.shape, load, limits, start_delay_seconds=case.start_delay_seconds).worker_seconds
