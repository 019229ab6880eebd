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
RETRY_SECONDS = 5.0
REFUSED_RETRY_SECONDS = 300.0
"""A connection that was lost is opened again so soon; a pooler, or a login without the right, stays what it is."""
REFUSED = frozenset({Reason.NOT_A_DIRECT_CONNECTION, Reason.PASSWORD_REJECTED, Reason.UNSUPPORTED_VERSION})


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
    """The listening connection of one database, its pools, and those that wait for an extra sample since when."""

    key: tuple[str, str]
    listener: QueueListener
    link: Listens
    pools: dict[ObjectRef, frozenset[str]] = field(default_factory=dict)
    waiting: dict[ObjectRef, float] = field(default_factory=dict)
    pause_seconds: float = LEAST_PAUSE_SECONDS
    refusal: str = ""
    is_open: bool = False
    task: "asyncio.Task[None] | None" = None

    @property
    def channels(self) -> frozenset[str]:
        return frozenset().union(*self.pools.values())


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
        await _stop(room)
        await room.listener.close()

    def _join(self, pool: ObjectRef, link: Listens, channels: frozenset[str]) -> _Follower:
        listener = link.open_listener()
        key = pool.namespace or "", listener.address
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = _Room(key, listener, link)
        # The newest link may have a newer password than the one that the connection was opened with.
        room.link = link
        room.pools[pool] = channels
        self._restart(room)
        return self._followers.setdefault(pool, _Follower(link, channels, room))

    def _restart(self, room: _Room) -> None:
        """Listen on the channels of now; the connection stays."""
        before = room.task
        if before is not None:
            before.cancel()
        room.task = asyncio.create_task(self._run(room, before))
        room.task.add_done_callback(_report)

    async def _run(self, room: _Room, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait({before})
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
            self._note(room, notified)

    async def _recover(self, room: _Room, error: Refused | Unavailable) -> None:
        is_refused = error.reason in REFUSED
        logger.info("%s: queue notifications are not heard, polling continues: %s", room.listener.address, error)
        room.is_open, room.refusal = False, str(error) if is_refused else ""
        await room.listener.close()
        await self.clock.sleep(REFUSED_RETRY_SECONDS if is_refused else RETRY_SECONDS)
        room.listener = room.link.open_listener()

    def _note(self, room: _Room, notified: frozenset[str]) -> None:
        now = self.clock.monotonic()
        for pool, channels in room.pools.items():
            if channels & notified:
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


async def _stop(room: _Room) -> None:
    task, room.task = room.task, None
    if task is not None:
        task.cancel()
        await asyncio.wait({task})
