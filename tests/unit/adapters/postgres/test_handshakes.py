"""Handshakes run beside the event loop, one of a namespace at a time, a fifth of a processor for each."""

import asyncio
import ssl
import threading
import time
from collections.abc import Callable

import pytest

from headroom.adapters.postgres.wire import handshakes as module
from headroom.adapters.postgres.wire.handshakes import CREDIT_RATE, CREDIT_SECONDS, Handshakes, Step


def compute(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def test_a_step_says_what_came_of_it() -> None:
    handshakes, threads = Handshakes(), []

    def want() -> None:
        raise ssl.SSLWantReadError

    def fail() -> None:
        raise ssl.SSLError("bad")

    done = await handshakes.run("shop", lambda: threads.append(threading.current_thread()))
    assert done.is_done
    assert threads[0] is not threading.main_thread()
    assert not (await handshakes.run("shop", want)).is_done
    failed = await handshakes.run("shop", fail)
    assert isinstance(failed.error, ssl.SSLError)
    assert (await handshakes.run("shop", lambda: compute(0.02))).seconds >= 0.02


async def test_a_namespace_waits_for_itself_only() -> None:
    handshakes, release, running = Handshakes(), threading.Event(), []

    def hang() -> None:
        running.append(1)
        release.wait(5)

    hostile = [asyncio.create_task(handshakes.run("hostile", hang)) for _ in range(8)]
    await asyncio.sleep(0.05)
    assert (await handshakes.run("healthy", lambda: None)).is_done
    assert len(running) == 1, "one at a time for each namespace"
    # Nobody stops a thread: who gives up leaves the turn to it until it has ended.
    hostile[0].cancel()
    await asyncio.sleep(0.05)
    assert len(running) == 1
    release.set()
    await asyncio.gather(*hostile, return_exceptions=True)
    assert len(running) == 8


async def test_what_a_namespace_used_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def claim(_step: Callable[[], None]) -> Step:
        return Step(is_done=True, seconds=CREDIT_SECONDS + 0.1)

    handshakes, loop = Handshakes(), asyncio.get_running_loop()
    monkeypatch.setattr(module, "_measure", claim)
    await handshakes.run("hostile", lambda: None)
    monkeypatch.setattr(module, "_measure", lambda _step: Step(is_done=True, seconds=0.0))
    began = loop.time()
    await handshakes.run("healthy", lambda: None)
    assert loop.time() - began < 0.3
    await handshakes.run("hostile", lambda: None)
    assert loop.time() - began >= 0.1 / CREDIT_RATE * 0.9
    assert len(handshakes._shares) == 1, "its debt is remembered, and the other's nothing is not"
