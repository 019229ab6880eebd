"""What a role of the database may do against the guard's hold on its server, and a false server against another's."""

import asyncio
import hashlib
from typing import Any

import pytest

from headroom.ports.postgres import Postgres
from tests.integration.postgres.conftest import Adapters
from tests.postgres_server import APPLICATION, REPLICATION, Server, ServerMaker

NAME = "headroom/{part}/lease/{holder}"


def former_key(installation: str) -> int:
    """The advisory lock that earlier versions took: anybody can compute it from the name of a slot."""
    return int.from_bytes(hashlib.sha256(f"headroom/{installation}".encode()).digest()[:8], "big", signed=True)


async def test_a_role_that_takes_every_advisory_lock_disturbs_nobody(postgres: Postgres, primary: Server) -> None:
    with primary.connect(APPLICATION.username, APPLICATION.password) as attacker:
        for key in (former_key("tests"), former_key("lease"), former_key("contract")):
            attacker.execute("SELECT pg_advisory_lock(%s)", [key])
        link = await postgres.open_primary(primary.target())
        assert (await link.identify()).has_installation_lock
        shown = primary.sql(
            "SELECT classid::bigint AS high, objid::bigint AS low FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE locktype = 'advisory' AND usename LIKE 'headroom%'"
        )
        assert shown == [], "no key is there to be read from pg_locks and waited for"


@pytest.mark.parametrize("part", ["guard", "probes", "canary"])
async def test_a_role_that_bears_our_name_disturbs_nobody(adapters: Adapters, primary: Server, part: str) -> None:
    """An application_name is free to choose: a rival of the same installation, and one that claims to be us."""
    names = [NAME.format(part=part, holder=holder) for holder in ("rival", "one")]
    adapters.fence.is_leading = False
    clients = [primary.connect(APPLICATION.username, APPLICATION.password) for _ in names]
    for client, name in zip(clients, names, strict=True):
        client.execute("SELECT set_config('application_name', %s, false)", [name])
    try:
        postgres = adapters.make()
        slots = await postgres.open_slots(primary.target(), REPLICATION)
        adapters.fence.is_leading = True
        await slots.ensure_slot("hr_a")
        with pytest.raises(Exception, match="not the only one of its installation"):
            await slots.drop_slot("hr_a")
        adapters.fence.is_leading = False
        link = await postgres.open_primary(primary.target())
        assert (await link.identify()).has_installation_lock
        adapters.fence.is_leading = True
        assert await slots.drop_slot("hr_a")
    finally:
        for client in clients:
            client.close()


async def test_a_session_of_the_installation_that_bears_the_guards_login_is_a_rival(
    adapters: Adapters, primary: Server
) -> None:
    """Two processes must never act at once: the one without the lease waits, the leader ends its sessions."""
    first = await adapters.make("one").open_primary(primary.target())
    adapters.fence.is_leading = False
    second = await adapters.make("two").open_primary(primary.target())
    assert not (await first.identify()).has_installation_lock
    assert not (await second.identify()).has_installation_lock
    adapters.fence.is_leading = True
    assert (await first.identify()).has_installation_lock
    assert count(primary, "two") == 0


async def test_a_false_server_cannot_move_the_hold_of_another_guard(
    adapters: Adapters, primary: Server, servers: ServerMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells the identifier and the start of another tenant's primary; both guards belong to one process."""
    postgres = adapters.make()
    real = await postgres.open_primary(primary.target())
    facts = await real.identify()
    false_server = servers.make_anew()
    claim = f"SELECT '{facts.system_identifier}' AS system_identifier, '{facts.started_at}'::timestamptz AS started_at"
    with monkeypatch.context() as patch:
        patch.setattr("headroom.adapters.postgres.sql.SERVER_KEY", claim)
        false_link = await postgres.open_primary(false_server.target())
        await false_link.identify()
    await real.close()
    slots = await postgres.open_slots(primary.target(), REPLICATION)
    await slots.ensure_slot("hr_a")
    with pytest.raises(Exception, match="not the only one"):
        await slots.drop_slot("hr_a")
    again = await postgres.open_primary(primary.target())
    assert (await again.identify()).has_installation_lock
    assert await slots.drop_slot("hr_a"), "each drop follows what its own server sees"


async def test_a_guard_that_only_follows_drops_its_slots(adapters: Adapters, primary: Server) -> None:
    postgres = adapters.make()
    await postgres.open_primary(primary.target(), is_observer=True)
    slots = await postgres.open_slots(primary.target(), REPLICATION)
    await slots.ensure_slot("hr_a")
    assert await slots.drop_slot("hr_a")


async def test_an_older_process_drops_nothing_beside_a_follower_of_the_new_one(
    adapters: Adapters, primary: Server
) -> None:
    old = adapters.make("old")
    await old.open_primary(primary.target(), is_observer=True)
    slots = await old.open_slots(primary.target(), REPLICATION)
    await slots.ensure_slot("hr_a")
    adapters.fence.is_leading = False
    await adapters.make("new").open_primary(primary.target(), is_observer=True)
    adapters.fence.is_leading = True
    with pytest.raises(Exception, match="not the only one"):
        await slots.drop_slot("hr_a")


async def test_the_owner_of_the_database_cannot_end_idle_sessions_by_a_setting(
    postgres: Postgres, primary: Server
) -> None:
    primary.sql("ALTER DATABASE store SET idle_session_timeout = '100ms'")
    primary.sql("ALTER DATABASE store SET default_transaction_isolation = 'serializable'")
    link: Any = await postgres.open_primary(primary.target())
    before = link.probes.backend_pid
    await asyncio.sleep(0.5)
    assert (await link.identify()).has_installation_lock
    assert link.probes.backend_pid == before


def count(server: Server, holder: str) -> int:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'headroom/%%/lease/' || %s"
    return int(server.sql(sql, [holder])[0]["count"])
