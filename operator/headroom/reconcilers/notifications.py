"""Notifications of queue libraries: a new item makes the next sample of its pools due at once.

One connection for each namespace and queue database listens for all pools there. It only makes a sample earlier, and
polling continues, so a notification that is lost costs an interval. A database gets at most two extra samples a second,
and fewer where a sample is expensive.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from headroom.errors import Refused, Unavailable
from headroom.ports.clock import Clock
from headroom.ports.kube import ObjectRef
from headroom.ports.postgres import QueueListener
from headroom.reasons import Reason

logger = logging.getLogger(__name__)

LEAST_PAUSE_SECONDS = 0.5
"""Between two extra samples of a database: two a second."""
MOST_PAUSE_SECONDS = 5.0
SAMPLE_SHARE = 0.05
"""Of the time, extra samples take no more than this share: one that takes 100 ms is taken every 2 s at most."""
WAIT_SECONDS = 60.0
CONNECTED_SECONDS = 0.1
"""The first wait on a new connection: once it has ended, that is open."""
END_SECONDS = 0.1
"""A task that has not ended for so long is cancelled again: what it waited for may have ended at the same moment, and
then it has not heard."""
RETRY_SECONDS = 5.0
REFUSED_RETRY_SECONDS = 300.0
"""A connection that was lost is opened again so soon; a pooler, or a login without the right, stays what it is."""
SHORT_RETRY_SECONDS = 30.0
"""If no connection is left, so seldom: each attempt is work for a server that has too much of it. The same after too
many notifications, which are work for us."""
PASSING = frozenset(
    {
        Reason.HOST_NOT_FOUND,
        Reason.NO_CONNECTION_LEFT,
        Reason.OPERATOR_BUSY,
        Reason.NOT_A_PRIMARY,
        Reason.PRIMARY_TIMEOUT,
        Reason.PRIMARY_UNREACHABLE,
    }
)
"""What ends without a change to the login; all else is a refusal."""


class Listens(Protocol):
    """A link whose database can be listened on."""

    def open_listener(self) -> QueueListener:
        """See `QueueLink.open_listener`."""
        ...


@dataclass(slots=True)
class _Follower:
    """What one pool listens to."""

    link: Listens
    channels: frozenset[str]
    room: "_Room"


@dataclass(slots=True)
class _Room:
    """The listening connection of one database, its pools, and those that wait for an extra sample since when.

    `link` is that of the pool whose login the connection has; `refused` are those that were refused since the last
    success, and since pools came or went.
    """

    key: tuple[str, str]
    listener: QueueListener
    link: Listens
    pools: dict[ObjectRef, _Follower] = field(default_factory=dict)
    refused: list[Listens] = field(default_factory=list)
    waiting: dict[ObjectRef, float] = field(default_factory=dict)
    pause_seconds: float = LEAST_PAUSE_SECONDS
    refusal: str = ""
    is_open: bool = False
    is_closed: bool = False
    task: "asyncio.Task[None] | None" = None
    former: "set[asyncio.Task[None]]" = field(default_factory=set)

    @property
    def channels(self) -> frozenset[str]:
        return frozenset().union(*(follower.channels for follower in self.pools.values()))

    def list_tasks(self) -> "set[asyncio.Task[None]]":
        """The task that listens, and those before it that have not ended yet."""
        return {task for task in (self.task, *self.former) if task is not None and not task.done()}

    def choose_link(self) -> Listens | None:
        """The newest link that was not refused; None if all were.

        The newest one may have a newer password than the one that the connection was opened with.
        """
        links = [follower.link for follower in reversed(self.pools.values())]
        return next((link for link in links if not any(link is other for other in self.refused)), None)

    async def reopen(self, link: Listens) -> None:
        """Let the next wait connect by this link."""
        await self.close()
        self.listener, self.link, self.is_closed = link.open_listener(), link, False

    async def close(self) -> None:
        """End the connection; the next wait needs another listener."""
        self.is_open, self.is_closed = False, True
        await self.listener.close()


@dataclass(slots=True)
class QueueNotifications:
    """Written by the pools' passes; `wake` starts a pool's next pass, which takes a sample."""

    clock: Clock
    wake: Callable[[ObjectRef], None]
    _followers: dict[ObjectRef, _Follower] = field(default_factory=dict)
    _rooms: dict[tuple[str, str], _Room] = field(default_factory=dict)

    async def follow(
        self, pool: ObjectRef, link: Listens, channels: Collection[str], *, sampled_at: float, seconds: float
    ) -> None:
        """Let notifications on the channels wake the pool from now on; without a channel none does.

        Called after each sample: that was asked for at `sampled_at` (monotonic) and took so many seconds.
        """
        wanted, known = frozenset(channels), self._followers.get(pool)
        if known is not None and (known.link is not link or known.channels != wanted):
            await self.forget(pool)
            known = None
        if not wanted:
            return
        follower = known or self._join(pool, link, wanted)
        room = follower.room
        room.pause_seconds = min(max(LEAST_PAUSE_SECONDS, seconds / SAMPLE_SHARE), MOST_PAUSE_SECONDS)
        # What was notified before the question was sent is in the sample.
        if room.waiting.get(pool, sampled_at) < sampled_at:
            del room.waiting[pool]

    def find_refusal(self, pool: ObjectRef) -> str:
        """Why nothing wakes the pool although its library notifies; empty while it is connected or may soon be."""
        follower = self._followers.get(pool)
        return "" if follower is None else follower.room.refusal

    async def forget(self, pool: ObjectRef) -> None:
        """Wake the pool no more; a database without pools is listened to no more."""
        follower = self._followers.pop(pool, None)
        if follower is None:
            return
        room = follower.room
        del room.pools[pool]
        room.waiting.pop(pool, None)
        if room.pools:
            self._restart(room)
            return
        del self._rooms[room.key]
        await _end(room.list_tasks())
        await room.close()

    def _join(self, pool: ObjectRef, link: Listens, channels: frozenset[str]) -> _Follower:
        listener = link.open_listener()
        key = pool.namespace or "", listener.address
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = _Room(key, listener, link)
        follower = self._followers[pool] = room.pools[pool] = _Follower(link, channels, room)
        self._restart(room)
        return follower

    def _restart(self, room: _Room) -> None:
        """Listen on the channels of now; a connection that is open stays, another login may open one that is not."""
        room.refused.clear()
        room.former = room.list_tasks()
        room.task = asyncio.create_task(self._run(room, room.former))
        room.task.add_done_callback(_report)

    async def _run(self, room: _Room, former: "set[asyncio.Task[None]]") -> None:
        await _end(former)
        link = room.choose_link()
        if link is not None and (room.is_closed or (not room.is_open and link is not room.link)):
            await room.reopen(link)
        while True:
            while room.waiting:
                self._wake_next(room)
                # Whatever is notified meanwhile is read at once after it.
                await self.clock.sleep(room.pause_seconds)
            try:
                notified = await room.listener.wait(room.channels, WAIT_SECONDS if room.is_open else CONNECTED_SECONDS)
            except (Refused, Unavailable) as error:
                await self._recover(room, error)
                continue
            room.is_open, room.refusal = True, ""
            room.refused.clear()
            self._note(room, notified)

    async def _recover(self, room: _Room, error: Refused | Unavailable) -> None:
        """Open the connection again after a while; by another login, if this one was refused and there is one."""
        logger.info("%s: queue notifications are not heard, polling continues: %s", room.listener.address, error)
        seconds = RETRY_SECONDS
        await room.close()
        if error.reason not in PASSING:
            room.refused.append(room.link)
        if error.reason is Reason.ANSWER_REFUSED:
            # Too many at once: that is the server's, whatever the login.
            room.refused.clear()
            room.refusal, seconds = str(error), SHORT_RETRY_SECONDS
        elif room.choose_link() is None:
            room.refusal, seconds = str(error), REFUSED_RETRY_SECONDS
        elif error.reason is Reason.NO_CONNECTION_LEFT:
            room.refusal, seconds = str(error), SHORT_RETRY_SECONDS
        elif error.reason in PASSING:
            room.refusal = ""
        await self.clock.sleep(seconds)
        link = room.choose_link()
        if link is None:
            room.refused.clear()
            link = room.choose_link()
        await room.reopen(link or room.link)

    def _note(self, room: _Room, notified: frozenset[str]) -> None:
        now = self.clock.monotonic()
        for pool, follower in room.pools.items():
            if follower.channels & notified:
                room.waiting.setdefault(pool, now)

    def _wake_next(self, room: _Room) -> None:
        """Wake the pool that has waited longest; one that has taken a sample meanwhile waits no more."""
        pool = next(iter(room.waiting))
        del room.waiting[pool]
        self.wake(pool)


def _report(task: "asyncio.Task[None]") -> None:
    """A fault of ours costs the notifications, not the pools: they are polled."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("listening for queue notifications failed", exc_info=error)


async def _end(tasks: "set[asyncio.Task[None]]") -> None:
    """Cancel tasks until all have ended."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=END_SECONDS)
