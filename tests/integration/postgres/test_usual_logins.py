"""What an honest setup meets: IPv6, and a password that changes while connections are open."""

import pytest

from headroom.errors import PrimaryUnavailable
from headroom.model.database import Credentials
from headroom.ports.postgres import Postgres
from headroom.reasons import Reason
from tests.postgres_server import HBA, QUEUE, Server, ServerMaker


@pytest.fixture
def primary(servers: ServerMaker) -> Server:
    """A primary that listens on both kinds of address."""
    hba = HBA + "host all all ::1/128 scram-sha-256\n"
    return servers.make(listen_addresses="127.0.0.1,::1", hba=hba)


@pytest.mark.parametrize("host", ["::1", "0:0:0:0:0:0:0:1", "localhost", "127.0.0.1"])
async def test_a_server_is_reached_by_each_kind_of_address(postgres: Postgres, primary: Server, host: str) -> None:
    link = await postgres.open_primary(primary.target(host=host))
    assert (await link.identify()).is_direct


async def test_a_password_that_changes_leaves_open_connections_alone(postgres: Postgres, primary: Server) -> None:
    link = await postgres.open_queue(primary.target(QUEUE))
    ask = "SELECT 1 AS one"
    assert await link.query(ask) == [{"one": 1}]
    for password in ("newer", "newer", "x" * 1000, "p\u00c4ss \u6f22\u5b57", QUEUE.password):
        # The same password again has another salt.
        primary.sql(f"ALTER ROLE {QUEUE.username} PASSWORD '{password}'")
        assert await link.query(ask) == [{"one": 1}]
        later = await postgres.open_queue(primary.target(Credentials(QUEUE.username, password)))
        assert await later.query(ask) == [{"one": 1}]
    primary.sql(f"ALTER ROLE {QUEUE.username} PASSWORD 'another'")
    primary.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{QUEUE.username}'")
    with pytest.raises(PrimaryUnavailable) as caught:
        await link.query(ask)
    assert caught.value.reason is Reason.PASSWORD_REJECTED
    again = await postgres.open_queue(primary.target(Credentials(QUEUE.username, "another")))
    assert await again.query(ask) == [{"one": 1}]
