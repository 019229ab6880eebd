"""What every implementation of PrimaryLink and Postgres promises."""

import pytest

from headroom.errors import PrimaryUnavailable
from headroom.model.database import Credentials, LimitedConnections
from headroom.reasons import Reason
from tests.contract.postgres.worlds import World
from tests.postgres_server import APPLICATION, DATABASE, MONITOR


async def test_identify_tells_who_the_server_is(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    facts = await link.identify()
    assert facts.system_identifier.isdigit()
    assert not facts.is_in_recovery
    assert facts.timeline == 1
    assert 14 <= facts.major <= 18
    assert facts.flush_lsn is not None
    assert facts.flush_lsn > 0
    assert int(facts.settings["max_connections"]) > 0
    assert facts.settings["full_page_writes"] == "on"
    assert facts.settings["synchronous_standby_names"] == ""
    assert facts.is_direct
    assert facts.missing_rights == ()
    assert not facts.has_user_tablespaces
    assert not facts.is_superuser
    assert facts.has_installation_lock


async def test_identify_tells_when_the_server_started_and_where_it_was_reached(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    facts, target = await link.identify(), world.target()
    assert facts.started_at is not None
    assert facts.started_at.tzinfo is not None
    assert facts.address == f"{target.host}:{target.port}"
    assert (await link.identify()).started_at == facts.started_at
    world.stop()
    world.start()
    assert (await link.identify()).started_at != facts.started_at, "the postmaster is another one"


async def test_a_mark_follows_the_canarys_own_commit(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    before, started = await link.position(), world.now()
    mark = await link.mark()
    assert mark.lsn > before.lsn, "an idle primary moves by its canary"
    assert mark.commit_seconds is not None
    assert 0 <= mark.commit_seconds < 5
    assert started <= mark.taken_at <= world.now()
    facts = await link.identify()
    assert (mark.system_identifier, mark.timeline) == (facts.system_identifier, facts.timeline)


async def test_a_position_writes_nothing(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    first = await link.position()
    second = await link.position()
    assert second.lsn == first.lsn
    assert second.commit_seconds is None
    assert second.taken_at >= first.taken_at


async def test_connections_are_counted(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    before = await link.connections()
    world.open_session(on_replica=False)
    world.open_session(on_replica=False, state="active")
    world.open_session(on_replica=False, state="idle in transaction")

    async def is_counted() -> bool:
        after = await link.connections()
        return (
            after.used == before.used + 3
            and after.active == before.active + 1
            and after.idle_in_transaction == before.idle_in_transaction + 1
            and after.limit == before.limit
        )

    await world.eventually(is_counted)
    facts = await link.identify()
    assert before.limit == int(facts.settings["max_connections"]) - 3
    assert before.lock_waiters == 0


async def test_connections_are_counted_by_role_and_database_with_their_limits(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    assert (await link.connections()).roles.get(APPLICATION.username) is None
    world.limit_connections(role=7, database=30)
    counts = await link.connections()
    assert counts.roles[APPLICATION.username] == LimitedConnections(0, 7), "known before the first session"
    world.open_session(on_replica=False)
    world.open_session(on_replica=False, state="active")

    async def is_counted() -> bool:
        counts = await link.connections()
        is_same = counts.roles[APPLICATION.username] == LimitedConnections(2, 7)
        return is_same and counts.databases[DATABASE].used >= 2

    await world.eventually(is_counted)
    assert (await link.connections()).databases[DATABASE].limit == 30
    world.limit_connections(role=None, database=None)
    counts = await link.connections()
    assert (counts.roles[APPLICATION.username].limit, counts.databases[DATABASE].limit) == (None, None)


async def test_what_there_is_to_copy_is_known(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    assert 10 * 1024**2 < await link.data_bytes() < 1024**3


async def test_no_backup_streams(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    assert list(await link.backups()) == []


@pytest.mark.parametrize(
    ("credentials", "changes", "reason"),
    [
        (Credentials(MONITOR.username, "wrong"), {}, Reason.PASSWORD_REJECTED),
        (Credentials("nobody-at-all", "x"), {}, Reason.PASSWORD_REJECTED),
        (MONITOR, {"host": "nowhere.invalid"}, Reason.HOST_NOT_FOUND),
        (MONITOR, {"database": "nothing"}, Reason.DATABASE_NOT_FOUND),
    ],
    ids=["wrong password", "unknown role", "unknown host", "unknown database"],
)
async def test_a_login_that_fails_says_why(
    world: World, credentials: Credentials, changes: dict[str, str], reason: Reason
) -> None:
    with pytest.raises(PrimaryUnavailable) as caught:
        await world.postgres.open_primary(world.target(credentials, **changes))
    assert caught.value.reason is reason
    assert credentials.password not in str(caught.value) or len(credentials.password) < 2


async def test_a_server_that_is_down_is_unreachable_and_comes_back_by_itself(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    await link.mark()
    world.stop()
    for call in (link.identify, link.mark, link.connections):
        with pytest.raises(PrimaryUnavailable) as caught:
            await call()
        assert caught.value.reason is Reason.PRIMARY_UNREACHABLE
    with pytest.raises(PrimaryUnavailable):
        await world.postgres.open_primary(world.target())
    world.start()
    facts = await link.identify()
    assert facts.has_installation_lock, "the lock is taken again after a restart"
    assert (await link.mark()).system_identifier == facts.system_identifier
    assert (await link.connections()).limit > 0


async def test_a_standby_is_not_a_primary(world: World) -> None:
    with pytest.raises(PrimaryUnavailable) as caught:
        await world.postgres.open_primary(world.replica_target())
    assert caught.value.reason is Reason.NOT_A_PRIMARY


async def test_missing_rights_are_named_and_do_not_stop_the_rest(world: World) -> None:
    world.revoke("pg_monitor")
    world.revoke("pg_signal_backend")
    link = await world.postgres.open_primary(world.target())
    assert (await link.identify()).missing_rights == ("pg_monitor", "pg_signal_backend")
    assert (await link.mark()).lsn > 0
    assert (await link.connections()).limit > 0


async def test_no_connection_left_is_told_apart(world: World) -> None:
    world.fill_connections()
    with pytest.raises(PrimaryUnavailable) as caught:
        await world.postgres.open_primary(world.target(APPLICATION))
    assert caught.value.reason is Reason.NO_CONNECTION_LEFT


async def test_links_that_are_open_outlast_a_full_server(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    world.fill_connections()
    counts = await link.connections()
    assert counts.used >= counts.limit
    assert (await link.mark()).commit_seconds is not None


async def test_the_lock_is_one_processs_at_a_time(world: World) -> None:
    other = world.other_process()
    first = await world.postgres.open_primary(world.target())
    world.fence.is_leading = False
    second = await other.open_primary(world.target())
    assert not (await second.identify()).has_installation_lock, "a process that does not lead takes nothing over"
    await first.close()

    async def takes_it() -> bool:
        return (await second.identify()).has_installation_lock

    await world.eventually(takes_it)


async def test_two_links_of_one_process_share_the_lock(world: World) -> None:
    first = await world.postgres.open_primary(world.target())
    second = await world.postgres.open_primary(world.target())
    assert (await first.identify()).has_installation_lock
    assert (await second.identify()).has_installation_lock
    await second.close()
    assert (await first.identify()).has_installation_lock


async def test_an_observer_identifies_and_reads_without_the_lock(world: World) -> None:
    link = await world.postgres.open_primary(world.target(), is_observer=True)
    facts = await link.identify()
    assert facts.system_identifier.isdigit()
    assert not facts.has_installation_lock
    assert (await link.connections()).limit > 0
    assert (await link.position()).lsn > 0
    other = await world.other_process().open_primary(world.target())
    assert (await other.identify()).has_installation_lock, "an observer is in nobody's way"


async def test_an_observer_takes_over_and_steps_down(world: World) -> None:
    link = await world.postgres.open_primary(world.target(), is_observer=True)
    assert await link.take_over()
    assert (await link.identify()).has_installation_lock
    assert (await link.mark()).commit_seconds is not None
    await link.step_down()
    assert (await link.connections()).limit > 0
    assert await link.take_over(), "as often as it has to"
    assert (await link.mark()).commit_seconds is not None


async def test_an_observer_has_the_lock_that_another_link_of_its_process_holds(world: World) -> None:
    holder = await world.postgres.open_primary(world.target())
    observer = await world.postgres.open_primary(world.target(), is_observer=True)
    assert (await observer.identify()).has_installation_lock
    await observer.close()
    assert (await holder.identify()).has_installation_lock


async def test_an_observer_is_told_of_a_wrong_login_and_of_a_standby_as_well(world: World) -> None:
    with pytest.raises(PrimaryUnavailable) as caught:
        await world.postgres.open_primary(world.target(Credentials(MONITOR.username, "wrong")), is_observer=True)
    assert caught.value.reason is Reason.PASSWORD_REJECTED
    with pytest.raises(PrimaryUnavailable) as caught:
        await world.postgres.open_primary(world.replica_target(), is_observer=True)
    assert caught.value.reason is Reason.NOT_A_PRIMARY


async def test_a_closed_link_stays_closed(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    await link.close()
    with pytest.raises(PrimaryUnavailable):
        await link.identify()
