"""A replica that serves old data: silences, blips and changes of leader neither hide it nor make it younger."""

from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import pytest

from headroom.adapters.inmemory.postgres_links import MemoryReplica
from headroom.adapters.inmemory.postgres_server import DEFAULT_LIBRARIES, MemorySession
from headroom.errors import PrimaryUnavailable
from headroom.model.database import ReplicaProbe
from headroom.reasons import Reason
from tests.failover import fail_over
from tests.unit.reconcilers.replicaset.test_lag_readings import lags, lose_ready, made, standbys
from tests.unit.reconcilers.replicaset.world import LinkingPostgres, World

LONG_BOUND = {"maxReplayLag": "1s", "ejectReplayLag": "120s"}


def stale(world: World) -> tuple[str, str]:
    condition = world.condition("ReadsMayBeStale")
    return condition["status"], condition["reason"]


async def run_until_gone(world: World, name: str, limit: float, *, restart_every: float = 1e9) -> float:
    """Seconds until it leaves the Service; the operator begins anew every so often."""
    began = restarted = world.clock.monotonic()
    while name in world.serving() and world.clock.monotonic() - began < limit:
        await world.run(1)
        if world.clock.monotonic() - restarted >= restart_every:
            world.restart()
            restarted = world.clock.monotonic()
    return world.clock.monotonic() - began


class Flaky(MemoryReplica):
    """A link on which every other question gets no answer."""

    async def probe(self) -> ReplicaProbe:
        probe = await MemoryReplica.probe(self)
        if probe.server_name == FlakyPostgres.name:
            FlakyPostgres.asked += 1
            if FlakyPostgres.asked % 2:
                message = "connection reset"
                raise PrimaryUnavailable(message, reason=Reason.MEMBER_UNREACHABLE)
        return probe


class FlakyPostgres(LinkingPostgres):
    """Gives out such links; `name` is the member that is meant."""

    link_class = Flaky
    name: ClassVar[str] = ""
    asked: ClassVar[int] = 0


class FlakyWorld(World):
    postgres_class = FlakyPostgres


@pytest.mark.parametrize("standbys", [1, 0])
async def test_a_member_that_answers_every_other_time_hides_no_lag(
    standbys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = FlakyWorld()
    world.add_set(replicas=1, standbys=standbys)
    await world.run(40)
    [name] = world.serving()
    monkeypatch.setattr(FlakyPostgres, "name", name)
    world.replica(name).is_paused = True
    seen = []
    for _ in range(60):
        await world.run(0.5)
        seen.append(stale(world)[0])
    turns = sum(one != other for one, other in pairwise(seen))
    if standbys:
        assert name not in world.serving()
        assert turns <= 2
    else:
        assert (name in world.serving(), seen[-1], turns) == (True, "True", 1)


async def test_a_next_reading_that_never_comes_is_not_waited_for_with_fast_passes() -> None:
    world = await made(replicas=1, standbys=0)
    [name] = world.serving()
    world.replica(name).is_paused = True
    while stale(world)[0] == "False":
        await world.one_pass()
        await world.pass_time(0.2)
    world.replica(name).is_hung = True
    await world.run(10)
    pause = await world.one_pass()
    assert pause is not None
    assert pause.total_seconds() >= 1
    assert stale(world)[0] == "True"


@pytest.mark.parametrize("standbys", [1, 0], ids=["a standby", "enough others"])
async def test_a_takeover_makes_no_lag_younger(standbys: int) -> None:
    world = await made(replicas=2, standbys=standbys, readiness=LONG_BOUND)
    name = world.serving()[0]
    world.replica(name).is_paused = True
    await world.run(110)
    assert name in world.serving()
    world.restart()
    assert await run_until_gone(world, name, 60) <= 15


@pytest.mark.parametrize("standbys", [1, 0], ids=["a standby", "enough others"])
@pytest.mark.parametrize("restarts", [1, 2])
async def test_a_takeover_forgets_no_lag_from_before_the_stream_broke(standbys: int, restarts: int) -> None:
    """110 s of lag and 5 s without a stream: the data are 115 s old, whoever counts."""
    world = await made(replicas=2, standbys=standbys, readiness=LONG_BOUND)
    name = world.serving()[0]
    world.replica(name).is_paused = True
    await world.run(105 if restarts == 2 else 110)
    world.replica(name).is_cut_off = True
    await world.run(5)
    for _ in range(restarts):
        assert name in world.serving()
        world.restart()
        await world.run(5 if restarts == 2 else 0)
    assert await run_until_gone(world, name, 60) <= 15 + 5


async def test_nor_is_it_forgotten_where_nobody_can_take_over() -> None:
    world = await made(replicas=1, standbys=0, readiness=LONG_BOUND)
    [name] = world.serving()
    world.replica(name).is_paused = True
    await world.run(110)
    world.replica(name).is_cut_off = True
    await world.run(5)
    world.restart()
    await world.run(20)
    assert stale(world) == ("True", Reason.READS_UNBOUNDED)
    assert name in world.condition("ReadsMayBeStale")["message"]


@pytest.mark.parametrize("is_blinking", [False, True])
async def test_of_one_that_was_current_when_its_stream_broke_it_is_said_after_a_takeover_too(is_blinking: bool) -> None:
    """A member without a stream has no lag in status: its data age from the time in its condition."""
    world = await made(replicas=1, standbys=0, readiness=LONG_BOUND)
    [name] = world.serving()
    world.replica(name).is_cut_off = True
    await world.run(108)
    [member] = world.status["members"]
    assert member.keys() & {"replayLagSeconds", "unreplayedSince"} == set()
    world.restart()
    await world.run(10)
    assert stale(world)[0] == "False"
    world.primary.is_down = is_blinking
    await world.run(2)
    world.primary.is_down = False
    await world.run(5)
    assert stale(world)[0] == "True"
    await world.run(8)
    assert stale(world) == ("True", Reason.READS_UNBOUNDED)


async def test_one_that_streams_from_an_old_primary_ages_through_a_takeover() -> None:
    world = await made(replicas=1, standbys=0, readiness={"maxReplayLag": "1s", "ejectReplayLag": "40s"})
    [name] = world.serving()
    old = fail_over(world, [])
    old.lsn, old.is_down = int(world.primary.forks[0][1]), False
    world.replica(name).upstream = old
    await world.run(33)
    assert stale(world)[0] == "False"
    world.restart()
    await world.run(17)
    assert stale(world) == ("True", Reason.READS_UNBOUNDED)


async def test_neither_do_many() -> None:
    world = await made(replicas=2, standbys=1, readiness=LONG_BOUND)
    name = world.serving()[0]
    world.replica(name).is_paused = True
    assert await run_until_gone(world, name, 400, restart_every=30) <= 120 + 15


async def test_without_a_standby_it_is_said_with_the_seconds_of_both_processes() -> None:
    world = await made(replicas=1, standbys=0)
    [name] = world.serving()
    world.replica(name).is_paused = True
    await world.run(600, step=1)
    world.restart()
    await world.run(5)
    assert stale(world) == ("True", Reason.LAG_PANIC)
    assert lags(world)[name] > 600
    await world.run(15)
    assert f"{name} serves data at least 6" in world.condition("ReadsMayBeStale")["message"]


async def test_a_lag_that_no_status_kept_is_exchanged_for_a_known_one() -> None:
    """As that of a member which replays, and is far behind: all that was written of it is replayed by now."""
    world = await made(replicas=2, standbys=1, readiness=LONG_BOUND)
    name, other = world.serving()
    [standby] = standbys(world)
    world.replica(name).is_paused = True
    world.restart()
    await world.run(9)
    assert sorted(world.serving()) == sorted([name, other])
    await world.run(7)
    assert sorted(world.serving()) == sorted([other, standby])
    assert stale(world)[0] == "False"


async def test_without_a_standby_it_is_said_after_ten_seconds() -> None:
    world = await made(replicas=1, standbys=0, readiness=LONG_BOUND)
    [name] = world.serving()
    world.replica(name).is_paused = True
    world.restart()
    await world.run(25)
    assert world.serving() == [name]
    assert stale(world) == ("True", Reason.REPLAY_LAG_UNKNOWN)
    assert f"the replay lag of {name} is at least" in world.condition("ReadsMayBeStale")["message"]
    world.replica(name).is_paused = False
    await world.run(15)
    assert stale(world)[0] == "False"


async def test_a_blip_of_a_receiver_or_of_the_primary_changes_no_seconds_and_turns_nothing() -> None:
    world = await made(replicas=1, standbys=0)
    [name] = world.serving()
    world.replica(name).is_paused = True
    began = world.clock.monotonic()
    await world.run(300, step=1)
    before = {kind: world.condition(kind)["lastTransitionTime"] for kind in ("ReadsMayBeStale", "Ready")}
    world.replica(name).is_cut_off = True
    await world.run(1)
    world.replica(name).is_cut_off = False
    world.primary.is_down = True
    await world.run(2)
    world.primary.is_down = False
    await world.run(20)
    assert stale(world) == ("True", Reason.LAG_PANIC)
    assert {kind: world.condition(kind)["lastTransitionTime"] for kind in before} == before
    assert lags(world)[name] >= world.clock.monotonic() - began - 3


async def test_a_blip_of_the_primary_turns_nothing_that_is_said_of_a_silent_member() -> None:
    world = await made(replicas=1, standbys=0)
    [name] = world.serving()
    world.replica(name).is_hung = True
    await world.run(30)
    since = world.condition("ReadsMayBeStale")["lastTransitionTime"]
    assert stale(world) == ("True", Reason.LAG_PANIC)
    world.primary.is_down = True
    await world.run(2)
    world.primary.is_down = False
    await world.run(10)
    assert stale(world) == ("True", Reason.LAG_PANIC)
    assert world.condition("ReadsMayBeStale")["lastTransitionTime"] == since


async def test_what_a_member_lacks_is_in_status_while_it_lags_and_no_longer() -> None:
    world = await made(replicas=1, standbys=0)
    [name] = world.serving()
    world.replica(name).is_paused = True
    await world.run(30)
    [member] = world.status["members"]
    assert member["unreplayedPosition"].startswith("1:")
    written = member["unreplayedSince"]
    await world.run(60)
    assert world.status["members"][0]["unreplayedSince"] == written
    world.replica(name).is_paused = False
    await world.run(15)
    assert world.status["members"][0].keys() & {"unreplayedSince", "unreplayedPosition"} == set()


async def test_a_panic_names_every_member_beyond_the_bound_once() -> None:
    world = await made(replicas=2, standbys=0)
    other, name = world.serving()
    for each in (other, name):
        world.replica(each).sessions = [MemorySession() for _ in range(60)]
    databases = tuple(
        replace(database, collations=tuple(replace(each, actual="2.40") for each in database.collations))
        for database in DEFAULT_LIBRARIES.databases
    )
    world.replica(other).libraries = replace(DEFAULT_LIBRARIES, databases=databases)
    await world.run(400, step=1)
    for each in (other, name):
        world.replica(each).is_paused = True
    await world.run(60)
    message = world.condition("ReadsMayBeStale")["message"]
    assert stale(world) == ("True", Reason.LAG_PANIC)
    assert (message.count(f"{other} serves data"), message.count(f"{name} serves data")) == (1, 1)


@pytest.mark.parametrize("trouble", ["is_paused", "is_hung"])
async def test_if_none_is_wanted_a_member_that_does_not_serve_well_leaves(trouble: str) -> None:
    world = await made(replicas=1, standbys=0)
    [name] = world.serving()
    setattr(world.replica(name), trouble, True)
    await world.run(40)
    assert world.serving() == [name]
    world.edit_spec(replicas=0)
    await world.run(10)
    assert world.serving() == []
    assert stale(world)[0] == "False"
    assert world.condition("Ready")["message"].startswith("no replica serves, as wanted")


async def test_before_it_has_left_nobody_says_that_it_has() -> None:
    world = await made(replicas=1, standbys=0)
    [name] = world.serving()
    world.replica(name).is_paused = True
    await world.run(40)
    world.edit_spec(replicas=0)
    await world.one_pass()
    ready = world.condition("Ready")
    assert (ready["status"], ready["message"].partition(";")[0]) == ("True", "1 replica serves, none is wanted")


async def test_a_node_that_takes_primary_replica_and_operator_leaves_the_standby() -> None:
    world = await made(replicas=1, standbys=1)
    [name] = world.serving()
    [standby] = standbys(world)
    world.primary.is_down = True
    lose_ready(world, name)
    world.restart()
    await world.run(30)
    assert standby in world.serving()
    assert stale(world) == ("True", Reason.READS_UNBOUNDED)


async def test_a_second_change_of_leader_in_the_outage_changes_nothing() -> None:
    world = await made(replicas=1, standbys=1)
    [name] = world.serving()
    [standby] = standbys(world)
    world.primary.is_down = True
    await world.run(20)
    world.restart()
    await world.run(20)
    assert world.serving() == [name]
    lose_ready(world, name)
    world.restart()
    await world.run(30)
    assert standby in world.serving()


async def test_a_standby_that_lagged_replaces_nobody_in_a_new_process_either() -> None:
    world = await made(replicas=1, standbys=1)
    [name] = world.serving()
    [standby] = standbys(world)
    world.replica(standby).is_paused = True
    await world.run(30)
    world.primary.is_down = True
    lose_ready(world, name)
    world.restart()
    await world.run(60)
    assert standby not in world.serving()


async def test_a_primary_that_goes_just_before_the_bound_hides_no_old_data() -> None:
    """The replica lags for 9 s, then its stream breaks and the primary is silent for less than an outage takes."""
    world = await made(replicas=1, standbys=0)
    [name] = world.serving()
    world.replica(name).is_paused = True
    await world.run(9)
    world.replica(name).is_cut_off = True
    world.primary.is_down = True
    await world.run(4)
    assert stale(world) == ("True", Reason.REPLAY_LAG_UNKNOWN)
    assert name in world.condition("ReadsMayBeStale")["message"]
    world.primary.is_down = False
    await world.run(3)
    assert stale(world)[0] == "True"


async def test_a_silence_of_the_primary_makes_nobody_younger_who_has_no_stream() -> None:
    """The replica was up to date; its stream breaks with the primary, which is silent for less than an outage takes."""
    world = await made(replicas=1, standbys=0)
    [name] = world.serving()
    world.replica(name).is_cut_off = True
    world.primary.is_down = True
    await world.run(4)
    assert stale(world)[0] == "False"
    world.primary.is_down = False
    await world.run(8)
    assert stale(world) == ("True", Reason.REPLAY_LAG_UNKNOWN)
    assert f"{name} may serve data 1" in world.condition("ReadsMayBeStale")["message"]
    await world.run(6)
    assert stale(world) == ("True", Reason.READS_UNBOUNDED)
    world.replica(name).is_cut_off = False
    await world.run(3)
    assert stale(world)[0] == "False"
