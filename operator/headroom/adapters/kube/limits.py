"""Client-side limits: how many calls at once and how many a second, in fair shares of the namespaces that call."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from headroom.ports.clock import Clock
from headroom.reconcilers.fairness import FairQueue, TokenBucket

MOST_OF_PLACES = 0.75
"""What one namespace may hold of four places or more: slow answers to it leave some to the others."""
MOST_OF_RATE = 0.8
"""What one namespace may have of the calls a second: the others find calls saved up, and need not wait for the next."""
KEPT_SHARES = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the API server one part of the operator may use, and how long it waits for an answer."""

    concurrency: int = 16
    calls_per_second: float = 50.0
    burst: int = 100
    read_timeout_seconds: float = 10.0
    write_timeout_seconds: float = 3.0


class Limiter:
    """Lets calls through within the limits: of the namespaces that wait, the one that has called least is next."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits, self._clock = limits, clock
        self._bucket = TokenBucket(limits.calls_per_second, limits.burst)
        self._free = limits.concurrency
        self._held: Counter[str] = Counter()
        self._shares: dict[str, TokenBucket] = {}
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()
        self._refill: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def place(self, namespace: str = "") -> AsyncIterator[None]:
        """Hold one place for a call on behalf of a namespace; waits for it."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.push(namespace, granted)
        self._serve()
        try:
            await granted
            yield
        finally:
            self._waiting.remove(namespace, granted)
            if granted.done() and not granted.cancelled():
                self._give_back(namespace)
            self._serve()

    def _serve(self) -> None:
        """Give places to those that wait, as far as there are places and tokens."""
        now = self._clock.monotonic()
        while self._waiting and self._free:
            found = None
            if self._bucket.find_wait(now) == 0:
                found = self._waiting.pop(may_have=lambda namespace: self._find_wait(namespace, now) == 0)
            if found is None:
                self._serve_later(now)
                return
            namespace, granted = found
            if not granted.done():
                self._grant(namespace, granted, now)

    def _grant(self, namespace: str, granted: "asyncio.Future[None]", now: float) -> None:
        self._bucket.take(now)
        self._shares[namespace].take(now)
        self._waiting.charge(namespace, 1.0)
        self._free -= 1
        self._held[namespace] += 1
        granted.set_result(None)
        self._drop_full_shares(now)

    def _find_wait(self, namespace: str, now: float) -> float:
        """Seconds until a namespace may have another call; infinite while it holds all the places that it may."""
        if self._held[namespace] >= math.ceil(self._limits.concurrency * MOST_OF_PLACES):
            return math.inf
        if namespace not in self._shares:
            rate, burst = self._limits.calls_per_second * MOST_OF_RATE, self._limits.burst * MOST_OF_RATE
            self._shares[namespace] = TokenBucket(rate, max(1.0, burst))
        return self._shares[namespace].find_wait(now)

    def _serve_later(self, now: float) -> None:
        """Serve again once there is a token, if that is what somebody waits for."""
        share = min((self._find_wait(namespace, now) for namespace in self._waiting.namespaces), default=math.inf)
        seconds = max(self._bucket.find_wait(now), share)
        if math.isfinite(seconds):
            if self._refill is not None:
                self._refill.cancel()
            self._refill = asyncio.create_task(self._serve_after(seconds))

    async def _serve_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._refill = None
        self._serve()

    def _drop_full_shares(self, now: float) -> None:
        if len(self._shares) > KEPT_SHARES + len(self._waiting.namespaces):
            self._shares = {name: share for name, share in self._shares.items() if not share.is_full(now)}

    def _give_back(self, namespace: str) -> None:
        self._free += 1
        self._held[namespace] -= 1
        if not self._held[namespace]:
            del self._held[namespace]
