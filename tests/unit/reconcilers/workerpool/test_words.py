"""The numbers and words of a pool's status: what moves them, and what leaves them as they are."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from headroom.model.numbers import describe_seconds
from headroom.policy.workerpool import Move
from headroom.reasons import Reason
from headroom.reconcilers.workerpool.conditions import NEW_WORKERS_SECONDS, describe_disproof
from tests.unit.reconcilers.workerpool.world import POOL, PoolWorld


async def test_the_last_decision_stays_while_only_its_numbers_move() -> None:
    world = PoolWorld(replicas=6, spec={"behavior": {"scaleDown": {"stabilizationWindow": "1h"}}})
    await world.advance(60, rate=5)
    first = world.status()["lastDecision"]
    for rate in (5.2, 4.8, 5.1):
        await world.advance(20, rate=rate)
        assert world.status()["lastDecision"] == first
    await world.advance(80, rate=0)
    spare = world.status()["lastDecision"]
    assert (spare["allowed"], spare["reason"]) == (first["allowed"], Reason.STABILIZING)
    assert "limit" not in spare
    assert world.condition("ScalingLimited") == ("False", Reason.AS_EXPECTED)
    assert (
        world.message("ScalingLimited")
        == "no limit keeps workers back; workers stay for a while before they go (Stabilizing)"
    )
    assert spare["wanted"] < first["wanted"]


async def test_what_arrives_now_is_said_beside_a_decision_of_a_busier_time() -> None:
    world = PoolWorld(replicas=6, spec={"behavior": {"scaleDown": {"stabilizationWindow": "1h"}}})
    await world.advance(90, rate=5)
    assert world.message("KeepingUp").endswith("; 5 jobs/s arrive now")
    await world.advance(100, rate=0)
    busy = world.status()["lastDecision"]["message"]
    assert re.search(r": [3-5]\S* jobs/s arrive; ", busy), "what made it news"
    assert world.message("KeepingUp").endswith("; 0 jobs/s arrive now")
    assert world.status()["queue"]["arrivalsPerSecond"] == 0
    writes = len(world.kube.writes)
    await world.advance(60, rate=0)
    assert len(world.kube.writes) == writes


async def test_numbers_in_status_go_back_to_nothing() -> None:
    world = PoolWorld()
    world.queue(backlog=7, in_flight=2, lag_seconds=2.9)
    await world.advance(20)
    world.queue(backlog=0, in_flight=0, lag_seconds=0.0)
    await world.advance(30)
    queue = world.status()["queue"]
    assert (queue["backlog"], queue["lagSeconds"]) == (0, 0.0)


async def test_an_empty_queue_shows_nothing_whatever_was_shown_before() -> None:
    world = PoolWorld()
    for lag, backlog, shown in ((1.0, 1, (0.0, 1)), (0.0, 0, (0.0, 0)), (2.6, 3, (0.0, 0)), (4.0, 12, (4.0, 12))):
        world.queue(lag_seconds=lag, backlog=backlog)
        await world.advance(20)
        queue = world.status()["queue"]
        assert (queue["lagSeconds"], queue["backlog"]) == shown
    world.cluster.edit(POOL, lambda pool: pool["status"]["queue"].update(lagSeconds=1.0, backlog=2))
    world.queue(lag_seconds=0.02, backlog=0)
    await world.advance(20)
    queue = world.status()["queue"]
    assert (queue["lagSeconds"], queue["backlog"]) == (0.0, 0)


async def test_one_of_a_thing_is_said_as_one() -> None:
    world = PoolWorld(spec={"maxWorkers": 1}, replicas=1)
    await world.advance(10)
    world.queue(lag_seconds=1000.0, backlog=1, late=1)
    await world.make_pass()
    assert "; 1 item waits" in world.message("KeepingUp")
    world.queue(backlog=6000, late=6000)
    await world.advance(20)
    assert "; 6,000 items wait; with 1 worker it will be gone" in world.message("KeepingUp")
    world.queue(lag_seconds=0.0, backlog=0, late=0, phantoms=1)
    await world.advance(20)
    assert world.message("SignalAvailable").startswith("1 item marked as running")


async def test_slots_that_do_not_exist_are_named_with_the_number_to_write() -> None:
    """Two workers with ten slots each have one job each beside a backlog."""
    world = PoolWorld({"concurrency": 10})
    await world.advance(10)
    for turn in range(8):
        world.queue(lag_seconds=9.0, backlog=40, in_flight=2, arrived=100 * turn, ended=10 * turn)
        await world.advance(5)
    assert world.condition("SignalAvailable") == ("True", "ConcurrencyMismatch")
    assert "1 item in flight while others wait" in world.message("SignalAvailable")
    assert "spec.concurrency is 10: set it to 1," in world.message("SignalAvailable")
    assert world.status()["scaling"]["measuredConcurrency"] == 1
    assert world.status()["reason"] == "SignalAvailable:ConcurrencyMismatch"
    told = [event for event in world.telemetry.events if event.reason is Reason.CONCURRENCY_MISMATCH]
    assert [event.type_ for event in told] == ["Warning"]


async def test_reason_names_what_else_is_wrong_and_is_as_expected_once_nothing_is() -> None:
    world = PoolWorld(spec={"maxWorkers": 1}, replicas=1)
    await world.advance(10)
    assert world.status()["reason"] == Reason.AS_EXPECTED
    world.queue(lag_seconds=1000.0, backlog=6000, late=6000)
    await world.advance(20)
    assert world.status()["reason"] == f"KeepingUp:{world.condition('KeepingUp')[1]}"
    world.cluster.edit(POOL, lambda pool: pool["spec"].update(mode="Paused"))
    await world.advance(5)
    assert world.status()["reason"] == Reason.PAUSED


async def test_a_late_pool_names_its_limit_in_the_event_too() -> None:
    world = PoolWorld(spec={"maxWorkers": 1}, replicas=1)
    await world.advance(10)
    world.queue(lag_seconds=1000.0, backlog=6000, late=6000)
    await world.advance(20)
    told = [event.message for event in world.telemetry.events if event.message.startswith("KeepingUp: ")]
    assert told
    assert all("see ScalingLimited" not in message for message in told)
    assert world.message("KeepingUp").startswith("17 min behind, 30 s are the target; 6,000 items wait; ")
    assert world.message("KeepingUp").endswith("; 1 allowed: maxWorkers is 1")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (599.4, "599 s"), (600, "10 min"), (3792, "63 min"), (10_799, "180 min"), (95_400, "26.5 h")],
)
def test_a_long_time_is_said_in_minutes_or_hours(seconds: float, said: str) -> None:
    assert describe_seconds(seconds) == said


@pytest.mark.parametrize(
    ("ago", "in_flight", "said"),
    [
        (12.0, 0, "; 0 jobs in flight of 5 that the ready workers can have, and workers were added 12 s ago"),
        (12.0, 5, "; 5 jobs in flight of 5 that the ready workers can have"),
        (NEW_WORKERS_SECONDS + 1, 0, "; 0 jobs in flight of 5 that the ready workers can have"),
    ],
    ids=["new and idle", "new and busy", "no longer new"],
)
def test_workers_that_were_just_added_are_said_beside_slots_that_are_empty(
    ago: float, in_flight: int, said: str
) -> None:
    context: Any = SimpleNamespace(
        now=SimpleNamespace(monotonic=500.0),
        decision=SimpleNamespace(limits=SimpleNamespace(drain_within_seconds=300.0, concurrency=1)),
        memory=SimpleNamespace(lateness=None, not_falling_seconds=194.0, moves=(Move(500.0 - ago, 1, 5),)),
        facts=SimpleNamespace(
            sample=SimpleNamespace(in_flight=in_flight), workload=SimpleNamespace(pods=SimpleNamespace(ready=5))
        ),
    )
    assert describe_disproof(context, Reason.LAG_NOT_FALLING) == f"the lag has not fallen for 194 s{said}"
