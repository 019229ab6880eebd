"""The two worlds of the PostgreSQL contract."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.contract.postgres.worlds import MemoryContractWorld, RealContractWorld, World
from tests.postgres_installation import find_installations
from tests.postgres_server import NO_SERVER, ServerMaker

REAL = [pytest.param(found, id=str(found), marks=pytest.mark.postgres) for found in find_installations()]
ABSENT = [pytest.param("absent", id="postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session")
def makers() -> Iterator[dict[int, ServerMaker]]:
    """One maker of servers for each major version that was used."""
    made: dict[int, ServerMaker] = {}
    yield made
    for maker in made.values():
        maker.close()


@pytest_asyncio.fixture(params=[pytest.param(None, id="memory"), *(REAL or ABSENT)])
async def world(request: pytest.FixtureRequest, makers: dict[int, ServerMaker]) -> AsyncIterator[World]:
    """A primary with one replica, in memory or real."""
    if request.param is None:
        yield MemoryContractWorld()
        return
    if request.param == "absent":
        pytest.fail(NO_SERVER)
    maker = makers.setdefault(request.param.major, ServerMaker(request.param))
    real = None
    try:
        real = RealContractWorld(maker)
        yield real
    finally:
        if real is not None:
            await real.close_links()
            real.close()
        maker.remove_made()
