"""The effectiveness gate in whole runs: loads in which each worker helps, and those in which it must take some back."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from headroom.policy.workerpool import PoolFacts, Rule
from headroom.policy.workerpool.gain_memory import Freeze, Phase
from headroom.policy.workerpool.memory import PoolMemory
from headroom.simulation.catalogue import between
from headroom.simulation.load import Job, draw_load
from headroom.simulation.run import Case, Figures, headroom_for, keda_for, play
from headroom.simulation.scalers import Headroom
from headroom.simulation.shapes import Counting, Shape
from headroom.simulation.world import World
from tests.unit.simulation.make import make_case, make_shape

Draw = Callable[[list[Job], random.Random], None]
WINDOW = 300.0


def keep(jobs: list[Job], chance: random.Random) -> None:
    """The jobs as they were drawn."""


def draw_long_tails(jobs: list[Job], chance: random.Random) -> None:
    """Log-normal, mean 1 s, squared coefficient of variation 4."""
    for job in jobs:
        job.work_seconds = chance.lognormvariate(-0.8047, 1.2686)


def draw_blocks(jobs: list[Job], chance: random.Random) -> None:
    """Tenants come in blocks of about 100 s: jobs of 0.3 s, then of 2.5 s."""
    until, mean = 0.0, 1.0
    for job in jobs:
        if job.ready_at > until:
            until, mean = job.ready_at + chance.uniform(40, 160), chance.choice([0.3, 0.3, 0.6, 2.5])
        job.work_seconds = chance.expovariate(1 / mean)


FADING = tuple((600.0 + 60 * minute, 660.0 + 60 * minute, 0.93**minute) for minute in range(20))
LOADS: dict[str, tuple[Shape, Draw]] = {
    "7 % slower each minute": (
        make_shape(10, slow=(*FADING, (1800.0, 9000.0, 0.93**20)), start_workers=13, duration=2700.0),
        keep,
    ),
    "long tails": (
        replace(make_shape(40, start_workers=11, duration=2400.0), rate=between(900, 1800, 40, 8)),
        draw_long_tails,
    ),
    "tenants in blocks": (
        replace(make_shape(30, start_workers=16, duration=2400.0), rate=between(900, 2100, 30, 12)),
        draw_blocks,
    ),
}


def make(case: Case, draw: Draw) -> World:
    load = draw_load(case.shape, case.seed)
    draw(load.jobs, random.Random(case.seed))
    return World(
        case.shape,
        load,
        workers=case.shape.start_workers,
        start_delay_seconds=case.start_delay_seconds,
        target_lag_seconds=case.target,
    )


def run(case: Case, draw: Draw = keep) -> tuple[Figures, list[Freeze], Headroom, World]:
    """A run, and each freeze or trial as it began or came to hold."""
    scaler, world = headroom_for(case), make(case, draw)
    found: list[Freeze] = []

    def watch(_: World, memory: PoolMemory) -> PoolMemory:
        freeze = memory.gain.freeze
        if freeze is not None and (
            not found or (freeze.phase, freeze.began_at) != (found[-1].phase, found[-1].began_at)
        ):
            found.append(freeze)
        return memory

    scaler.change_memory = watch
    return play(case, scaler, world), found, scaler, world


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", LOADS)
def test_workers_that_help_are_stopped_once_at_most_and_never_for_long(name: str, seed: int) -> None:
    """One look costs two changes of direction; the queue is no later than with KEDA tuned to the rate."""
    shape, draw = LOADS[name]
    case = make_case(shape, seed=seed)
    figures, found, _, _ = run(case, draw)
    assert len({freeze.began_at for freeze in found}) <= 1
    assert not [freeze for freeze in found if freeze.phase is Phase.HOLDING]
    tuned = play(case, keda_for(case), make(case, draw))
    assert figures.highest_lag <= max(1.1 * tuned.highest_lag, 1.5 * case.target)


def rush(until: float, duration: float, **parts: Any) -> Shape:
    """25/s arrive from 300 s on, before and afterwards 6."""
    shape = make_shape(25, start_workers=12, duration=duration, **parts)
    return replace(shape, rate=between(300, until, 25, 6))


LOCK: dict[str, Any] = {"locked_seconds": 0.05, "job_seconds": 0.95}


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("parts", [LOCK, {"cores": 12}], ids=["a lock", "the processors"])
def test_only_the_gate_takes_workers_back_within_a_window(parts: dict[str, Any]) -> None:
    _, found, scaler, world = run(make_case(rush(1200, 1400, **parts)))
    assert found, "the gate is met"
    changes = world.deployment.bill.changes
    rises = [at for at, before, after in changes if after > before]
    falls = [at for at, before, after in changes if after < before]
    early = [fall for fall in falls if any(0 < fall - rise < WINDOW - 1 for rise in rises)]
    gate = [
        step.at
        for step in scaler.steps
        if step.decision.sizing is not None and step.decision.sizing.decision.limit is Rule.NO_GAIN
    ]
    assert [fall for fall in early if not any(0 <= fall - at < 1 for at in gate)] == []
    assert max(after for _, _, after in changes) <= 40


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_known", [False, True], ids=["nothing known", "a known rate"])
def test_a_race_is_stopped_where_only_lag_and_backlog_are_told(is_known: bool) -> None:
    """Twice what the lock lets work, and a quarter: some arrivals more look like a small gain. 100 are allowed."""
    shape = rush(1200, 1400, **LOCK, counting=Counting.TWO_NUMBERS, is_known=is_known)
    figures, found, _, _ = run(make_case(shape))
    assert [freeze for freeze in found if not freeze.is_trial], "the gate is met"
    assert figures.highest_workers <= 50


@pytest.mark.timeout(300)
def test_a_lock_is_seen_although_a_queue_that_may_wait_grows_in_small_steps() -> None:
    """It is asked every 5 s, and grows by a worker or two every 40 s: no count is there for long."""
    case = make_case(rush(2400, 2400, **LOCK), seed=2, target_lag_seconds=3600.0)
    figures, found, _, _ = run(case)
    assert figures.highest_workers <= 40
    assert "Lock:transactionid" in {freeze.wait for freeze in found}


@pytest.mark.timeout(300)
def test_a_freeze_ends_once_the_rush_is_over() -> None:
    _, found, scaler, _ = run(make_case(rush(600, 1800, **LOCK)))
    assert found
    assert scaler.memory.gain.freeze is None


@pytest.mark.timeout(300)
def test_a_rollout_that_does_not_end_does_not_switch_the_gate_off() -> None:
    case = make_case(rush(900, 900, **LOCK))
    scaler, world = headroom_for(case), make(case, keep)

    def roll_out(world: World, facts: PoolFacts) -> PoolFacts:
        target = facts.workload
        if world.now < 320 or target is None:
            return facts
        return replace(facts, target=replace(target, template="2", is_updating=True))

    scaler.change_facts = roll_out
    assert play(case, scaler, world).highest_workers <= 40
