"""A server that hangs, restarts, is full, waits for a standby, or changes hands."""

import asyncio
import time

import pytest

from headroom.adapters.postgres import primary as primary_module
from headroom.errors import NotLeading, PrimaryUnavailable
from headroom.model.database import Mark
from headroom.ports.postgres import Postgres, PrimaryLink
from headroom.reasons import Reason
from tests.integration.postgres.conftest import Adapters
from tests.postgres_server import APPLICATION, MONITOR, REPLICATION, Server, ServerMaker

HANG_SECONDS = 5.0


async def test_a_hung_server_holds_nobody_longer_than_its_deadline(postgres: Postgres, primary: Server) -> None:
    link = await postgres.open_primary(primary.target())
    before = await link.identify()
    primary.freeze()
    try:
        for call in (link.identify, link.connections, link.position):
            began = time.monotonic()
            with pytest.raises(PrimaryUnavailable) as caught:
                await call()
            assert caught.value.reason is Reason.PRIMARY_TIMEOUT
            assert time.monotonic() - began < HANG_SECONDS
        began = time.monotonic()
        with pytest.raises(PrimaryUnavailable) as caught:
            await postgres.open_primary(primary.target())
        assert caught.value.reason is Reason.PRIMARY_TIMEOUT
        assert time.monotonic() - began < HANG_SECONDS
    finally:
        primary.thaw()
    after = await link.identify()
    assert after.system_identifier == before.system_identifier
    assert after.has_installation_lock


async def begin_commit_that_waits(link: PrimaryLink) -> asyncio.Task[Mark]:
    """The setting reaches the processes of the server one by one: until then commits do not wait for a standby."""
    for _ in range(20):
        mark = asyncio.create_task(link.mark())
        await asyncio.wait({mark}, timeout=0.5)
        if not mark.done():
            return mark
    raise AssertionError("no commit waits")


async def test_probes_are_not_delayed_by_a_commit_that_hangs(postgres: Postgres, primary: Server) -> None:
    link = await postgres.open_primary(primary.target())
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    primary.sql("SELECT pg_reload_conf()")
    mark = await begin_commit_that_waits(link)
    began = time.monotonic()
    assert (await link.connections()).limit > 0
    assert time.monotonic() - began < 1
    primary.sql("ALTER SYSTEM RESET synchronous_standby_names")
    primary.sql("SELECT pg_reload_conf()")
    answered = await mark
    assert answered.commit_seconds is not None
    assert answered.commit_seconds > 0.4


async def test_a_commit_nobody_acknowledges_is_given_up_and_leaves_no_backend_behind(
    postgres: Postgres, primary: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(primary_module, "GIVE_UP_SECONDS", 1.0)
    link = await postgres.open_primary(primary.target())
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    primary.sql("SELECT pg_reload_conf()")
    mark = await begin_commit_that_waits(link)
    for answered in (await mark, await link.mark(), await link.mark()):
        assert answered.commit_seconds is not None
        assert answered.commit_seconds > 0.9, "what it waited is what it took"
    rows = primary.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'headroom/canary/%'")
    assert rows[0]["count"] == 1


async def test_sessions_that_are_ended_come_back(postgres: Postgres, primary: Server) -> None:
    link = await postgres.open_primary(primary.target())
    slots = await postgres.open_slots(primary.target(), REPLICATION)
    await slots.ensure_slot("hr_a")
    primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'headroom/%'")
    await asyncio.sleep(0.2)
    assert (await link.identify()).has_installation_lock
    assert (await link.mark()).commit_seconds is not None
    assert (await link.connections()).limit > 0
    assert await slots.drop_slot("hr_a")


async def test_a_crash_and_a_restart_pass_by_themselves(postgres: Postgres, primary: Server) -> None:
    link = await postgres.open_primary(primary.target())
    primary.restart()
    assert (await link.identify()).has_installation_lock
    assert (await link.mark()).lsn > 0


async def test_reserved_connections_let_us_in_when_the_server_is_full(postgres: Postgres, servers: ServerMaker) -> None:
    if servers.installation.major < 16:
        pytest.skip("reserved_connections came with PostgreSQL 16")
    server = servers.make(max_connections="20", reserved_connections="5")
    clients = [server.connect(APPLICATION.username, APPLICATION.password) for _ in range(12)]
    try:
        with pytest.raises(PrimaryUnavailable) as caught:
            await postgres.open_primary(server.target(APPLICATION))
        assert caught.value.reason is Reason.NO_CONNECTION_LEFT
        link = await postgres.open_primary(server.target())
        counts = await link.connections()
        assert counts.limit == 20 - 3 - 5
        assert counts.used >= 12
    finally:
        for client in clients:
            client.close()


async def test_a_new_leader_ends_the_old_ones_sessions_and_takes_the_lock(adapters: Adapters, primary: Server) -> None:
    old = await adapters.make("old").open_primary(primary.target())
    assert (await old.identify()).has_installation_lock
    bystander = await adapters.make("other", lease="elsewhere").open_primary(primary.target())
    new = await adapters.make("new").open_primary(primary.target())
    assert (await new.identify()).has_installation_lock
    names = primary.sql(
        "SELECT application_name AS name FROM pg_stat_activity WHERE application_name LIKE 'headroom/%'"
    )
    holders = {row["name"].split("/")[3] for row in names}
    assert holders == {"new", "other"}, "another installation is nobody's business"
    assert (await bystander.identify()).has_installation_lock, "each installation has a lock of its own"


async def test_a_new_leader_ends_old_sessions_that_hold_no_lock(adapters: Adapters, primary: Server) -> None:
    await adapters.make("old").open_slots(primary.target(), REPLICATION)
    adapters.fence.is_leading = False
    new = await adapters.make("new").open_primary(primary.target())
    assert count_sessions(primary, "old") == 1, "without the lease nobody's session is ended"
    adapters.fence.is_leading = True
    assert (await new.identify()).has_installation_lock
    end = time.monotonic() + 5
    while count_sessions(primary, "old"):
        assert time.monotonic() < end, "a session of an older holder lives on beside the new leader"
        await asyncio.sleep(0.05)
    assert count_sessions(primary, "new") == 3


def count_sessions(server: Server, holder: str) -> int:
    found = server.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'headroom/%%/lease/' || %s", [holder]
    )
    return int(found[0]["count"])


@pytest.mark.parametrize("change", ["ensure", "drop", "end"])
async def test_a_lease_lost_while_a_change_waited_stops_the_change(
    adapters: Adapters, primary: Server, change: str
) -> None:
    postgres = adapters.make()
    link = await postgres.open_primary(primary.target())
    slots = await postgres.open_slots(primary.target(), REPLICATION)
    member = await postgres.open_replica(primary.target())
    await slots.ensure_slot("hr_kept")
    client = primary.connect(APPLICATION.username, APPLICATION.password)
    changes = {
        "ensure": lambda: slots.ensure_slot("hr_new"),
        "drop": lambda: slots.drop_slot("hr_kept"),
        "end": lambda: member.end_sessions(only_idle=False),
    }
    primary.freeze()
    try:
        waiting = asyncio.ensure_future(changes[change]())
        await asyncio.sleep(0.3)
        adapters.fence.is_leading = False
    finally:
        primary.thaw()
    with pytest.raises(NotLeading):
        await waiting
    assert [slot.name for slot in await link.slots("hr_")] == ["hr_kept"]
    assert client.execute("SELECT 1 AS one").fetchall() == [{"one": 1}]
    client.close()


async def test_a_slot_is_not_dropped_by_a_process_that_lost_the_lock(adapters: Adapters, primary: Server) -> None:
    old = adapters.make("old")
    await old.open_primary(primary.target())
    slots = await old.open_slots(primary.target(), REPLICATION)
    await slots.ensure_slot("hr_kept")
    new = await adapters.make("new").open_primary(primary.target())
    assert (await new.identify()).has_installation_lock
    with pytest.raises(PrimaryUnavailable) as caught:
        await slots.drop_slot("hr_kept")
    assert caught.value.reason is Reason.GUARD_NOT_READY
    assert [slot.name for slot in await new.slots("hr_")] == ["hr_kept"]


async def test_a_clone_with_the_same_identifier_has_a_lock_of_its_own(
    postgres: Postgres, primary: Server, servers: ServerMaker
) -> None:
    clone = servers.make_replica(primary)
    clone.sql("SELECT pg_promote()")
    one, other = await postgres.open_primary(primary.target()), await postgres.open_primary(clone.target())
    first, second = await one.identify(), await other.identify()
    assert first.system_identifier == second.system_identifier
    assert first.started_at != second.started_at
    assert first.has_installation_lock
    assert second.has_installation_lock
    for server in (primary, clone):
        slots = await postgres.open_slots(server.target(), REPLICATION)
        await slots.ensure_slot("hr_a")
        assert await slots.drop_slot("hr_a"), "each drop is guarded by the lock on its own server"


async def test_a_promoted_server_moves_the_timeline_at_once(
    postgres: Postgres, primary: Server, servers: ServerMaker
) -> None:
    replica = servers.make_replica(primary)
    member = await postgres.open_replica(replica.target())
    replica.sql("SELECT pg_promote()")
    link = await postgres.open_primary(replica.target())
    facts = await link.identify()
    assert facts.timeline == 2, "the control file still says 1 until the next checkpoint"
    mark = await link.mark()
    assert (mark.timeline, mark.system_identifier) == (2, facts.system_identifier)
    assert not (await member.probe()).is_in_recovery


async def test_a_demoted_server_refuses_its_canary(postgres: Postgres, primary: Server, servers: ServerMaker) -> None:
    replica = servers.make_replica(primary)
    link = await postgres.open_primary(primary.target())
    primary.stop()
    (primary.data / "standby.signal").touch()
    primary.start()
    assert replica.sql("SELECT 1")
    assert (await link.identify()).is_in_recovery
    for call in (link.mark, link.position):
        with pytest.raises(PrimaryUnavailable) as caught:
            await call()
        assert caught.value.reason is Reason.NOT_A_PRIMARY


async def test_a_base_backup_is_seen_under_its_own_name(
    postgres: Postgres, primary: Server, servers: ServerMaker
) -> None:
    link = await postgres.open_primary(primary.target())
    conninfo = (
        f"host=127.0.0.1 port={primary.port} user={REPLICATION.username} password={REPLICATION.password}"
        " application_name=hr_copy"
    )
    copy = servers.spawn(
        primary, "pg_basebackup", "-d", conninfo, "-D", str(primary.folder / "copy"), "--max-rate=2M",
        "--checkpoint=fast", "--no-sync", "--progress",
    )  # fmt: skip
    try:
        end = time.monotonic() + 15
        seen = []
        while not any(backup.streamed_bytes > 0 for backup in seen):
            assert time.monotonic() < end, primary.log.read_text()
            await asyncio.sleep(0.1)
            seen = list(await link.backups())
    finally:
        copy.kill()
        copy.wait(10)
    assert [backup.application_name for backup in seen] == ["hr_copy"]
    assert seen[0].phase == "streaming database files"
    assert seen[0].total_bytes > seen[0].streamed_bytes


async def test_three_connections_and_no_more(postgres: Postgres, primary: Server) -> None:
    link = await postgres.open_primary(primary.target())
    for _ in range(3):
        await asyncio.gather(link.identify(), link.mark(), link.connections(), link.slots("hr_"), link.position())
    rows = primary.sql(
        "SELECT split_part(application_name, '/', 2) AS role, count(*) FROM pg_stat_activity"
        f" WHERE usename = '{MONITOR.username}' GROUP BY 1 ORDER BY 1"
    )
    assert rows == [{"role": role, "count": 1} for role in ("canary", "guard", "probes")]


async def test_a_changed_parameter_is_seen_when_it_is_read_again(
    postgres: Postgres, primary: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await postgres.open_primary(primary.target())
    before = (await link.identify()).settings
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    primary.sql("SELECT pg_reload_conf()")
    await asyncio.sleep(0.3)
    assert (await link.identify()).settings == before, "not read every second"
    monkeypatch.setattr(primary_module, "SETTINGS_EVERY_SECONDS", 0.0)
    assert (await link.identify()).settings["synchronous_standby_names"] == "nobody"


async def test_search_path_is_pinned(postgres: Postgres, primary: Server) -> None:
    primary.sql(f'ALTER ROLE "{MONITOR.username}" SET search_path = evil, public')
    primary.sql("CREATE SCHEMA evil")
    primary.sql(
        "CREATE FUNCTION evil.pg_current_wal_flush_lsn() RETURNS pg_lsn LANGUAGE sql AS $$ SELECT '0/1'::pg_lsn $$"
    )
    link = await postgres.open_primary(primary.target())
    assert (await link.position()).lsn > 1
