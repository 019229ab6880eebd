from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.reconcilers.servers import Servers
from tests.unit.reconcilers.databaseguard.members import Woken
from tests.unit.reconcilers.databaseguard.world import GuardWorld


@pytest_asyncio.fixture
async def world() -> AsyncIterator[GuardWorld]:
    made = GuardWorld()
    yield made
    await made.close()


@pytest.fixture
def clock() -> MemoryClock:
    return MemoryClock()


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
def servers(clock: MemoryClock, woken: Woken) -> Servers:
    return Servers(clock, wake=woken.append)
