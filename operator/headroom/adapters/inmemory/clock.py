"""A clock that moves only when a test moves it."""

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

SPINS = 50


class MemoryClock:
    """Wall and monotonic time by hand; sleepers wake in the order of their deadlines."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), *, spins: int = SPINS) -> None:
        self._wall = start
        self._spins = spins
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """Wall time: the start, all advances, and all jumps."""
        return self._wall

    def monotonic(self) -> float:
        """Seconds advanced so far; a jump of the wall clock does not touch it."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was advanced that far; zero or less only lets other tasks run."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), wake))
        await wake

    async def advance(self, seconds: float) -> None:
        """Move both clocks, one deadline at a time, and let every woken task run before the next."""
        end = self._elapsed + seconds
        await settle(self._spins)
        while self._sleepers and self._sleepers[0][0] <= end:
            deadline, _, wake = heapq.heappop(self._sleepers)
            self._move_to(max(deadline, self._elapsed))
            if not wake.done():
                wake.set_result(None)
            await settle(self._spins)
        self._move_to(end)

    def jump(self, delta: timedelta) -> None:
        """Step the wall clock only, as NTP or an administrator would."""
        self._wall += delta

    def _move_to(self, elapsed: float) -> None:
        self._wall += timedelta(seconds=elapsed - self._elapsed)
        self._elapsed = elapsed


async def settle(spins: int = SPINS) -> None:
    """Give every ready task `spins` turns of the event loop."""
    for _ in range(spins):
        await asyncio.sleep(0)
