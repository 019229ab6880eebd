"""What every implementation of ReplicaLink promises, and that the LSN round trip holds over it."""

import pytest

from headroom.errors import NotLeading, PrimaryUnavailable, Refused
from headroom.model.database import ReplicaProbe
from headroom.policy.replicaset.replay_lag import NotEligible, ReplayLag, measure_replay_lag
from headroom.ports.postgres import PrimaryLink, ReplicaLink
from headroom.reasons import Reason
from tests.contract.postgres.worlds import REPLICA_NAME, World


async def open_both(world: World) -> tuple[PrimaryLink, ReplicaLink]:
    return await world.postgres.open_primary(world.target()), await world.postgres.open_replica(world.replica_target())


async def test_a_replica_follows_the_primary(world: World) -> None:
    primary, replica = await open_both(world)
    facts = await primary.identify()
    mark = await primary.mark()

    async def has_replayed() -> bool:
        probe = await replica.probe()
        return probe.is_streaming and probe.replay_lsn is not None and probe.replay_lsn >= mark.lsn

    await world.eventually(has_replayed)
    probe = await replica.probe()
    assert probe.server_name == REPLICA_NAME
    assert probe.is_in_recovery
    assert probe.system_identifier == facts.system_identifier
    assert probe.timeline == facts.timeline
    assert probe.version == facts.version
    assert not probe.is_replay_paused
    assert (probe.transactions is None) is (probe.version < 150_000)
    assert probe.receive_lsn is not None
    assert probe.replay_lsn is not None
    assert probe.receive_lsn >= probe.replay_lsn
    assert probe.max_connections == (await primary.connections()).limit, "without what is reserved"
    assert probe.probed_at <= probe.answered_at <= world.now()


async def test_lag_is_small_while_replay_runs_and_grows_while_it_is_paused(world: World) -> None:
    primary, replica = await open_both(world)

    async def is_caught_up() -> bool:
        mark = await primary.mark()
        lag = measure_replay_lag([mark], await replica.probe(), world.now())
        return isinstance(lag, ReplayLag) and lag.bytes == 0 and lag.seconds < 1

    await world.eventually(is_caught_up)
    world.pause_replay(is_paused=True)
    marks = [await primary.mark()]
    world.write()
    marks.append(await primary.mark())
    paused = await replica.probe()
    assert paused.is_replay_paused
    lag = measure_replay_lag(marks, paused, world.now())
    assert isinstance(lag, ReplayLag)
    assert lag.pending is not None
    assert lag.bytes >= 8000
    world.pause_replay(is_paused=False)
    await world.eventually(is_caught_up)


async def test_a_replica_sends_no_copy_unless_one_is_made(world: World) -> None:
    _, replica = await open_both(world)
    assert list(await replica.backups()) == []


async def test_a_promoted_replica_is_never_eligible(world: World) -> None:
    primary, replica = await open_both(world)
    mark = await primary.mark()
    world.promote()

    async def is_out() -> bool:
        return not (await replica.probe()).is_in_recovery

    await world.eventually(is_out)
    verdict = measure_replay_lag([mark], await replica.probe(), world.now())
    assert isinstance(verdict, NotEligible)
    assert verdict.reason is Reason.MEMBER_PROMOTED


async def test_a_replica_that_is_cut_off_is_not_eligible(world: World) -> None:
    primary, replica = await open_both(world)
    mark = await primary.mark()
    world.cut_off()

    async def is_cut_off() -> bool:
        return not (await replica.probe()).is_streaming

    await world.eventually(is_cut_off)
    verdict = measure_replay_lag([mark], await replica.probe(), world.now())
    assert isinstance(verdict, NotEligible)
    assert verdict.reason is Reason.NOT_STREAMING


async def test_sessions_are_those_of_clients_alone(world: World) -> None:
    _, replica = await open_both(world)
    assert (await replica.probe()).sessions == 0, "our own connection is no session"
    world.open_session(on_replica=True)
    world.open_session(on_replica=True, state="active")

    async def are_counted() -> bool:
        probe: ReplicaProbe = await replica.probe()
        return (probe.sessions, probe.active_sessions) == (2, 1)

    await world.eventually(are_counted)


async def test_idle_sessions_end_and_working_ones_stay(world: World) -> None:
    _, replica = await open_both(world)
    idle = world.open_session(on_replica=True)
    active = world.open_session(on_replica=True, state="active")
    in_transaction = world.open_session(on_replica=True, state="idle in transaction")

    async def are_seen() -> bool:
        return (await replica.probe()).active_sessions == 1

    await world.eventually(are_seen)
    assert await replica.end_sessions(only_idle=True) == 1

    async def is_gone() -> bool:
        return not idle()

    await world.eventually(is_gone)
    assert active()
    assert in_transaction()
    assert await replica.end_sessions(only_idle=False) == 2

    async def all_are_gone() -> bool:
        return not active() and not in_transaction()

    await world.eventually(all_are_gone)
    assert (await replica.probe()).is_in_recovery, "our own connection was not ended"


async def test_a_superusers_session_is_never_ended(world: World) -> None:
    _, replica = await open_both(world)
    person = world.open_session(on_replica=True, is_superuser=True)
    assert await replica.end_sessions(only_idle=False) == 0
    assert person()


async def test_without_the_lease_no_session_is_ended(world: World) -> None:
    _, replica = await open_both(world)
    client = world.open_session(on_replica=True)
    world.fence.is_leading = False
    with pytest.raises(NotLeading):
        await replica.end_sessions(only_idle=False)
    assert client()

    async def is_seen_alone() -> bool:
        # A session that another test closed may take a moment to end; looking needs no lease.
        return (await replica.probe()).sessions == 1

    await world.eventually(is_seen_alone)


async def test_without_the_right_to_end_sessions_the_grant_is_named(world: World) -> None:
    _, replica = await open_both(world)
    world.revoke("pg_signal_backend")
    client = world.open_session(on_replica=True)

    async def is_refused() -> bool:
        try:
            await replica.end_sessions(only_idle=False)
        except Refused as error:
            return error.reason is Reason.MISSING_RIGHT
        return False

    if client():
        await world.eventually(is_refused)


async def test_a_replica_that_is_not_there_is_unreachable(world: World) -> None:
    with pytest.raises(PrimaryUnavailable) as caught:
        await world.postgres.open_replica(world.target(port=1))
    assert caught.value.reason in {Reason.PRIMARY_UNREACHABLE, Reason.HOST_NOT_FOUND}
