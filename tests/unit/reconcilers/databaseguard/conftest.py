from collections.abc import AsyncIterator

import pytest_asyncio

from tests.unit.reconcilers.databaseguard.world import GuardWorld


@pytest_asyncio.fixture
async def world() -> AsyncIterator[GuardWorld]:
    made = GuardWorld()
    yield made
    await made.close()
