"""Client-side limits: how many calls at once, and how many a second."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from headroom.ports.clock import Clock


@dataclass(slots=True)
class TokenBucket:
    """Holds `burst` tokens and gains `rate` a second; `now` is monotonic seconds."""

    rate: float
    burst: float
    _tokens: float = field(init=False)
    _filled_at: float | None = None

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def take(self, now: float) -> float:
        """Take one token, in debt if need be; returns the seconds to wait before using it."""
        self._fill(now)
        self._tokens -= 1
        return max(0.0, -self._tokens / self.rate)

    def try_take(self, now: float) -> bool:
        """Take one token if there is one."""
        self._fill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def is_full(self, now: float) -> bool:
        """True when nothing was taken for so long that it does not matter any more."""
        self._fill(now)
        return self._tokens >= self.burst

    def _fill(self, now: float) -> None:
        if self._filled_at is not None:
            self._tokens = min(self.burst, self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the API server one part of the operator may use, and how long it waits for an answer."""

    concurrency: int = 16
    calls_per_second: float = 50.0
    burst: int = 100
    read_timeout_seconds: float = 10.0
    write_timeout_seconds: float = 3.0


class Limiter:
    """Lets calls through in order, within the limits."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._clock = clock
        self._bucket = TokenBucket(limits.calls_per_second, limits.burst)
        self._places = asyncio.Semaphore(limits.concurrency)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold one place; waits for it."""
        async with self._places:
            wait = self._bucket.take(self._clock.monotonic())
            if wait > 0:
                await self._clock.sleep(wait)
            yield
