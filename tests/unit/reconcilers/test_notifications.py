"""Notifications make samples due at once, and never more than two a second for a database."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from headroom.adapters.inmemory.clock import MemoryClock, settle
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_server import MemoryRole, MemoryServer
from headroom.errors import PrimaryUnavailable
from headroom.model.database import ConnectionTarget, Credentials
from headroom.ports.kube import WORKER_POOL, ObjectRef
from headroom.ports.postgres import QueueLink
from headroom.reasons import Reason
from headroom.reconcilers.notifications import (
    CONNECTED_SECONDS,
    END_SECONDS,
    LEAST_PAUSE_SECONDS,
    MOST_PAUSE_SECONDS,
    REFUSED_RETRY_SECONDS,
    RETRY_SECONDS,
    SAMPLE_SHARE,
    SHORT_RETRY_SECONDS,
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


OTHER = Credentials("orders", "other")


async def test_a_login_that_goes_with_its_pool_is_not_used_again(hall: Hall) -> None:
    """The connection has the newest pool's login; that pool and its role go, and then the connection is lost."""
    hall.server.roles[OTHER.username] = MemoryRole(OTHER.password)
    first = await hall.open()
    await hall.follow(pool("a"), first)
    hall.server.restart()
    await hall.follow(pool("b"), await hall.open(OTHER))
    await hall.clock.advance(RETRY_SECONDS + 1)
    await hall.notifications.forget(pool("b"))
    del hall.server.roles[OTHER.username]
    # At the moment at which its wait ends, a task does not hear that it is cancelled.
    hall.server.restart()
    await asyncio.sleep(3 * END_SECONDS)
    assert hall.tasks() == 1
    await hall.clock.advance(RETRY_SECONDS + 1)
    assert hall.notifications.find_refusal(pool("a")) == ""
    await hall.notify()
    assert [name for _, name in hall.woken] == ["a"]


async def test_a_refused_login_lets_another_pool_of_the_database_try_its_own(hall: Hall) -> None:
    """The pools stay; only the newest one's password was changed on the server."""
    hall.server.roles[OTHER.username] = MemoryRole(OTHER.password)
    await hall.follow(pool("a"), await hall.open())
    await hall.follow(pool("b"), await hall.open(OTHER), "other")
    hall.server.roles[OTHER.username] = MemoryRole("changed")
    hall.server.restart()
    await settle()
    await hall.clock.advance(2 * RETRY_SECONDS + 1)
    assert [hall.notifications.find_refusal(pool(name)) for name in "ab"] == ["", ""]
    await hall.notify("other")
    await hall.notify()
    await hall.clock.advance(1.0)
    assert [name for _, name in hall.woken] == ["b", "a"]


async def test_a_login_that_all_are_refused_with_is_said_and_tried_seldom(hall: Hall) -> None:
    for name, login in (("a", LOGIN), ("b", OTHER)):
        hall.server.roles[login.username] = MemoryRole(login.password)
        await hall.follow(pool(name), await hall.open(login))
    for login in (LOGIN, OTHER):
        hall.server.roles[login.username] = MemoryRole("changed")
    hall.server.restart()
    await settle()
    await hall.clock.advance(3 * RETRY_SECONDS)
    tried = hall.postgres.opened.count("queue")
    assert "password" in hall.notifications.find_refusal(pool("a"))
    await hall.clock.advance(REFUSED_RETRY_SECONDS / 2)
    assert hall.postgres.opened.count("queue") == tried
    hall.server.roles[LOGIN.username] = MemoryRole(LOGIN.password)
    await hall.clock.advance(REFUSED_RETRY_SECONDS)
    await asyncio.sleep(2 * CONNECTED_SECONDS)
    assert hall.notifications.find_refusal(pool("a")) == ""


@dataclass
class Refusing:
    """A link whose listener fails for one reason, and counts how often it is tried."""

    reason: Reason | None
    tries: int = 0
    address: str = "db:5432/store"

    def open_listener(self) -> "Refusing":
        return self

    async def wait(self, channels: object, seconds: float) -> frozenset[str]:
        if self.reason is None:
            await asyncio.Event().wait()
        self.tries += 1
        raise PrimaryUnavailable(f"the server says {self.reason}", reason=self.reason or Reason.PRIMARY_UNREACHABLE)

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("reason", "is_told", "tries"),
    [
        (Reason.MISSING_RIGHT, True, 2),
        (Reason.PASSWORD_REJECTED, True, 2),
        (Reason.DATABASE_NOT_FOUND, True, 2),
        (Reason.TLS_FAILED, True, 2),
        (Reason.NO_CONNECTION_LEFT, True, REFUSED_RETRY_SECONDS // SHORT_RETRY_SECONDS + 1),
        (Reason.ANSWER_REFUSED, True, REFUSED_RETRY_SECONDS // SHORT_RETRY_SECONDS + 1),
        (Reason.OPERATOR_BUSY, False, REFUSED_RETRY_SECONDS // RETRY_SECONDS + 1),
        (Reason.PRIMARY_UNREACHABLE, False, REFUSED_RETRY_SECONDS // RETRY_SECONDS + 1),
        (Reason.NOT_A_PRIMARY, False, REFUSED_RETRY_SECONDS // RETRY_SECONDS + 1),
    ],
)
async def test_what_does_not_pass_is_told_and_seldom_tried(
    hall: Hall, reason: Reason, is_told: bool, tries: int
) -> None:
    link = Refusing(reason)
    await hall.notifications.follow(pool(), link, (CHANNEL,), sampled_at=0.0, seconds=0.005)
    await settle()
    assert (hall.notifications.find_refusal(pool()) != "") is is_told
    for _ in range(int(REFUSED_RETRY_SECONDS)):
        await hall.clock.advance(1.0)
    assert link.tries == tries
