"""Answers of the probe that come back out of order: a pass with an old one acts on what the newest one says."""

from dataclasses import dataclass, field, replace

import pytest

from headroom.adapters.inmemory.queues import MemoryProbe, MemoryQueueProbes
from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.model.queue import QueueQuestion, QueueSample
from headroom.ports.signals import QueueProbe, SqlRunner
from headroom.reasons import Reason
from tests.memory_world import LATE
from tests.unit.reconcilers.workerpool.test_bad_input import BoundedWorld


@dataclass
class LateAnswers(MemoryQueueProbes):
    """Every second answer is one to a question so many before."""

    behind: int = 0
    answers: list[QueueSample] = field(default_factory=list)

    def open(self, queue: PostgresQueue, runner: SqlRunner) -> QueueProbe:
        """See `QueueProbes.open`."""
        return LateProbe(self)


class LateProbe(MemoryProbe):
    """Implements `QueueProbe`."""

    probes: LateAnswers

    async def sample(self, question: QueueQuestion) -> QueueSample:
        """See `QueueProbe.sample`."""
        answers, behind = self.probes.answers, self.probes.behind
        answers.append(replace(self.probes.numbers, taken_at=question.asked_at))
        is_late = behind > 0 and len(answers) % 2 == 0 and len(answers) > behind
        return answers[-1 - behind] if is_late else answers[-1]


def make_world() -> tuple[BoundedWorld, LateAnswers]:
    world = BoundedWorld()
    probes = world.probes = LateAnswers(world.probes.numbers)
    world.restart()
    world.queue(job_seconds=1.0)
    return world, probes


def seen(world: BoundedWorld) -> list[tuple[str, str]]:
    return [world.condition(kind) for kind in ("Ready", "KeepingUp", "SignalAvailable", "ScalingLimited")]


@pytest.mark.parametrize("behind", [1, 3, 12])
async def test_a_queue_that_is_calm_again_is_not_late_by_an_old_answer(behind: int) -> None:
    world, probes = make_world()
    await world.advance(20, rate=1)
    world.queue(**LATE)
    await world.advance(10)
    world.queue(lag_seconds=0.0, backlog=0, late=0, ended=(probes.numbers.arrived or 0))
    await world.advance(30)
    probes.behind = behind
    before, told = world.asked_for(), len(world.telemetry.events)
    calm = [("True", Reason.AS_EXPECTED), ("True", Reason.LAG_WITHIN_TARGET), ("True", Reason.AS_EXPECTED)]
    for _ in range(20):
        await world.advance(5)
        assert seen(world)[:3] == calm
        assert world.status()["queue"]["backlog"] == 0
        assert world.asked_for() == before
    assert len(world.telemetry.events) == told


@pytest.mark.parametrize("behind", [1, 3])
async def test_old_answers_in_a_rush_make_no_double_step_and_the_same_counts(behind: int) -> None:
    worlds = []
    for late_by in (0, behind):
        world, probes = make_world()
        await world.advance(20, rate=1)
        probes.behind = late_by
        world.queue(**LATE)
        await world.advance(60)
        world.check_steps()
        worlds.append(world)
    calm, world = worlds
    assert world.counts == calm.counts
    assert seen(world) == seen(calm)
    assert world.condition("KeepingUp") == ("False", Reason.CANNOT_MEET_DEADLINE)
    assert world.message("KeepingUp").startswith("100 s behind, 30 s are the target; 6,000 items wait; ")
