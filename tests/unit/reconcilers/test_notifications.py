"""Notifications make samples due at once, and never more than two a second for a database."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from headroom.adapters.inmemory.clock import MemoryClock, settle
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_server import MemoryRole, MemoryServer
from headroom.model.database import ConnectionTarget, Credentials
from headroom.ports.kube import WORKER_POOL, ObjectRef
from headroom.ports.postgres import QueueLink
from headroom.reconcilers.notifications import (
    CONNECTED_SECONDS,
    LEAST_PAUSE_SECONDS,
    MOST_PAUSE_SECONDS,
    REFUSED_RETRY_SECONDS,
    RETRY_SECONDS,
    SAMPLE_SHARE,
    QueueNotifications,
)

LOGIN = Credentials("shop", "secret")
CHANNEL = "jobs"


class OpenFence:
    def check(self, timeout_seconds: float) -> None:
        """Always leads."""


def pool(name: str = "mail", namespace: str = "shop") -> ObjectRef:
    return ObjectRef(WORKER_POOL, namespace, name)


@dataclass
class Hall:
    """A database with a queue, and the pools that were woken, with when."""

    clock: MemoryClock = field(default_factory=MemoryClock)
    woken: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.postgres = MemoryPostgres(self.clock, OpenFence())
        self.server = self.postgres.add(MemoryServer("db", roles={LOGIN.username: MemoryRole(LOGIN.password)}))
        self.notifications = QueueNotifications(self.clock, self._hear)

    def _hear(self, ref: ObjectRef) -> None:
        self.woken.append((round(self.clock.monotonic(), 3), ref.name))

    async def open(self, login: Credentials = LOGIN) -> QueueLink:
        return await self.postgres.open_queue(ConnectionTarget("db", 5432, "store", login))

    async def follow(
        self, ref: ObjectRef, link: QueueLink, *channels: str, seconds: float = 0.005, ago: float = 0.0
    ) -> None:
        """A pass of a pool, whose sample was asked for so long ago."""
        at = self.clock.monotonic() - ago
        await self.notifications.follow(ref, link, channels or (CHANNEL,), sampled_at=at, seconds=seconds)
        await settle()

    async def notify(self, channel: str = CHANNEL) -> None:
        self.server.notify(channel)
        await settle()

    def tasks(self) -> int:
        """Connections that are listened on."""
        return sum(getattr(task.get_coro(), "__name__", "") == "_run" for task in asyncio.all_tasks())


@pytest_asyncio.fixture
async def hall() -> AsyncIterator[Hall]:
    found = Hall()
    yield found
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def test_a_notification_wakes_the_pool_at_once(hall: Hall) -> None:
    await hall.follow(pool(), await hall.open())
    await hall.clock.advance(3.0)
    await hall.notify("other")
    assert hall.woken == []
    await hall.notify()
    assert hall.woken == [(3.0, "mail")]


async def test_a_flood_is_two_extra_samples_a_second(hall: Hall) -> None:
    await hall.follow(pool(), await hall.open())
    for _ in range(1000):
        await hall.notify()
        await hall.clock.advance(0.01)
    times = [at for at, _ in hall.woken]
    assert times[:3] == [0.0, 0.5, 1.0]
    assert len(times) <= 2 * 10 + 1
    await hall.clock.advance(60.0)
    assert len(hall.woken) <= len(times) + 1, "one more for what came last"


async def test_pools_of_one_database_share_the_rate_and_take_turns(hall: Hall) -> None:
    for name in ("a", "b", "c"):
        await hall.follow(pool(name), await hall.open())
    await hall.notify()
    await hall.clock.advance(5.0)
    assert hall.woken == [(0.0, "a"), (0.5, "b"), (1.0, "c")]


async def test_a_sample_taken_meanwhile_needs_no_extra_one(hall: Hall) -> None:
    links = {name: await hall.open() for name in ("a", "b", "c")}
    for name, link in links.items():
        await hall.follow(pool(name), link)
    await hall.notify()
    await hall.clock.advance(0.2)
    await hall.follow(pool("b"), links["b"])
    await hall.follow(pool("c"), links["c"], ago=0.3)
    await hall.clock.advance(5.0)
    assert [name for _, name in hall.woken] == ["a", "c"], "c's sample was asked for before the notification"


async def test_where_a_sample_is_expensive_fewer_extra_ones_are_taken(hall: Hall) -> None:
    link = await hall.open()
    for seconds, pause in ((0.1, 0.1 / SAMPLE_SHARE), (3.0, MOST_PAUSE_SECONDS), (0.0, LEAST_PAUSE_SECONDS)):
        await hall.follow(pool(), link, seconds=seconds)
        hall.woken.clear()
        began = hall.clock.monotonic()
        await hall.notify()
        await hall.notify()
        await hall.clock.advance(pause / 2)
        await hall.notify()
        await hall.clock.advance(20.0)
        assert [at - began for at, _ in hall.woken] == pytest.approx([0.0, pause])


async def test_each_pool_hears_its_own_channels_over_one_connection(hall: Hall) -> None:
    await hall.follow(pool("a"), await hall.open(), "one")
    await hall.follow(pool("b"), await hall.open(), "two", "three")
    assert hall.tasks() == 1
    await hall.notify("three")
    assert [name for _, name in hall.woken] == ["b"]
    await hall.follow(pool("d", "elsewhere"), await hall.open(), "one")
    assert hall.tasks() == 2, "a namespace trusts no server of another"


async def test_a_pool_whose_queues_change_hears_the_new_ones(hall: Hall) -> None:
    link = await hall.open()
    await hall.follow(pool(), link, "one")
    await hall.follow(pool(), link, "two")
    await hall.notify("one")
    await hall.notify("two")
    assert len(hall.woken) == 1


async def test_a_source_without_notifications_opens_nothing(hall: Hall) -> None:
    link = await hall.open()
    await hall.notifications.follow(pool(), link, (), sampled_at=0.0, seconds=0.0)
    assert (hall.tasks(), hall.notifications.find_refusal(pool())) == (0, "")


async def test_the_last_pool_takes_the_connection_with_it(hall: Hall) -> None:
    for name in ("a", "b"):
        await hall.follow(pool(name), await hall.open())
    await hall.notifications.forget(pool("a"))
    await hall.notify()
    assert [name for _, name in hall.woken] == ["b"]
    await hall.notifications.forget(pool("b"))
    await hall.notifications.forget(pool("b"))
    await hall.clock.advance(1.0)
    assert hall.tasks() == 0


async def test_a_server_that_was_away_is_listened_to_again(hall: Hall) -> None:
    await hall.follow(pool(), await hall.open())
    hall.server.is_down = True
    hall.server.restart()
    await hall.clock.advance(RETRY_SECONDS + 1)
    hall.server.is_down = False
    assert hall.notifications.find_refusal(pool()) == "", "that passes"
    await hall.clock.advance(RETRY_SECONDS + 1)
    await hall.notify()
    assert [name for _, name in hall.woken] == ["mail"]


async def test_a_pooler_is_said_and_seldom_tried(hall: Hall) -> None:
    link = await hall.open()
    hall.server.is_pooler = True
    hall.server.restart()
    await hall.follow(pool(), link)
    assert "is a pooler" in hall.notifications.find_refusal(pool())
    hall.server.is_pooler = False
    await hall.clock.advance(REFUSED_RETRY_SECONDS + 1)
    await asyncio.sleep(2 * CONNECTED_SECONDS)
    assert hall.notifications.find_refusal(pool()) == ""


async def test_a_new_password_is_used_for_the_next_connection(hall: Hall) -> None:
    await hall.follow(pool(), await hall.open())
    hall.server.roles[LOGIN.username] = MemoryRole("new")
    await hall.follow(pool(), await hall.open(Credentials(LOGIN.username, "new")))
    hall.server.restart()
    await hall.clock.advance(RETRY_SECONDS + 1)
    await hall.notify()
    assert [name for _, name in hall.woken] == ["mail"]
