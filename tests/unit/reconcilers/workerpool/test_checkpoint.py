"""What of a pool's memory outlives the process: a round trip through status, and nothing that flips meanwhile."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from headroom.model.moments import Moment, format_moment
from headroom.policy.workerpool import ForeignWrites, Move, PoolMemory, decide
from headroom.policy.workerpool.constants import FOREIGN_HOLD_SECONDS
from headroom.policy.workerpool.memory import Lateness, Wants
from headroom.policy.workerpool.occupancy import Occupancy
from headroom.ports.kube import WORKER_POOL
from headroom.reasons import Reason
from headroom.reconcilers.workerpool.checkpoint import LATE_REASONS, checkpoint, restore
from tests.memory_world import LATE
from tests.unit.policy.workerpool.make import make_facts, make_sample, make_spec, scaling_of
from tests.unit.reconcilers.workerpool.world import PoolWorld

BEFORE = Moment(5_000.0, datetime(2026, 1, 1, 12, tzinfo=UTC))
AFTER = Moment(17.0, BEFORE.wall + timedelta(seconds=60))
"""A minute later in another process, whose clock began anew."""

LOST = {
    "window",
    "history",
    "learned_at",
    "lead_seconds",
    "allocation",
    "wanted",
    "blind_since",
    "capped_since",
    "running",
    "terminating",
    "heads",
    "last_end",
}
"""Lost on purpose, as `restore` says; `seen_at` and `was_reported` are of the new process itself."""

MEMORY = PoolMemory(
    moves=(Move(4_900.0, 1, 3), Move(4_940.0, 3, 8)),
    foreign=ForeignWrites(written=8, written_at=4_940.0, hold_until=5_300.0),
    last_good_rate=2.5,
    target_uid="uid-target",
    has_answered=True,
    is_late=True,
    lateness=Lateness(4_700.0, 90.0, 4_990.0),
    spare_since=4_500.0,
    occupancy=Occupancy(taken=2, workers=6),
)


def condition(kind: str, status: str, reason: Reason) -> dict[str, str]:
    return {"type": kind, "status": status, "reason": str(reason)}


def status_of(memory: PoolMemory, now: Moment = BEFORE) -> dict[str, Any]:
    """A whole status, as it is written of a pool with this memory."""
    scaling = {name: value for name, value in checkpoint(memory, now).items() if value is not None}
    late = Reason.LAG_ABOVE_TARGET if memory.is_late else Reason.LAG_WITHIN_TARGET
    return {
        "scaling": scaling,
        "desiredWorkers": memory.foreign.written,
        "lastDecision": {"at": format_moment(now.to_wall(memory.foreign.written_at))},
        "target": {"uid": memory.target_uid},
        "conditions": [
            condition("Ready", "True" if memory.has_answered else "False", Reason.AS_EXPECTED),
            condition("KeepingUp", "False", late),
        ],
    }


def test_what_was_kept_comes_back_at_the_same_moments() -> None:
    found = restore(status_of(MEMORY), AFTER)
    shift = AFTER.to_monotonic(format_moment(BEFORE.wall)) - BEFORE.monotonic
    assert found == PoolMemory(
        moves=(Move(4_940.0 + shift, 7, 8),),
        foreign=ForeignWrites(written=8, written_at=4_940.0 + shift, hold_until=5_300.0 + shift),
        last_good_rate=2.5,
        seen_at=AFTER.monotonic,
        was_reported=True,
        target_uid="uid-target",
        has_answered=True,
        is_late=True,
        lateness=Lateness(4_700.0 + shift, 0.0, AFTER.monotonic),
        spare_since=4_500.0 + shift,
        wants=Wants.resume(4_500.0 + shift, AFTER.monotonic, 7),
        occupancy=Occupancy(taken=2, workers=8),
    )


def test_a_second_round_trip_loses_nothing_more() -> None:
    once = restore(status_of(MEMORY), AFTER)
    assert checkpoint(once, AFTER) == checkpoint(MEMORY, BEFORE)
    again = restore(status_of(once, AFTER), AFTER)
    assert again == once


def test_every_field_is_kept_or_lost_on_purpose() -> None:
    """A new field of the memory must be thought of here."""
    kept = {"moves", "foreign", "last_good_rate", "target_uid", "has_answered", "is_late"}
    kept |= {"wants", "spare_since", "lateness", "gain", "occupancy"}
    of_the_process = {"seen_at", "was_reported"}
    assert {field.name for field in fields(PoolMemory)} == kept | LOST | of_the_process
    found, empty = restore(status_of(MEMORY), AFTER), PoolMemory()
    assert all(getattr(found, name) == getattr(empty, name) for name in LOST)


def test_an_empty_status_is_a_new_pool() -> None:
    assert restore({}, AFTER) == PoolMemory(seen_at=AFTER.monotonic)
    assert not any(checkpoint(PoolMemory(), BEFORE).values())


def test_a_pool_that_was_only_seen_was_not_judged() -> None:
    unknown = [condition("Ready", "Unknown", Reason.NOT_YET_OBSERVED)]
    assert not restore({"conditions": unknown}, AFTER).was_reported
    assert restore({"conditions": [condition("Ready", "False", Reason.TARGET_NOT_FOUND)]}, AFTER).was_reported


@pytest.mark.parametrize(
    "reason", [*sorted(LATE_REASONS), Reason.LAG_WITHIN_TARGET, Reason.BACKLOG_BLOCKED, Reason.QUERY_TIMEOUT]
)
def test_late_is_what_was_reported_as_late(reason: Reason) -> None:
    found = restore({"conditions": [condition("KeepingUp", "False", reason)]}, AFTER)
    assert found.is_late is (reason in LATE_REASONS)


def test_a_short_lateness_is_not_written() -> None:
    short = replace(MEMORY, lateness=Lateness(BEFORE.monotonic - 59, 90.0, BEFORE.monotonic))
    assert checkpoint(short, BEFORE)["lateSince"] is None
    assert restore({"scaling": {"startedAt": None}}, AFTER).lateness is None


def test_leaders_that_change_every_two_minutes_still_take_workers_away() -> None:
    """Two jobs a second, 20 workers: no process lives for a window of 300 s, and after 20 min few are left."""
    spec, status, present = make_spec(expected_job=1.0), {}, 20
    counts = [present]
    for leader in range(12):
        began = 120.0 * leader
        memory = restore(status, Moment(50.0, BEFORE.wall + timedelta(seconds=began)))
        for tick in range(24):
            now = Moment(50.0 + 5 * tick, BEFORE.wall + timedelta(seconds=began + 5 * tick))
            count = round(2 * (began + 5 * tick))
            sample = make_sample(now.monotonic, in_flight=2, arrived=count, ended=count)
            outcome = decide(spec, make_facts(present, signal=sample), memory, now)
            memory, allowed = outcome.memory, scaling_of(outcome.decision).allowed
            if allowed != present:
                memory = memory.wrote(Move(now.monotonic, present, allowed))
                present = allowed
        status = status_of(memory, now)
        counts.append(present)
    assert counts[:3] == [20, 20, 20], "nobody has watched for a window yet"
    assert counts == sorted(counts, reverse=True)
    assert max(before - after for before, after in pairwise(counts)) <= 4, "a fifth in each process"
    assert counts[-1] <= 5


def test_a_hold_that_is_over_is_not_written() -> None:
    over = replace(MEMORY, foreign=ForeignWrites(hold_until=BEFORE.monotonic))
    assert checkpoint(over, BEFORE)["heldUntil"] is None
    assert checkpoint(over, BEFORE)["heldReason"] is None
    assert checkpoint(MEMORY, BEFORE)["heldReason"] == "TargetConflict"


def test_without_a_decision_nothing_counts_as_ours() -> None:
    status = status_of(MEMORY)
    del status["lastDecision"]
    assert restore(status, AFTER).foreign.written is None
    none = {**status_of(MEMORY), "desiredWorkers": 0}
    assert restore(none, AFTER).moves == (), "a pool at zero has started nobody"


async def test_the_status_that_is_really_written_restores_the_same() -> None:
    world = PoolWorld()
    await world.advance(10)
    world.queue(**LATE)
    await world.advance(30, rate=5, service_rate=2.0)
    [memory] = world.reconciler._memories.values()
    found = restore(world.status(), Moment(world.clock.monotonic(), world.clock.now()))
    assert found.target_uid == memory.target_uid
    assert (found.is_late, found.has_answered, found.was_reported) == (memory.is_late, True, True)
    assert found.foreign.written == memory.foreign.written == world.asked_for()
    assert found.foreign.written_at >= memory.foreign.written_at, "a decision may be reported later than its write"
    assert found.last_good_rate == pytest.approx(memory.last_good_rate, rel=0.1)
    assert found.moves[-1].at == pytest.approx(memory.moves[-1].at, abs=2.0)


@pytest.mark.parametrize(
    ("numbers", "spec"),
    [
        ({}, {}),
        (LATE, {"maxWorkers": 12}),
        ({"lag_seconds": 29.0, "backlog": 50}, {}),
        ({"blocked": 40, "blocked_seconds": 500.0}, {}),
        ({"phantoms": 3}, {"mode": "DryRun"}),
    ],
    ids=["calm", "late", "near", "blocked", "dry"],
)
async def test_at_a_change_of_leader_no_condition_flips_and_comes_back(
    numbers: dict[str, Any], spec: dict[str, Any]
) -> None:
    world = PoolWorld(spec=spec)
    await world.advance(30, rate=5)
    world.queue(**numbers)
    await world.advance(60, rate=5)
    before = verdicts(world)
    seen: list[object] = []

    def listen(_: str, item: dict[str, Any]) -> None:
        if item["kind"] == WORKER_POOL.name and "status" in item:
            seen.append(verdicts(world))

    world.kube.store.listeners.append(listen)
    world.restart()
    world.lose_guard()
    await world.make_pass()
    await world.advance(3, rate=5)
    world.has_guard_passes = True
    await world.advance(20, rate=5)
    assert [entry for entry in seen if entry != before] == []
    assert verdicts(world) == before


def verdicts(world: PoolWorld) -> dict[str, tuple[str, str]]:
    return {entry["type"]: (entry["status"], entry["lastTransitionTime"]) for entry in world.status()["conditions"]}


async def test_a_verdict_on_the_lag_survives_a_change_of_leader_between_its_bounds() -> None:
    world = PoolWorld()
    await world.advance(10, rate=1)
    world.queue(lag_seconds=31.0, backlog=5, late=1)
    await world.make_pass()
    world.queue(lag_seconds=28.0, late=0)
    world.restart()
    await world.advance(20)
    assert world.condition("KeepingUp")[1] == Reason.LAG_ABOVE_TARGET
    world.restart()
    world.queue(lag_seconds=0.0, backlog=0)
    await world.advance(20)
    world.queue(lag_seconds=28.0, backlog=5)
    world.restart()
    await world.advance(20)
    assert world.condition("KeepingUp")[1] == Reason.LAG_WITHIN_TARGET


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=400)])
def test_an_earlier_clock_that_was_ahead_holds_nothing_up(ahead: timedelta) -> None:
    """What happened has happened by now, and a hold lasts no longer than one that begins now."""
    before = replace(BEFORE, wall=BEFORE.wall + ahead)
    found = restore(status_of(MEMORY, before), AFTER)
    assert found.since_start_seconds(AFTER.monotonic) == 0.0
    assert found.spare_since == AFTER.monotonic
    assert found.lateness is not None
    assert found.lateness.since == AFTER.monotonic
    assert found.foreign.written_at == AFTER.monotonic
    assert found.foreign.hold_until == AFTER.monotonic + FOREIGN_HOLD_SECONDS
