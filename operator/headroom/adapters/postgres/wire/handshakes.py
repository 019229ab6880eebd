"""TLS handshakes, beside the event loop: what certificates and keys cost is their namespace's.

OpenSSL verifies a chain of up to 100 certificates, and signs with whatever key a login has. It does so without Python's
lock.
"""

import asyncio
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from headroom.adapters.clock import read_thread_seconds
from headroom.adapters.shares import Shares

CREDIT_SECONDS = 0.5
"""Of a processor, that a namespace may use at once: a usual handshake takes 1 to 3 ms."""
CREDIT_RATE = 0.2
"""After that a fifth of one processor, as with SCRAM."""


@dataclass(slots=True)
class _Share:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    credit: float = CREDIT_SECONDS
    credit_at: float = 0.0

    def refill(self, now: float) -> None:
        if self.credit_at:
            self.credit = min(CREDIT_SECONDS, self.credit + CREDIT_RATE * (now - self.credit_at))
        self.credit_at = now

    def is_idle(self, now: float) -> bool:
        self.refill(now)
        return self.credit >= CREDIT_SECONDS


@dataclass(frozen=True, slots=True)
class Step:
    """What came of a step: whether the handshake is done, or why it failed, and the seconds of a processor."""

    is_done: bool
    seconds: float
    error: Exception | None = None


@dataclass(slots=True)
class Handshakes:
    """Runs the steps of all handshakes of a process: of each namespace one at a time."""

    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=2, thread_name_prefix="handshakes")
    )
    _shares: Shares[_Share] = field(default_factory=lambda: Shares(_Share))

    async def run(self, namespace: str, step: Callable[[], None]) -> Step:
        """Run one step in a thread, once the namespace may; `step` raises SSLWantReadError until the last one."""
        loop = asyncio.get_running_loop()
        with ExitStack() as held:
            share = held.enter_context(self._shares.use(namespace))
            await share.lock.acquire()
            held.callback(share.lock.release)
            share.refill(loop.time())
            if share.credit <= 0:
                await asyncio.sleep(-share.credit / CREDIT_RATE)
            work = loop.run_in_executor(self._threads, _measure, step)
            # Nobody stops a thread: the turn is held until it has ended, even if nobody waits for it any more.
            ending = held.pop_all()

        def end(done: "asyncio.Future[Step]") -> None:
            with ending:
                share.refill(loop.time())
                share.credit -= 0.0 if done.cancelled() else done.result().seconds

        work.add_done_callback(end)
        return await asyncio.shield(work)


def _measure(step: Callable[[], None]) -> Step:
    began = read_thread_seconds()
    error: Exception | None = None
    is_done = False
    try:
        step()
        is_done = True
    except ssl.SSLWantReadError:
        pass
    except Exception as caught:  # noqa: BLE001  raised by who waits for the step
        error = caught
    return Step(is_done, read_thread_seconds() - began, error)
