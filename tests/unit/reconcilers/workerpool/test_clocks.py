"""Clocks that are an hour apart: the operator's, and those of the database and the API server."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from headroom.adapters.inmemory.queues import MemoryQueueProbes
from headroom.adapters.postgres.queues.custom import CustomProbe
from headroom.api.v1alpha1.queue import CustomQueries, PostgresQueue
from headroom.ports.clock import Clock
from headroom.ports.signals import QueueProbe, SqlRunner
from headroom.reasons import Reason
from tests.unit.reconcilers.workerpool.test_bad_input import BoundedWorld

NAMES = ("lag", "backlog", "lateBacklog", "inFlight", "arrivals", "completions", "failures")
QUERIES = CustomQueries.model_validate({f"{name}Query": f"SELECT {name}" for name in NAMES})
CALM_SECONDS, RUSH_SECONDS, RUSH = 60, 150, 400


@dataclass
class ClockApart:
    """Tells another wall time than the operator's clock; a second lasts as long."""

    clock: Clock
    apart: timedelta

    def now(self) -> datetime:
        return self.clock.now() + self.apart

    def monotonic(self) -> float:
        return self.clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)


@dataclass
class Table:
    """A queue's table. `clock` is the database's; items get their time from a writer who is `writer_apart` from it."""

    clock: Clock
    writer_apart: timedelta = timedelta()
    waiting: deque[datetime] = field(default_factory=deque)
    arrived: int = 0
    ended: int = 0
    running: int = 0

    async def query(self, sql: str, parameters: Any = None, **_: Any) -> list[dict[str, Any]]:
        """One number, as the database computes it."""
        now, late = self.clock.now(), (parameters or {}).get("target_lag", 0.0)
        values = {
            "lag": self.lag(),
            "backlog": len(self.waiting),
            "lateBacklog": sum((now - at).total_seconds() > late for at in self.waiting),
            "inFlight": self.running,
            "arrivals": self.arrived,
            "completions": self.ended,
            "failures": 0,
        }
        return [{"value": values[sql.removeprefix("SELECT ")]}]

    def lag(self) -> float:
        return (self.clock.now() - self.waiting[0]).total_seconds() if self.waiting else 0.0

    def insert(self, count: int) -> None:
        self.waiting.extend([self.clock.now() + self.writer_apart] * count)
        self.arrived += count

    def end(self, most: int) -> None:
        done = min(most, len(self.waiting))
        for _ in range(done):
            self.waiting.popleft()
        self.ended, self.running = self.ended + done, done


@dataclass
class TableProbes(MemoryQueueProbes):
    """Opens the probe of a spec's own SQL over a table."""

    table: Table = field(kw_only=True)

    def open(self, queue: PostgresQueue, runner: SqlRunner) -> QueueProbe:
        """See `QueueProbes.open`."""
        return CustomProbe(QUERIES, self.table)


class ApartWorld(BoundedWorld):
    """Database, API server and kubelets are so many hours ahead of the operator."""

    def __init__(self, hours: int, *, writer_hours: int = 0) -> None:
        self.apart, self.writer_apart = timedelta(hours=hours), timedelta(hours=writer_hours)
        self.seen: list[tuple[str, str]] = []
        super().__init__(start_seconds=20.0)

    def _begin(self, install_id: str) -> None:
        if not isinstance(self.deployments.clock, ClockApart):
            self.theirs = ClockApart(self.clock, self.apart)
            self.kube.store.clock = self.deployments.clock = self.theirs
            self.table = Table(self.theirs, self.writer_apart)
            self.probes = TableProbes(table=self.table)
        super()._begin(install_id)

    async def run_for(self, seconds: int, rate: int) -> None:
        for _ in range(seconds):
            self.table.insert(rate)
            self.table.end(self.running())
            await self.advance(1)
            self.seen += [found for found in (self.condition("KeepingUp"),) if found not in self.seen[-1:]]

    async def play_a_rush(self) -> None:
        await self.run_for(CALM_SECONDS, 1)
        self.table.insert(RUSH)
        await self.run_for(RUSH_SECONDS // 2, 2)
        self.restart()
        await self.run_for(RUSH_SECONDS // 2, 2)


@pytest.mark.long
async def test_clocks_an_hour_apart_change_no_count_and_no_lag() -> None:
    """Ages are the database's own, spans are of the operator's monotonic clock, starts are between two of theirs."""
    same = ApartWorld(0)
    await same.play_a_rush()
    assert len(same.counts) > 2
    for hours in (1, -1):
        world = ApartWorld(hours)
        await world.play_a_rush()
        assert world.counts == same.counts
        assert world.seen == same.seen
        assert world.status()["queue"]["lagSeconds"] == pytest.approx(world.table.lag(), rel=0.1, abs=3)
        assert world.status()["queue"]["backlog"] == same.status()["queue"]["backlog"]
        for kind in ("Ready", "KeepingUp", "SignalAvailable", "ScalingLimited"):
            assert world.condition(kind) == same.condition(kind), kind
        world.check_steps()


@pytest.mark.parametrize("hours", [1, -1])
async def test_the_lag_of_a_late_queue_is_right_whatever_the_operators_clock_says(hours: int) -> None:
    world = ApartWorld(hours)
    await world.run_for(20, 1)
    world.table.insert(3 * RUSH)
    await world.run_for(45, 0)
    lag = world.table.lag()
    assert 30 < lag < 60
    assert world.condition("KeepingUp")[1] == Reason.LAG_ABOVE_TARGET
    assert world.status()["queue"]["lagSeconds"] == pytest.approx(lag, rel=0.1, abs=6)
    world.check_steps()


@pytest.mark.long
async def test_a_writer_whose_clock_is_an_hour_ahead_is_named_with_the_remedy() -> None:
    """Its items are of a later time than the database's: their age is 0, and the backlog still gets its workers."""
    world = ApartWorld(0, writer_hours=1)
    await world.run_for(20, 1)
    world.table.insert(RUSH)
    await world.run_for(20, 1)
    assert world.condition("SignalAvailable") == ("True", Reason.NEGATIVE_AGE)
    assert "let the database's clock write when an item is made (DEFAULT now())" in world.message("SignalAvailable")
    assert world.status()["reason"] == f"SignalAvailable:{Reason.NEGATIVE_AGE}"
    world.check_steps()
    world.table.waiting.clear()
    world.table.writer_apart = timedelta()
    await world.run_for(700, 1)
    assert world.condition("SignalAvailable") == ("True", Reason.AS_EXPECTED)
