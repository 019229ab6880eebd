"""Whose turn it is on one connection: the caller with the earliest deadline first."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count


@dataclass(slots=True)
class Turns:
    """A lock that is handed to the waiter whose deadline is nearest, not to the one that came first."""

    _is_taken: bool = False
    _waiting: list[tuple[float, int, asyncio.Future[None]]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=count)

    @asynccontextmanager
    async def take(self, deadline: float) -> AsyncIterator[None]:
        """Wait for the turn and hold it; `deadline` is on the loop's clock. Raises TimeoutError once it has passed."""
        await self._acquire(deadline)
        try:
            yield
        finally:
            self._pass_on()

    async def _acquire(self, deadline: float) -> None:
        if not self._is_taken:
            self._is_taken = True
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (deadline, next(self._order), turn))
        try:
            async with asyncio.timeout_at(deadline):
                await turn
        except BaseException:
            # The turn may have been given in the very moment in which the wait ended.
            if turn.done() and not turn.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._is_taken = False
