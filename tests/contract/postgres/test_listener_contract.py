"""What every listener of a queue's notifications does: hears its channels, wakes at once, and recovers from a loss."""

import asyncio

import pytest

from headroom.errors import PrimaryUnavailable
from headroom.ports.postgres import QueueListener
from headroom.reasons import Reason
from tests.contract.postgres.worlds import World
from tests.postgres_server import APPLICATION, DATABASE

ONE, TWO, OTHER = "procrastinate_queue_v1#commands", "procrastinate_queue_v1#Mails é", "unrelated"
LONG = 20.0
"""Never waited for."""
SOON = 0.05


async def listen(world: World, listener: QueueListener, *channels: str) -> "asyncio.Task[frozenset[str]]":
    """Wait for channels, and return once that has begun on the server."""
    assert await listener.wait(channels, 0.01) == frozenset()
    task = asyncio.create_task(listener.wait(channels, LONG))
    await asyncio.sleep(SOON)
    assert not task.done()
    return task


@pytest.fixture
async def listener(world: World) -> QueueListener:
    found = (await world.postgres.open_queue(world.target(APPLICATION))).open_listener()
    world.links.append(found)
    return found


async def test_a_notification_ends_the_wait_and_names_its_channel(world: World, listener: QueueListener) -> None:
    task = await listen(world, listener, ONE, TWO)
    world.notify(OTHER)
    world.notify(TWO)
    assert await asyncio.wait_for(task, LONG) == {TWO}
    assert listener.address.endswith(f"/{DATABASE}")


async def test_what_comes_between_two_waits_is_heard_by_the_next(world: World, listener: QueueListener) -> None:
    await listener.wait({ONE, TWO}, 0.01)
    for _ in range(500):
        world.notify(ONE)
    world.notify(TWO)
    heard: set[str] = set()

    async def has_both() -> bool:
        heard.update(await listener.wait({ONE, TWO}, SOON))
        return heard == {ONE, TWO}

    await world.eventually(has_both)
    assert await listener.wait({ONE, TWO}, SOON) == frozenset(), "five hundred are one"


async def test_channels_can_change(world: World, listener: QueueListener) -> None:
    await listener.wait({ONE}, 0.01)
    task = await listen(world, listener, TWO)
    world.notify(ONE)
    world.notify(TWO)
    assert await asyncio.wait_for(task, LONG) == {TWO}


async def test_a_wait_that_is_cancelled_leaves_the_listener_usable(world: World, listener: QueueListener) -> None:
    task = await listen(world, listener, ONE)
    task.cancel()
    await asyncio.wait({task})
    task = await listen(world, listener, ONE)
    world.notify(ONE)
    assert await asyncio.wait_for(task, LONG) == {ONE}


async def test_a_server_that_goes_away_is_an_error_and_can_be_listened_to_again(
    world: World, listener: QueueListener
) -> None:
    task = await listen(world, listener, ONE)
    world.stop()
    with pytest.raises(PrimaryUnavailable):
        await asyncio.wait_for(task, LONG)
    with pytest.raises(PrimaryUnavailable) as caught:
        await listener.wait({ONE}, SOON)
    assert caught.value.reason in {Reason.PRIMARY_UNREACHABLE, Reason.PRIMARY_TIMEOUT}
    world.start()
    task = await listen(world, listener, ONE)
    world.notify(ONE)
    assert await asyncio.wait_for(task, LONG) == {ONE}


async def test_a_closed_listener_is_closed(world: World, listener: QueueListener) -> None:
    await listener.wait({ONE}, 0.01)
    await listener.close()
    with pytest.raises(PrimaryUnavailable):
        await listener.wait({ONE}, SOON)
