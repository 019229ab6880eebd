"""Pools with one login share one connection: opened once, refused once, closed with the last of them."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.errors import PrimaryUnavailable
from headroom.model.database import ConnectionTarget, Credentials
from headroom.reasons import Reason
from headroom.reconcilers.queue_links import QueueLinks

JOBS = ConnectionTarget("store", 5432, "store", Credentials("jobs", "j"))
MAIL = ConnectionTarget("store", 5432, "store", Credentials("mail", "m"))


@dataclass(eq=False)
class Link:
    target: ConnectionTarget
    is_open: bool = True

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.is_open = False


@dataclass
class Opener:
    """Opens links, one step of the loop later."""

    links: list[Link] = field(default_factory=list)
    error: PrimaryUnavailable | None = None
    tries: int = 0

    async def open_queue(self, target: ConnectionTarget) -> Any:
        self.tries += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.links.append(Link(target))
        return self.links[-1]

    @property
    def open_links(self) -> list[Link]:
        return [link for link in self.links if link.is_open]


async def test_a_hundred_pools_with_one_login_have_one_connection() -> None:
    opener, links = Opener(), QueueLinks(MemoryClock())
    leases = await asyncio.gather(*(links.open(opener, JOBS) for _ in range(100)))
    other = await links.open(opener, MAIL)
    assert (opener.tries, len({id(lease.link) for lease in leases})) == (2, 1)
    assert other.link is not leases[0].link
    await asyncio.gather(*(lease.close() for lease in leases[:99]))
    assert len(opener.open_links) == 2
    await leases[99].close()
    assert opener.open_links == [other.link]


async def test_a_lease_is_given_back_once() -> None:
    opener, links = Opener(), QueueLinks(MemoryClock())
    one, other = await links.open(opener, JOBS), await links.open(opener, JOBS)
    await one.close()
    await one.close()
    assert opener.open_links == [other.link]


async def test_a_refused_login_is_tried_once_for_all_its_pools() -> None:
    clock, opener = MemoryClock(), Opener(error=PrimaryUnavailable("no", reason=Reason.PASSWORD_REJECTED))
    links = QueueLinks(clock)
    found = await asyncio.gather(*(links.open(opener, JOBS) for _ in range(50)), return_exceptions=True)
    assert opener.tries == 1
    assert all(isinstance(error, PrimaryUnavailable) for error in found)
    opener.error = None
    await clock.advance(11)
    assert (await links.open(opener, JOBS)).link is opener.links[0]


async def test_a_connection_that_is_given_back_while_another_pool_waits_is_opened_again() -> None:
    opener, links = Opener(), QueueLinks(MemoryClock())
    lease = await links.open(opener, JOBS)
    for _ in range(20):
        closing = asyncio.create_task(lease.close())
        lease = await links.open(opener, JOBS)
        await closing
        assert lease.link.is_open
        assert opener.open_links == [lease.link]


async def test_whoever_waited_while_the_last_use_ended_leaves_no_connection_behind() -> None:
    opener, links = Opener(), QueueLinks(MemoryClock())

    async def use_once() -> None:
        lease = await links.open(opener, JOBS)
        await lease.close()

    await asyncio.gather(*(use_once() for _ in range(5)))
    assert opener.open_links == []


async def test_logins_that_were_replaced_are_forgotten() -> None:
    clock, opener = MemoryClock(), Opener(error=PrimaryUnavailable("no", reason=Reason.PASSWORD_REJECTED))
    links = QueueLinks(clock)
    for number in range(20):
        target = ConnectionTarget("store", 5432, "store", Credentials("jobs", str(number)))
        with pytest.raises(PrimaryUnavailable):
            await links.open(opener, target)
        await clock.advance(70)
    assert len(links._shared) <= 2
