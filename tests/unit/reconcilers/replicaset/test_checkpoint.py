"""What outlives a process: a round trip through status, and a change of leader that nobody sees."""

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest

from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Finding
from headroom.model.database import Lsn, Mark
from headroom.model.frozen import FrozenMap
from headroom.model.moments import Moment, format_moment, format_time
from headroom.model.numbers import round_tree
from headroom.model.timelines import TimelineHistory, WalPosition
from headroom.policy.replicaset.activation import Activations
from headroom.policy.replicaset.autoscaling import Recommendation
from headroom.policy.replicaset.copies import CopyMemory
from headroom.policy.replicaset.copy_progress import begin_copy
from headroom.policy.replicaset.durations import Drain, begin
from headroom.policy.replicaset.growth import Addition, Growth
from headroom.policy.replicaset.libraries import LibraryFault
from headroom.policy.replicaset.member_memory import Inherited
from headroom.policy.replicaset.memory import (
    Attempts,
    LeadTimes,
    MemberMemory,
    SetMemory,
)
from headroom.policy.replicaset.read_gain import MOST_PAUSE_SECONDS, Hold, ReadGain
from headroom.policy.replicaset.replay_lag import NotEligible, ReplayLag
from headroom.policy.replicaset.restores import RestoreFailures
from headroom.ports.kube import POD, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.checkpoint import checkpoint, format_position, restore
from tests.manifests import NAMESPACE
from tests.memory_world import INSTALL
from tests.unit.policy.replicaset.make import NOW
from tests.unit.reconcilers.replicaset.world import World

LATER = Moment(900.0, NOW)
LOST_ON_PURPOSE = {
    "began_at": 900.0,
    "inherited": {},
    "members": {},
    "copies": {},
    "copying": CopyMemory(),
    "peaceful_restarts": {},
    "idle_slots": {},
    "drains": {},
    "timeline_since": 900.0,
    "history": None,
    "positions": {},
    "outage_since": None,
    "has_seen_primary": False,
    "generation": None,
    "recommendations": (),
    "attempts": Attempts(),
    "restore_failures": RestoreFailures(),
    "snapshot_attempts": Attempts(),
    "slots_touched_at": None,
    "slot_names": frozenset(),
    "activations": Activations(),
    "growth": Growth(),
    "reads": ReadGain(),
    "library_faults": {},
}
"""Fields that a new process begins with anew; slots, failed attempts, full members and what stopped growth stand
elsewhere in status."""
FULL = SetMemory(
    began_at=1.0,
    inherited={"store-9-a": Inherited(ReplayLag(0.0, 0))},
    members={"store-0-a": MemberMemory("u", seen_since=1.0)},
    copies={"u": begin_copy(("streaming", 1), 1.0)},
    copying=CopyMemory(frozenset({"store-0-a"}), FrozenMap({"store-0-a": frozenset({"store-1-a"})}), 1.0),
    peaceful_restarts={"u": 3},
    idle_slots={"s": begin(1.0)},
    drains={"u": Drain(1.0, is_whole=True)},
    slot_names=frozenset({"s"}),
    activations=Activations(served=frozenset({"u"})),
    growth=Growth(FrozenMap({"store-0-a": Addition(1.0, 2, 5.0)}), (30, 1.0), FrozenMap({"store-0-a": 1.0})),
    reads=ReadGain(rate=500.0, names=frozenset({"store-0-a"}), since=1.0, hold=Hold(((2, 500), (3, 505)), 1.0)),
    system_identifier="7300000000000000001",
    timeline=3,
    timeline_since=2.0,
    history=TimelineHistory(3, ((2, Lsn(1)),)),
    positions={"store-0-a": WalPosition(2, Lsn(2))},
    outage_since=5.0,
    has_seen_primary=True,
    generation=4,
    desired=3,
    start_replicas=2,
    recommendations=(Recommendation(1.0, 3),),
    warm=LeadTimes((0.5,)),
    base_backup=LeadTimes((61.0,)),
    volume_snapshot=LeadTimes((7.0,)),
    restore_failures=RestoreFailures(1, frozenset({"store-s-a"})),
    attempts=Attempts(1, 2.0, Finding(Reason.SEED_FAILED, "no space left")),
    snapshot_attempts=Attempts(1, 2.0, Finding(Reason.SNAPSHOT_FAILED, "no space left")),
    slots_touched_at=3.0,
    library_faults={"store-0-a": LibraryFault("u", Finding(Reason.EXTENSION_MISSING, "no postgis"))},
)


def back(status: dict[str, Any]) -> SetMemory:
    return restore(status, LATER, name="store", uid="u", install_id=INSTALL)


def test_a_memory_comes_back_from_its_checkpoint_but_for_what_is_lost_on_purpose() -> None:
    assert all(getattr(FULL, field.name) != getattr(SetMemory(), field.name) for field in fields(FULL))
    assert back(checkpoint(FULL)) == replace(FULL, **LOST_ON_PURPOSE)


def test_a_checkpoint_of_what_came_back_is_the_same() -> None:
    written = round_tree(checkpoint(FULL))
    assert round_tree(checkpoint(back(written))) == written


def test_of_lead_times_the_ninetieth_percentile_comes_back() -> None:
    times = LeadTimes(tuple(float(number) for number in range(1, 11)))
    assert back(checkpoint(replace(FULL, warm=times))).warm == LeadTimes((9.0,))


def test_an_empty_status_gives_an_empty_memory() -> None:
    assert back({}) == replace(SetMemory(), began_at=900.0, timeline_since=900.0)
    assert back(checkpoint(SetMemory())) == replace(SetMemory(), began_at=900.0, timeline_since=900.0)


@pytest.mark.parametrize("hours", [-1, 3, 24])
def test_what_stopped_growth_comes_back_from_its_place_in_status(hours: int) -> None:
    measured = [{"replicas": 2, "readsPerSecond": 500}, {"replicas": 3, "readsPerSecond": 505}]
    retry_at = format_time(NOW + timedelta(hours=hours))
    limit = {"measured": measured, "retryAt": retry_at, "pauseSeconds": 7200}
    expected = Hold(((2, 500), (3, 505)), LATER.monotonic + hours * 3600, 7200.0)
    assert back({"readLimit": limit}).reads == ReadGain(pressed_at=LATER.monotonic, hold=expected)


def test_a_try_waits_no_longer_for_a_clock_that_was_ahead() -> None:
    limit = {
        "measured": [{"replicas": 2, "readsPerSecond": 500}],
        "retryAt": "2036-01-01T00:00:00Z",
        "pauseSeconds": 7200,
    }
    hold = back({"readLimit": limit}).reads.hold
    assert hold is not None
    assert hold.retry_at == LATER.monotonic + MOST_PAUSE_SECONDS


@pytest.mark.parametrize(("replicas", "reads"), [(0, 0), (0, 500), (3, 0), (-1, 500)])
def test_a_limit_that_somebody_wrote_and_nobody_measured_is_none(replicas: int, reads: int) -> None:
    measured = [{"replicas": replicas, "readsPerSecond": reads}]
    limit = {"measured": measured, "retryAt": format_moment(LATER.wall), "pauseSeconds": 2**30}
    assert back({"readLimit": limit}).reads == ReadGain()
    measured[0] = {"replicas": 2, "readsPerSecond": 500}
    hold = back({"readLimit": limit}).reads.hold
    assert hold is not None
    assert hold.pause_seconds == MOST_PAUSE_SECONDS


def test_the_slots_of_members_in_status_are_known_again() -> None:
    memory = back({"members": [{"name": "store-0-abc"}, {"name": "other"}]})
    assert memory.inherited == {"store-0-abc": Inherited(), "other": Inherited()}
    [slot] = memory.slot_names
    assert slot.startswith(f"hr_{INSTALL}_")
    assert slot.endswith("_0_abc")
    assert back({"members": [{"name": "store-0-abc", "slot": "hr_old_x_0_abc"}]}).slot_names == {"hr_old_x_0_abc"}


def test_since_when_a_member_has_no_stream_stands_in_its_condition() -> None:
    since = {"type": ConditionType.STREAMING, "status": "False", "lastTransitionTime": format_time(NOW)}
    lost = {**since, "reason": str(Reason.NOT_STREAMING), "message": "no receiver"}
    broken = {"name": "store-0-a", "conditions": [lost]}
    seeding = {"name": "store-1-a", "conditions": [{**since, "reason": str(Reason.SEEDING)}]}
    later = Moment(900.0, NOW + timedelta(seconds=60))
    memory = restore({"members": [broken, seeding]}, later, name="store", uid="u", install_id=INSTALL)
    known = Inherited(refusal=NotEligible(Reason.NOT_STREAMING, "no receiver"), since=840.0)
    assert memory.inherited == {"store-0-a": known, "store-1-a": Inherited()}


def test_nothing_happened_later_than_now_by_whatever_clock_it_was_written() -> None:
    since = {"type": ConditionType.STREAMING, "status": "False", "lastTransitionTime": format_time(NOW)}
    for reason in (Reason.NOT_STREAMING, Reason.TIMELINE_DIVERGED, Reason.SLOT_LOST):
        entry = {
            "name": "store-0-a",
            "conditions": [{**since, "reason": str(reason)}],
            "fullAt": format_time(NOW),
            "unreplayedSince": format_moment(NOW),
            "unreplayedPosition": "3:16/B374D848",
        }
        behind = Moment(900.0, NOW - timedelta(hours=1))
        memory = restore({"members": [entry]}, behind, name="store", uid="u", install_id=INSTALL)
        left = memory.inherited["store-0-a"]
        assert left.lag is not None
        assert left.lag.pending is not None
        assert [left.since, left.lag.pending.taken_at, memory.growth.full["store-0-a"]] == [900.0] * 3
        assert memory.growth.asked["store-0-a"].at == 900.0


def test_what_was_found_of_a_members_libraries_stands_in_its_condition() -> None:
    found = {"type": ConditionType.CAUGHT_UP, "status": "False", "message": "no postgis"}
    lacking = {"name": "store-0-a", "conditions": [{**found, "reason": str(Reason.EXTENSION_MISSING)}]}
    lagging = {"name": "store-1-a", "conditions": [{**found, "reason": str(Reason.REPLAY_LAG_ABOVE_LIMIT)}]}
    faults = back({"members": [lacking, lagging]}).library_faults
    assert faults == {"store-0-a": LibraryFault(None, Finding(Reason.EXTENSION_MISSING, "no postgis"))}


def test_the_last_lag_of_a_member_stands_in_its_entry() -> None:
    written = {"replayLagSeconds": 30.0, "replayBacklogBytes": 4096.0}
    since = {"unreplayedSince": format_moment(NOW), "unreplayedPosition": "3:16/B374D848"}
    entries = [
        {"name": "store-0-a", **written, **since},
        {"name": "store-1-a", "replayLagSeconds": 0.0},
        {"name": "store-2-a"},
        {"name": "store-3-a", **since},
    ]
    status = {"systemIdentifier": "7300000000000000001", "members": entries}
    later = Moment(900.0, NOW + timedelta(seconds=60))
    memory = restore(status, later, name="store", uid="u", install_id=INSTALL)
    mark = Mark(840.0, Lsn.parse("16/B374D848"), None, 3, "7300000000000000001")
    assert format_position(mark) == since["unreplayedPosition"]
    assert {name: left.lag for name, left in memory.inherited.items()} == {
        "store-0-a": ReplayLag(30.0, 4096, pending=mark, is_bounded=False),
        "store-1-a": ReplayLag(0.0, 0),
        "store-2-a": None,
        "store-3-a": ReplayLag(60.0, 0, pending=mark, is_bounded=False),
    }
    ahead = restore(status, Moment(900.0, NOW - timedelta(seconds=5)), name="store", uid="u", install_id=INSTALL)
    lag = ahead.inherited["store-0-a"].lag
    assert lag is not None
    assert lag.pending is not None
    assert lag.pending.taken_at == 900.0, "no position is from the future"


def test_failed_attempts_stand_on_the_members_and_in_stalled() -> None:
    assert back({"members": [{"name": "store-0-a", "attempts": 2}]}).attempts == Attempts(2)
    stalled = {
        "type": ConditionType.STALLED,
        "status": "True",
        "reason": str(Reason.SEED_ATTEMPTS_EXHAUSTED),
        "message": "3 attempts failed",
    }
    attempts = back({"conditions": [stalled]}).attempts
    assert (attempts.count, attempts.failed_at) == (3, 900.0)
    assert attempts.failure == Finding(Reason.SEED_FAILED, "3 attempts failed")
    assert back({"conditions": [{**stalled, "reason": str(Reason.NOT_STREAMING)}]}).attempts == Attempts()


def times_of(body: Manifest) -> dict[tuple[str, str], str]:
    """When each condition last turned, the members' too."""
    status = body["status"]
    lists = {"": status["conditions"], **{member["name"]: member["conditions"] for member in status["members"]}}
    return {
        (name, entry["type"]): f"{entry['status']} since {entry['lastTransitionTime']}"
        for name, entries in lists.items()
        for entry in entries
    }


def test_the_timeline_of_a_member_stands_in_its_entry() -> None:
    memory = back({"members": [{"name": "store-0-a", "timeline": 2}, {"name": "store-1-a"}]})
    assert memory.positions == {"store-0-a": WalPosition(2)}


async def passes_without_a_guard(world: World, count: int) -> None:
    """A new leader's first passes: its guards have made none yet."""
    for _ in range(count):
        await world.reconciler.reconcile(world.body)
        world.play()
        await world.clock.advance(1.0)


async def make_calm(**spec: Any) -> World:
    world = World()
    world.add_set(**spec)
    await world.run(40)
    return world


@pytest.mark.parametrize("seconds", [0, 3, 8])
async def test_at_a_change_of_leader_no_condition_of_a_calm_set_turns(seconds: int) -> None:
    world = await make_calm(replicas=2, standbys=1)
    before, counts = times_of(world.body), {key: world.status[key] for key in ("replicas", "standbys", "provisioning")}
    world.restart()
    world.kube.writes.clear()
    await passes_without_a_guard(world, seconds)
    assert world.kube.writes == []
    assert times_of(world.body) == before
    assert {key: world.status[key] for key in counts} == counts
    world.kube.writes.clear()
    await world.run(60)
    assert times_of(world.body) == before
    assert len(world.kube.writes) <= 1


async def test_at_a_change_of_leader_in_an_outage_no_condition_turns() -> None:
    world = await make_calm()
    world.primary.is_down = True
    await world.run(30)
    before = times_of(world.body)
    assert world.condition("Ready")["status"] == "False"
    world.restart()
    await passes_without_a_guard(world, 5)
    await world.run(40)
    assert times_of(world.body) == before


async def test_a_guard_that_never_comes_is_reported_after_ten_seconds() -> None:
    world = await make_calm()
    world.restart()
    await passes_without_a_guard(world, 9)
    assert world.condition("Ready")["status"] == "True"
    await passes_without_a_guard(world, 3)
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", Reason.GUARD_NOT_READY)
    assert world.condition("ReadsMayBeStale")["status"] == "True"


async def test_a_lag_panic_outlasts_a_change_of_leader() -> None:
    world = await make_calm(replicas=1, standbys=0)
    [name] = world.serving()
    world.replica(name).is_paused = True
    world.primary.write(100 * 1024**2)
    await world.run(30)
    stale = world.condition("ReadsMayBeStale")
    assert (stale["status"], stale["reason"]) == ("True", Reason.LAG_PANIC)
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", Reason.SERVING_BELOW_MINIMUM)
    world.restart()
    for _ in range(15):
        await world.run(1)
        assert world.condition("ReadsMayBeStale")["lastTransitionTime"] == stale["lastTransitionTime"]
        assert world.condition("Ready")["lastTransitionTime"] == ready["lastTransitionTime"]
    world.replica(name).is_paused = False
    await world.run(15)
    assert world.condition("Ready")["status"] == "True"


@pytest.mark.parametrize("seconds", [60, pytest.param(700, marks=pytest.mark.long)])
async def test_a_stream_that_stays_broken_is_reported_through_a_change_of_leader(seconds: int) -> None:
    world = await make_calm(replicas=1, standbys=1)
    for pod in world.children(POD):
        world.replica(pod["metadata"]["name"]).is_cut_off = True
    await world.run(seconds)
    stale, stalled = world.condition("ReadsMayBeStale"), world.condition("Stalled")
    assert (stale["status"], stale["reason"]) == ("True", Reason.READS_UNBOUNDED)
    assert stalled["status"] == ("True" if seconds > 600 else "False")
    before = times_of(world.body)
    world.restart()
    for _ in range(40):
        await world.run(1)
        assert times_of(world.body) == before


async def test_what_happened_between_two_leaders_is_seen_at_once() -> None:
    world = await make_calm(replicas=1, standbys=1)
    [name] = [pod["metadata"]["name"] for pod in world.children(POD) if pod["metadata"]["name"] not in world.serving()]
    world.restart()
    world.cluster.end_pod(ObjectRef(POD, NAMESPACE, name))
    await world.one_pass()
    await world.one_pass()
    member = next(entry for entry in world.status["members"] if entry["name"] == name)
    assert member["stage"] != "Standby"


async def test_a_spec_that_changed_between_two_leaders_is_judged_at_once() -> None:
    world = await make_calm()
    world.restart()
    world.edit_spec(mode="Paused")
    await passes_without_a_guard(world, 1)
    assert world.condition("Ready")["reason"] == Reason.PAUSED
