"""A reading of all databases holds one connection at a time: a server has few of them for the operator."""

from dataclasses import replace

from headroom.adapters.postgres.connection import PinnedConnection
from headroom.adapters.postgres.libraries import LIBRARY_OPTIONS, read_libraries
from tests.postgres_server import ServerMaker, local_dialer


async def test_no_connection_is_open_beside_another(servers: ServerMaker) -> None:
    server = servers.make()
    home, names = server.target().database, ["a_first", "shop", "z_last"]
    for name in names:
        server.sql(f"CREATE DATABASE {name}")
    server.sql("ALTER DATABASE shop ALLOW_CONNECTIONS true CONNECTION LIMIT 0")
    opened: list[PinnedConnection] = []

    def pin(database: str) -> PinnedConnection:
        assert not any(connection.is_open for connection in opened), "another one is still open"
        target = replace(server.target(), database=database)
        opened.append(PinnedConnection(target, "headroom/libraries/lease/one", LIBRARY_OPTIONS, dialer=local_dialer()))
        return opened[-1]

    found = await read_libraries(pin, home)
    assert {database.name for database in found.databases} >= {home, *names}
    assert [database.name for database in found.databases if database.unread] == ["shop"]
    assert not any(connection.is_open for connection in opened)
