"""Real servers, and the adapter over them."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from headroom.adapters.clock import SystemClock
from headroom.adapters.postgres import PsycopgPostgres, SessionNames
from headroom.ports.postgres import Postgres
from tests.contract.postgres.worlds import SwitchFence, TrackedPostgres
from tests.postgres_server import Server, ServerMaker, installation, local_dialer, server_maker, servers

__all__ = ["installation", "server_maker", "servers"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs real servers."""
    for item in items:
        if "tests/integration/postgres" in str(item.path):
            item.add_marker(pytest.mark.postgres)


@dataclass
class Adapters:
    """Makes adapters as different processes of one operator have them; closes what they opened."""

    fence: SwitchFence = field(default_factory=SwitchFence)
    links: list[Any] = field(default_factory=list)

    def make(self, holder: str = "one", lease: str = "lease") -> Postgres:
        made = PsycopgPostgres(SessionNames(lease, holder), self.fence, SystemClock(), dialer=local_dialer())
        return TrackedPostgres(made, self.links)


@pytest_asyncio.fixture
async def adapters() -> AsyncIterator[Adapters]:
    """Adapters of any number of processes."""
    made = Adapters()
    yield made
    for link in made.links:
        await link.close()


@pytest.fixture
def postgres(adapters: Adapters) -> Postgres:
    """The adapter under test."""
    return adapters.make()


@pytest.fixture
def primary(servers: ServerMaker) -> Iterator[Server]:
    """A running primary, set up by headroom-setup.sql."""
    return servers.make()
