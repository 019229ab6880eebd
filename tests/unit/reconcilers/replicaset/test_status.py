"""What a set shows: numbers at rest, conditions, and how often any of it is written."""

import itertools
from typing import Any

import pytest

from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Condition, Truth
from headroom.model.numbers import count_of, settle_above
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.conditions import SET_CONDITIONS
from headroom.reconcilers.replicaset.foremost import find_foremost
from headroom.reconcilers.replicaset.status import BACKLOG_FLOOR_BYTES, LAG_FLOOR_SECONDS
from tests.unit.reconcilers.replicaset.world import World


async def test_a_set_at_rest_shows_no_lag_and_no_backlog() -> None:
    world = World()
    world.add_set()
    await world.run(30)
    assert world.status["maxReplayLagSeconds"] == 0
    members = world.status["members"]
    assert [member["replayLagSeconds"] for member in members] == [0, 0]
    assert [member["replayBacklogBytes"] for member in members] == [0, 0]


@pytest.mark.parametrize("floor", [LAG_FLOOR_SECONDS, float(BACKLOG_FLOOR_BYTES)])
def test_what_hovers_about_its_floor_is_written_once_at_most(floor: float) -> None:
    shown = [settle_above(None, floor * 1.05, floor)]
    for share in (0.98, 1.04, 0.9, 1.06, 0.99, 1.0):
        shown.append(settle_above(shown[-1], floor * share, floor))
    assert sum(one != other for one, other in itertools.pairwise(shown)) == 1
    assert shown[-1] == 0


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        (None, 0.0, 0.0),
        (0.0, 3.0, 3.0),
        (3.0, 3.2, 3.0),
        (3.0, 4.0, 4.0),
        (3.0, 0.0, 0.0),
        (0.5, 0.0, 0.0),
        (3.0, None, None),
    ],
)
def test_a_number_follows_what_it_measures(old: float | None, new: float | None, shown: float | None) -> None:
    assert settle_above(old, new, LAG_FLOOR_SECONDS) == shown


def serving_of(world: World, role: str) -> list[dict[str, Any]]:
    members = [member for member in world.status["members"] if member["role"] == role]
    return [entry for member in members for entry in member["conditions"] if entry["type"] == "Serving"]


async def test_a_warm_standby_is_as_expected_and_so_are_the_words_after_each_turn() -> None:
    world = World()
    world.add_set()
    await world.run(30)
    (entry,) = serving_of(world, "Standby")
    assert (entry["status"], entry["reason"]) == ("False", Reason.AS_EXPECTED)
    assert entry["message"] == "a warm standby, not meant to serve now"
    assert [entry["status"] for entry in serving_of(world, "Serving")] == ["True"]


async def test_every_condition_of_a_calm_set_says_something() -> None:
    world = World()
    world.add_set(warmup={"prewarm": False})
    await world.run(30)
    assert [entry["type"] for entry in world.status["conditions"] if not entry["message"]] == []
    assert world.condition("WarmPoolReady")["message"] == "1 standby is warm"
    assert world.condition("Ready")["message"].startswith("1 replica serves;")


async def test_a_count_set_by_hand_is_said_to_be_unused_under_autoscaling() -> None:
    world = World()
    signal = {"name": "conns", "type": "Connections", "connections": {"utilizationPercent": 70}}
    world.add_set(autoscaling={"minReplicas": 1, "maxReplicas": 3, "signals": [signal]})
    await world.run(20)
    assert "spec.replicas" not in world.condition("Ready")["message"]
    world.edit_spec(replicas=3)
    await world.run(15)
    assert world.status["desiredReplicas"] == 1
    assert "; spec.replicas 3 is not used while autoscaling decides" in world.condition("Ready")["message"]


async def test_a_count_set_by_hand_without_autoscaling_is_followed_and_no_more_is_said() -> None:
    world = World()
    world.add_set(replicas=2)
    await world.run(20)
    assert "spec.replicas" not in world.condition("Ready")["message"]


async def test_in_an_outage_the_pool_is_unknown_and_the_turn_of_ready_is_told() -> None:
    world = World()
    world.add_set()
    await world.run(30)
    world.primary.is_down = True
    await world.run(60)
    assert world.condition("Ready")["status"] == "False"
    pool = world.condition("WarmPoolReady")
    assert (pool["status"], pool["reason"]) == ("Unknown", world.condition("Ready")["reason"])
    assert pool["message"].startswith("1 standby was warm when it could last be measured: ")
    told = [event for event in world.telemetry.events if event.message.startswith("Ready: ")]
    assert [(event.type_, event.reason) for event in told][-1] == ("Warning", world.condition("Ready")["reason"])
    world.primary.is_down = False
    await world.run(30)
    told = [event for event in world.telemetry.events if event.message.startswith("Ready: ")]
    assert [event.type_ for event in told][-2:] == ["Warning", "Normal"]
    assert world.condition("WarmPoolReady")["status"] == "True"


@pytest.mark.parametrize(("number", "said"), [(0, "0 standbys"), (1, "1 standby"), (2, "2 standbys")])
def test_words_agree_with_their_count(number: int, said: str) -> None:
    assert count_of(number, "standby", "standbys") == said


async def test_a_set_on_its_way_says_how_far_it_is() -> None:
    world = World()
    world.add_set(replicas=1, standbys=0)
    await world.run(30)
    world.members.copies = False
    world.edit_spec(replicas=2)
    await world.run(10)
    ready = world.condition("Ready")
    assert ready["status"] == "True"
    assert ready["message"].startswith("1 of 2 replicas serve; store-1-")
    assert world.status["reason"] == Reason.IN_PROGRESS
    world.edit_spec(replicas=0)
    await world.run(10)
    assert world.condition("Ready")["message"] == "no replica serves, as wanted"


def conditions_with(*found: tuple[ConditionType, Truth, Reason]) -> list[Condition]:
    calm = dict.fromkeys(SET_CONDITIONS, (Truth.FALSE, Reason.AS_EXPECTED))
    calm[ConditionType.WARM_POOL_READY] = calm[ConditionType.SIGNAL_AVAILABLE] = (Truth.TRUE, Reason.AS_EXPECTED)
    given = {kind: (truth, reason) for kind, truth, reason in found}
    return [Condition(kind, *verdict) for kind, verdict in (calm | given).items()]


SHORT = (ConditionType.READY, Truth.TRUE, Reason.IN_PROGRESS)
WHOLE = (ConditionType.READY, Truth.TRUE, Reason.AS_EXPECTED)
PAUSED = (ConditionType.READY, Truth.TRUE, Reason.PAUSED)
REFILLING = (ConditionType.WARM_POOL_READY, Truth.FALSE, Reason.WARM_POOL_REFILLING)
FAILED = (ConditionType.WARM_POOL_READY, Truth.FALSE, Reason.SEED_FAILED)
LIMITED = (ConditionType.SCALING_LIMITED, Truth.TRUE, Reason.AT_MAXIMUM)
BELOW = (ConditionType.READY, Truth.FALSE, Reason.SERVING_BELOW_MINIMUM)
REFUSED = (ConditionType.READY, Truth.FALSE, Reason.FORBIDDEN)
WRONG_IMAGE = (ConditionType.STALLED, Truth.TRUE, Reason.MAJOR_VERSION_MISMATCH)
STALE = (ConditionType.READS_MAY_BE_STALE, Truth.TRUE, Reason.LAG_PANIC)


@pytest.mark.parametrize(
    ("found", "foremost"),
    [
        ((WHOLE, REFILLING), "WarmPoolReady:WarmPoolRefilling"),
        ((SHORT, REFILLING), "InProgress"),
        ((SHORT, REFILLING, LIMITED), "InProgress"),
        ((SHORT, FAILED, LIMITED), "WarmPoolReady:SeedFailed"),
        ((SHORT, FAILED, STALE), "ReadsMayBeStale:LagPanic"),
        ((PAUSED, FAILED, LIMITED), "Paused"),
        ((PAUSED, STALE), "ReadsMayBeStale:LagPanic"),
        ((BELOW, STALE), "ServingBelowMinimum"),
        ((BELOW, REFILLING), "ServingBelowMinimum"),
        ((BELOW, WRONG_IMAGE, REFILLING), "ServingBelowMinimum:MajorVersionMismatch"),
        ((BELOW, WRONG_IMAGE, FAILED), "ServingBelowMinimum:MajorVersionMismatch"),
        ((BELOW, FAILED), "ServingBelowMinimum:SeedFailed"),
        ((REFUSED, WRONG_IMAGE), "Forbidden"),
        ((WHOLE, LIMITED), "ScalingLimited:AtMaximum"),
        ((WHOLE,), "AsExpected"),
    ],
)
def test_fewer_that_serve_are_told_before_a_pool_that_is_refilled(
    found: tuple[tuple[ConditionType, Truth, Reason], ...], foremost: str
) -> None:
    assert find_foremost(conditions_with(*found)) == foremost


async def test_another_count_is_told_as_an_event_once() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(30)
    assert Reason.REPLICAS_SET not in world.telemetry.reasons("store")
    world.edit_spec(replicas=2)
    await world.run(10)
    told = [event.message for event in world.telemetry.events if event.reason is Reason.REPLICAS_SET]
    assert told == ["from 1 to 2 replicas: spec.replicas asks for 2"]


async def test_a_count_that_an_outage_holds_is_said_to_be_held() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(30)
    world.primary.is_down = True
    world.edit_spec(replicas=2)
    await world.run(20)
    limited = world.condition("ScalingLimited")
    assert limited["status"] == "True"
    assert limited["message"] == "1 serve, 2 wanted: held until dbg/store is Ready"
    assert (world.condition("Stalled")["status"], world.condition("Stalled")["message"]) == (
        "Unknown",
        "not known now: see dbg/store",
    )


async def test_a_standby_that_is_called_is_no_spare_one() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(30)
    assert world.condition("WarmPoolReady")["status"] == "True"
    world.members.copies = world.members.lists = False
    world.edit_spec(replicas=2)
    await world.run(20)
    assert world.condition("WarmPoolReady")["status"] == "False"
