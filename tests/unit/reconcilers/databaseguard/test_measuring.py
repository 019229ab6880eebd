"""The canary, the state that follows from it, and what is left when the guard goes."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.api.kinds import DATABASE_GUARD
from headroom.errors import NotServed, PrimaryUnavailable
from headroom.ports.kube import REPLICA_SET, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.databaseguard import metrics
from tests.manifests import NAMESPACE
from tests.unit.api.test_columns import show
from tests.unit.reconcilers.databaseguard.world import GuardWorld, make_guard, ref

LABELS = {"namespace": NAMESPACE, "name": "store"}


async def test_the_canary_keeps_its_pace_whatever_a_pass_waits_for(world: GuardWorld) -> None:
    await world.step()
    before = len(world.view.marks)
    await world.clock.advance(20)  # no pass at all
    await world.step()
    assert len(world.view.marks) - before >= 19


async def test_an_unanswered_commit_counts_at_its_age(world: GuardWorld) -> None:
    await world.run(10)
    world.primary.commit_seconds = 8
    await world.run(14)
    assert world.status["commitLatencyMilliseconds"] >= 3000


async def test_a_commit_that_is_not_answered_is_told_with_what_to_look_at(world: GuardWorld) -> None:
    await world.run(8)
    world.primary.commit_seconds = 600
    await world.run(30)
    signal = world.condition("SignalAvailable")
    assert (signal["status"], signal["reason"]) == ("False", "PrimaryTimeout")
    assert signal["message"].startswith(
        "the canary's COMMIT is not answered: see what loads the server and its disk, and what COMMIT waits for; "
    )


async def test_slow_commits_raise_the_state_and_fast_ones_lower_it_slowly(world: GuardWorld) -> None:
    await world.run(8)
    assert world.status["state"] == "Healthy"
    world.primary.commit_seconds = 2
    await world.run(20)
    assert world.status["state"] == "Overloaded"
    assert world.status["stateSignal"] == "commitLatency"
    assert show(DATABASE_GUARD, world.body())["SIGNAL"] == "commitLatency"
    assert Reason.STATE_CHANGED in world.telemetry.reasons("store")
    since = world.status["stateSince"]
    message = world.condition("SignalAvailable")["message"]
    assert f"; Overloaded since {since[11:19]} UTC by commit latency 2" in message
    assert " ms (bound 1000 ms); at " in message
    assert "not below 700 ms; Brownout after 120 s with every signal below 0.7 of its bound" in message
    assert "memory" not in world.status
    said = [event for event in world.telemetry.events if event.reason is Reason.STATE_CHANGED]
    assert said[-1].type_ == "Warning"
    assert "-> Overloaded: commit latency 2" in said[-1].message
    assert said[-1].message.endswith(" ms >= 1000 ms")
    world.primary.commit_seconds = 0.001
    await world.run(60)
    assert world.status["state"] == "Overloaded", "not yet"
    assert world.status["stateSince"] == since
    clean = datetime.fromisoformat(world.status["memory"]["cleanSince"])
    message = world.condition("SignalAvailable")["message"]
    assert "commit latency 1 ms, below 700 ms" in message
    assert f"; Brownout at {clean + timedelta(seconds=120):%H:%M:%S} UTC at the earliest" in message
    await world.run(90)
    assert world.status["state"] == "Brownout", "one level at a time"
    assert datetime.fromisoformat(world.status["stateSince"]) >= clean + timedelta(seconds=120)
    assert " UTC, down from Overloaded; " in world.condition("SignalAvailable")["message"]
    said = [event for event in world.telemetry.events if event.reason is Reason.STATE_CHANGED]
    assert said[-1].type_ == "Normal"
    assert said[-1].message == (
        "Overloaded -> Brownout: 120 s with every signal below 0.7 of its bound; commit latency 1 ms < 700 ms"
    )
    await world.run(150)
    assert world.status["state"] == "Healthy"
    assert world.ready[0] == "True", "Ready does not follow the state"
    assert world.condition("SignalAvailable")["message"] == "the server is measured every second"


async def test_a_calm_minute_above_healthy_is_not_written_each_second(world: GuardWorld) -> None:
    await world.overload()
    world.primary.commit_seconds = 0.001
    await world.run(20)
    before = world.body()["metadata"]["resourceVersion"]
    await world.run(60)
    assert world.status["state"] == "Overloaded"
    assert world.body()["metadata"]["resourceVersion"] == before, "absolute times do not move"


async def test_a_server_that_cannot_be_asked_has_no_state_and_a_short_gap_forgets_nothing(world: GuardWorld) -> None:
    await world.overload()
    since, told = world.status["stateSince"], world.telemetry.reasons("store").count(Reason.STATE_CHANGED)
    world.primary.is_down = True
    await world.step()
    await world.step()
    assert (world.ready[0], world.status["state"]) == ("False", "Unknown")
    assert "stateSignal" not in world.status
    assert world.telemetry.value(metrics.STATE, **LABELS) == -1
    world.primary.is_down = False
    await world.run(2)
    assert (world.ready[0], world.status["state"], world.status["stateSince"]) == ("True", "Overloaded", since)
    assert world.telemetry.reasons("store").count(Reason.STATE_CHANGED) == told


async def test_ready_comes_with_the_first_state_and_the_first_commit(world: GuardWorld) -> None:
    await world.step()
    assert world.ready == ("Unknown", "InProgress")
    assert world.view.is_ready, "others may use the server meanwhile"
    await world.step()
    assert (world.ready, world.status["state"]) == (("True", "Connected"), "Healthy")
    assert world.status["commitLatencyMilliseconds"] > 0
    assert Reason.IN_PROGRESS not in world.telemetry.reasons("store")


async def test_connections_count_towards_the_state(world: GuardWorld) -> None:
    world.primary.sessions = [MemorySession(state="active") for _ in range(85)]
    await world.run(14)
    assert world.status["state"] == "Overloaded"
    assert world.status["stateSignal"] == "connectionsPercent"


async def test_a_server_that_hangs_after_it_answered_is_drowning(world: GuardWorld) -> None:
    await world.run(10)
    world.primary.is_hung = True
    await world.run(20)
    assert world.status["state"] == "Overloaded"
    assert world.status["stateSignal"] == "drowning"


async def test_a_server_that_is_gone_is_unknown_not_overloaded(world: GuardWorld) -> None:
    await world.run(10)
    world.primary.is_down = True
    await world.run(20)
    assert world.status["state"] == "Unknown"


async def test_the_state_survives_a_restart_of_the_operator(world: GuardWorld) -> None:
    await world.overload()
    await world.close()
    world.restart()
    world.primary.commit_seconds = 0.001
    await world.run(10)
    assert world.status["state"] == "Overloaded"


async def test_without_a_canary_the_position_makes_the_marks(world: GuardWorld) -> None:
    world.edit_spec(lambda spec: spec.update(canary={"enabled": False}))
    lsn = world.primary.lsn
    await world.run(8)
    assert world.primary.lsn == lsn, "nothing is written"
    assert len(world.view.marks) >= 5
    assert {mark.commit_seconds for mark in world.view.marks} == {None}
    assert "commitLatencyMilliseconds" not in world.status
    assert world.condition("SignalAvailable")["reason"] == "CanaryDisabled"


async def test_a_round_after_a_late_wake_is_void(world: GuardWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.run(3)
    sleep = world.clock.sleep

    async def late(seconds: float) -> None:
        await sleep(seconds + 0.2 if seconds > 0.5 else seconds)

    monkeypatch.setattr(world.clock, "sleep", late)
    await world.run(5)
    voided = world.telemetry.value(metrics.CANARY_FAILURES, reason="void", **LABELS)
    assert voided is not None
    assert voided >= 3
    assert world.view.marks[-1].taken_at > world.clock.monotonic() - 3, "a void round is still a mark"


async def test_metrics_are_those_of_the_catalogue(world: GuardWorld) -> None:
    world.primary.sessions = [MemorySession(), MemorySession(state="active")]
    await world.run(7)
    value = world.telemetry.value
    assert value(metrics.READY, **LABELS) == 1
    assert value(metrics.STATE, **LABELS) == 0
    assert value(metrics.CONNECTIONS, what="used", **LABELS) == 2
    assert value(metrics.CONNECTIONS, what="active", **LABELS) == 1
    assert value(metrics.CONNECTIONS, what="budget", **LABELS) == 55
    assert value(metrics.MISSING_RIGHT, **LABELS) == 0
    known = {metric.name for metric in metrics.ALL}
    recorded = {name for name, _ in (*world.telemetry.values, *world.telemetry.observations)}
    assert {name for name in recorded if name.startswith("headroom_guard_")} <= known


async def test_behind_a_pooler_the_budget_is_its_size(world: GuardWorld) -> None:
    world.edit_spec(lambda spec: spec["connection"].update(via={"poolSize": 40}))
    await world.run(2)
    assert world.status["connections"]["budget"] == 40


async def test_teardown_waits_for_replica_sets_and_keeps_the_server_at_hand(world: GuardWorld) -> None:
    await world.run(2)
    world.add_set("read-one")
    world.add_set("of-another-guard", guard="other")
    assert await world.reconciler.teardown(world.body()) is not None
    assert world.ready == ("False", "Deleting")
    assert "dbrs/read-one" in world.condition()["message"]
    assert "of-another-guard" not in world.condition()["message"]
    assert world.links is not None
    assert world.links.slots is not None, "the set needs it to drop its slots"


@pytest.mark.parametrize("spec", [None, "text", {"databaseRef": None}, {"databaseRef": "store"}])
async def test_a_set_whose_guard_cannot_be_read_does_not_keep_a_guard(world: GuardWorld, spec: Any) -> None:
    world.add_set("odd")
    odd = ObjectRef(REPLICA_SET, NAMESPACE, "odd")
    world.cluster.edit(odd, lambda item: item.update(spec=spec))
    assert await world.reconciler.teardown(world.body()) is None


async def test_teardown_needs_no_secret(world: GuardWorld) -> None:
    world.add_set("read-one")
    world.remove_secret("store-monitor")
    assert await world.reconciler.teardown(world.body()) is not None
    assert world.view.finding.reason is Reason.SECRET_NOT_FOUND


async def test_without_replica_sets_teardown_is_over_at_once(world: GuardWorld) -> None:
    await world.run(2)
    links = world.links
    assert links is not None
    assert await world.reconciler.teardown(world.body()) is None
    assert world.servers.view((NAMESPACE, "store")) is None
    assert world.primary.lock_holder is None
    with pytest.raises(PrimaryUnavailable):
        await links.primary.identify()


async def test_teardown_waits_while_it_cannot_tell_whether_a_set_is_left(world: GuardWorld) -> None:
    await world.run(2)
    world.cluster.edit(ref(), lambda guard: guard["metadata"].update(finalizers=["headroom.dev/finalizer"]))
    world.cluster.delete(ref())
    world.kube.kinds.remove(REPLICA_SET)
    with pytest.raises(NotServed):
        await world.reconciler.teardown(world.body())
    assert world.links is not None
    assert world.links.slots is not None
    await world.clock.advance(601)
    assert await world.reconciler.teardown(world.body()) is None


async def test_forgetting_ends_the_canary_and_every_series(world: GuardWorld) -> None:
    await world.run(3)
    await world.reconciler.forget(world.body()["metadata"]["uid"])
    lsn = world.primary.lsn
    await world.clock.advance(5)
    assert world.primary.lsn == lsn
    assert not [name for name, _ in world.telemetry.values if name.startswith("headroom_guard_")]
    assert not [task for task in asyncio.all_tasks() if "CanaryLoop" in repr(task)]


async def test_forgetting_one_of_two_guards_leaves_the_other(world: GuardWorld) -> None:
    world.cluster.seed(make_guard("second"))
    await world.step()
    await world.step("second")
    await world.reconciler.forget(world.body("second")["metadata"]["uid"])
    await world.step()
    assert world.ready[0] == "True"
