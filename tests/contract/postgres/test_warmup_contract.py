"""What every implementation of WarmupLink promises."""

import pytest

from headroom.errors import PrimaryUnavailable, Refused
from headroom.model.warmup import BlockRange, batch
from headroom.ports.postgres import WarmupLink
from headroom.reasons import Reason
from tests.contract.postgres.worlds import HOT_BLOCKS, REPLICA_NAME, World
from tests.postgres_server import WARMUP

ALL = 10_000


@pytest.fixture(autouse=True)
def _allow(world: World) -> None:
    world.allow_warmup()


async def open_link(world: World) -> WarmupLink:
    return await world.postgres.open_warmup(world.replica_target(WARMUP))


def of(relation: int, found: tuple[BlockRange, ...]) -> list[BlockRange]:
    return [each for each in found if each.relation == relation]


async def test_it_says_who_it_is_and_how_much_its_cache_holds(world: World) -> None:
    assert await (await open_link(world)).describe() == (REPLICA_NAME, 2048)


async def test_what_is_hot_is_read_as_ranges_and_read_into_an_empty_cache(world: World) -> None:
    oid, file = world.heat()
    hot = of(oid, await (await open_link(world)).read_hot(ALL))
    assert {each.file for each in hot} == {file}
    assert sum(each.blocks for each in hot) == HOT_BLOCKS
    assert sorted((each.first, each.last) for each in hot) == [(0, 255), (256, HOT_BLOCKS - 1)]
    world.restart_replica()
    link = await open_link(world)
    assert of(oid, await link.read_hot(ALL)) == []
    for _ in range(2):
        assert sum([await link.warm(ranges) or 0 for ranges in batch(hot)]) == HOT_BLOCKS
    assert sum(each.blocks for each in of(oid, await link.read_hot(ALL))) == HOT_BLOCKS, "twice used is hot"


async def test_no_more_blocks_than_were_asked_for(world: World) -> None:
    world.heat()
    found = await (await open_link(world)).read_hot(260)
    assert found
    assert sum(each.blocks for each in found) <= 260


async def test_blocks_beyond_the_end_are_left_out(world: World) -> None:
    oid, file = world.heat()
    link = await open_link(world)
    assert await link.warm([BlockRange(oid, file, HOT_BLOCKS - 10, HOT_BLOCKS + 100)]) == 10
    assert await link.warm([BlockRange(oid, file, HOT_BLOCKS, HOT_BLOCKS + 1)]) == 0


async def test_a_locked_relation_is_not_waited_for(world: World) -> None:
    oid, file = world.heat()
    link = await open_link(world)
    world.lock_relation()
    began = world.now()
    assert await link.warm([BlockRange(oid, file, 0, 9)]) is None
    assert world.now() - began < 1.0
    assert (await link.describe())[0] == REPLICA_NAME, "the connection goes on"


async def test_a_relation_with_another_file_is_another_one(world: World) -> None:
    oid, file = world.heat()
    link = await open_link(world)
    world.rewrite_relation()
    assert await link.warm([BlockRange(oid, file, 0, 9)]) is None
    assert await link.warm([BlockRange(999_999, 999_999, 0, 9)]) is None


@pytest.mark.parametrize("extension", ["pg_buffercache", "pg_prewarm"])
async def test_a_missing_extension_is_refused_by_name(world: World, extension: str) -> None:
    link = await open_link(world)
    world.drop_extension(extension)
    with pytest.raises(Refused, match=f"no extension {extension}") as caught:
        await link.describe()
    assert caught.value.reason is Reason.EXTENSION_MISSING


async def test_a_login_that_may_not_read_is_refused(world: World) -> None:
    link = await open_link(world)
    world.revoke_reading()
    with pytest.raises(Refused, match="pg_read_all_data") as caught:
        await link.read_hot(ALL)
    assert caught.value.reason is Reason.MISSING_RIGHT


async def test_nothing_is_called_on_a_server_that_is_no_replica(world: World) -> None:
    with pytest.raises(PrimaryUnavailable) as caught:
        await (await world.postgres.open_warmup(world.target(WARMUP))).describe()
    assert caught.value.reason is Reason.MEMBER_PROMOTED
