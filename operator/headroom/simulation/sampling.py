"""What a probe tells the operator of a simulated queue: the same numbers as a preset, or fewer."""

from collections.abc import Sequence
from dataclasses import dataclass

from headroom.model.queue import QueueSample, WaitingItem
from headroom.model.waits import CPU, Blocker, WaitSample
from headroom.simulation.deployment import Worker
from headroom.simulation.load import Job
from headroom.simulation.shapes import Counting
from headroom.simulation.world import World

LEADING = 11
ELDEST = 50
"""Items that a preset lists by id: those that are taken next, and those that have waited longest."""
PERCENTILE = 0.99
LOCK_WAIT = "Lock:transactionid"
LOCKED_STATEMENT = "UPDATE stock SET reserved = reserved + ? WHERE id = ?"


@dataclass(slots=True)
class Sampler:
    """Makes samples; `counting` is what the source can count. The counts begin with the first sample."""

    counting: Counting
    target_lag_seconds: float
    _began: tuple[int, int, int] | None = None

    def sample(self, world: World, lead_time_seconds: float) -> QueueSample:
        """The sample of this moment."""
        if self.counting is Counting.TWO_NUMBERS:
            return QueueSample(taken_at=world.now, lag_seconds=world.lag, backlog=len(world.line))
        tally, has_events = world.tally, self.counting is Counting.EVENTS
        if self._began is None:
            self._began = (tally.arrived, tally.ended, tally.failed)
        arrived, ended, failed = self._began
        oldest, in_hand = world.line.list_oldest(ELDEST), world.list_in_hand()
        return QueueSample(
            taken_at=world.now,
            lag_seconds=world.lag,
            backlog=len(world.line),
            late=world.count_late(self.target_lag_seconds),
            in_flight=world.in_flight,
            arrived=tally.arrived - arrived if has_events else None,
            ended=tally.ended - ended if has_events else None,
            failed=tally.failed - failed if has_events else None,
            due_soon=world.count_due(lead_time_seconds),
            blocked=world.blocked,
            hides_completions=not has_events,
            leading=tuple(job.id for job, _ in oldest[:LEADING]),
            eldest=tuple(WaitingItem(job.id, world.now - since) for job, since in oldest),
            busy_hosts=frozenset(str(worker.number) for _, worker in in_hand),
            job_seconds=_measure_jobs(world, in_hand) if has_events else None,
        )


def observe_waits(world: World) -> WaitSample | None:
    """What the sessions of the workers wait for, where the database holds them up."""
    if world.shape.locked_seconds == 0 and world.shape.cores is None:
        return None
    waiters = world.lock_waiters
    events = ((CPU, world.in_flight - waiters), (LOCK_WAIT, waiters))
    blocker = Blocker(LOCKED_STATEMENT, waiters) if waiters else None
    return WaitSample(tuple(event for event in events if event[1] > 0), blocker)


def _measure_jobs(world: World, in_hand: Sequence[tuple[Job, Worker]]) -> float | None:
    """99 of 100 jobs that ended lately were shorter, and those in flight are not older."""
    if not world.recent_seconds:
        return None
    ended = sorted(world.recent_seconds)
    oldest = world.now - min((job.claimed_at for job, _ in in_hand), default=world.now)
    return max(ended[int(PERCENTILE * (len(ended) - 1))], oldest)
