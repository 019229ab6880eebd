"""The level loop: wake or resync, one pass at a time per object, classified errors with backoff, never ends early.

A pass gets the object from the cache, which has our own last write of its status even while the watch is behind. News
begins a pass at once, a storm of news only so many a second, and passes get the event loop in turns by namespace.
"""

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from headroom.errors import Conflict, HeadroomError, Unavailable
from headroom.ports.clock import Clock
from headroom.ports.kube import Kind, KubeCache, KubeReader, Manifest, ObjectRef
from headroom.ports.telemetry import Metric, MetricType, Telemetry, working_on
from headroom.reconcilers.fairness import ROUNDING, TokenBucket
from headroom.reconcilers.servers import Servers
from headroom.reconcilers.turns import LoopTurns

logger = logging.getLogger(__name__)

PASS_DEADLINE = timedelta(seconds=60)
CONFLICT_RETRY = timedelta(milliseconds=100)
FIRST_BACKOFF = timedelta(milliseconds=500)
LONGEST_BACKOFF = timedelta(seconds=10)
"""Short on purpose: a dependency that comes back at the worst hour must not wait for us."""
JITTER = 0.1
NEWS_BURST, NEWS_PER_SECOND = 8, 4.0
"""Passes of one object that news may begin: some at once, as the steps of an activation do, and then so many a second.
A storm is coalesced: the pass that comes late sees all of it. Passes that are due by their time are not counted."""

PASSES = Metric(
    "headroom_reconcile_seconds",
    MetricType.HISTOGRAM,
    "Duration of one reconcile pass.",
    ("kind", "outcome"),
    (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
LATENESS = Metric(
    "headroom_reconcile_due_seconds",
    MetricType.HISTOGRAM,
    "Seconds from when a pass was due, by its time or by news, until it had decided and written.",
    ("kind",),
    (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
ERRORS = Metric(
    "headroom_reconcile_errors_total",
    MetricType.COUNTER,
    "Passes that ended in an error, by its class.",
    ("kind", "error"),
)


class Reconciler(Protocol):
    """One kind's passes. A pass is level-based: it reads what is, never what changed."""

    def reconcile(self, body: dict[str, Any]) -> Coroutine[Any, Any, timedelta]:
        """Make one pass over a resource as last seen; returns how long the loop may sleep unless woken."""
        ...

    def teardown(self, body: dict[str, Any]) -> Coroutine[Any, Any, timedelta | None]:
        """Work towards an empty desired state; None when the finalizer may go, else when to come back."""
        ...

    async def forget(self, uid: str) -> None:
        """Close what is kept in memory for a resource (links, windows); no side effect outside the process."""
        ...


class Stopped(Protocol):
    """A flag that Kopf raises when the object's loop must end."""

    def __bool__(self) -> bool: ...


@dataclass(slots=True)
class LoopState:
    """What is kept per object: the lock of its passes, the event that wakes its loop, the tombstone, the loop's task.

    `due_at` is when the next pass is due, in monotonic seconds: infinite until that is known.
    """

    due_at: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wake_event: asyncio.Event = field(default_factory=asyncio.Event)
    news: TokenBucket = field(default_factory=lambda: TokenBucket(NEWS_PER_SECOND, NEWS_BURST))
    is_tombstoned: bool = False
    task: "asyncio.Task[Any] | None" = None

    def wake(self, now: float) -> None:
        """Begin the next pass now, or as soon as the running one ends."""
        self.due_at = min(self.due_at, now)
        self.wake_event.set()

    def stop(self) -> None:
        """End the loop after the running pass; no other begins."""
        self.is_tombstoned = True
        self.wake_event.set()


@dataclass(slots=True)
class LevelLoops:
    """All objects' loops; the handlers start, wake and end them, and news of a server wakes those that depend on it.

    States are kept by uid, since an object of the same name may appear before the news that the old one is gone.
    """

    reconcilers: Mapping[Kind, Reconciler]
    reader: KubeReader
    cache: KubeCache
    clock: Clock
    telemetry: Telemetry
    servers: Servers
    _states: dict[str, LoopState] = field(default_factory=dict)
    _uids: dict[ObjectRef, str] = field(default_factory=dict)
    _turns: LoopTurns = field(init=False)

    def __post_init__(self) -> None:
        self.servers.wake = self.wake
        self._turns = LoopTurns(self.clock)

    def wake(self, ref: ObjectRef) -> None:
        """Start the object's next pass now, or as soon as the running one ends."""
        state = self._states.get(self._uids.get(ref, ""))
        if state is not None:
            state.wake(self.clock.monotonic())

    def end(self, uid: str) -> None:
        """Let the object's loop end: it is being deleted, and `teardown` takes over."""
        state = self._states.get(uid)
        if state is not None:
            state.stop()

    async def end_all(self, within: timedelta) -> None:
        """End all loops since the process ends: after their running passes, but not later than `within`.

        What a pass that is cancelled has sent, the next process finds.
        """
        states = list(self._states.values())
        for state in states:
            state.stop()
        tasks = [state.task for state in states if state.task is not None]
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=within.total_seconds())
            for task in pending:
                task.cancel()

    async def run(self, kind: Kind, body: Mapping[str, Any], stopped: Stopped) -> None:
        """Make passes over an object until `stopped`; `body` is a live view that follows the watch."""
        metadata = body["metadata"]
        ref, uid = ObjectRef(kind, metadata["namespace"], metadata["name"]), metadata["uid"]
        state = self._state_of(ref, uid)
        state.task = asyncio.current_task()
        failures = 0
        while not stopped and not state.is_tombstoned:
            # Cleared before the pass reads: news that arrives during the pass must cause another one.
            state.wake_event.clear()
            due_at, state.due_at = state.due_at, math.inf
            pause, failures = await self._guarded_pass(ref, state, body, failures)
            self._record_lateness(kind, due_at)
            seconds = pause.total_seconds() * _jitter()
            # A wake during the pass counts from then: the next pass was due at that moment, not when this one ends.
            state.due_at = min(state.due_at, self.clock.monotonic() + seconds)
            await _wait(state.wake_event, seconds)
            if state.wake_event.is_set():
                await self._await_news(state, state.news.take(self.clock.monotonic()))

    async def teardown(self, ref: ObjectRef, uid: str) -> None:
        """End the object's loop and work until nothing of it is left; reads the object live each time."""
        state = self._state_of(ref, uid)
        state.stop()
        failures = 0
        while True:
            state.wake_event.clear()
            async with state.lock:
                await self._turns.begin(ref.namespace)
                pause, failures = await self._teardown_pass(ref, uid, failures)
            if pause is None:
                return
            await _wait(state.wake_event, pause.total_seconds())

    async def forget(self, ref: ObjectRef, uid: str) -> None:
        """Drop what is kept in memory for an object that is gone, once its running pass has ended."""
        state = self._states.get(uid) or LoopState(math.inf)
        state.stop()
        # A pass that still runs would open and post again what is dropped here.
        async with _held(state.lock):
            self._states.pop(uid, None)
            if self._uids.get(ref) == uid:
                del self._uids[ref]
            self.servers.forget(ref, uid)
            await self.reconcilers[ref.kind].forget(uid)

    async def _await_news(self, state: LoopState, seconds: float) -> None:
        """Wait so long for more news, which the pass then sees too, unless the loop must end."""
        until = self.clock.monotonic() + seconds
        while (left := until - self.clock.monotonic()) > ROUNDING and not state.is_tombstoned:
            state.wake_event.clear()
            await _wait(state.wake_event, left)

    async def _guarded_pass(
        self, ref: ObjectRef, state: LoopState, body: Mapping[str, Any], failures: int
    ) -> tuple[timedelta, int]:
        async with state.lock:
            # News may wake hundreds at once, and timers, probes and the canary must not wait for all of them.
            await self._turns.begin(ref.namespace)
            # Checked under the lock: `teardown` may have begun while this pass waited for it.
            if state.is_tombstoned:
                return timedelta(), failures
            return await self._pass(ref.kind, _plain_object(self._find_newest(ref, body)), failures)

    def _record_lateness(self, kind: Kind, due_at: float) -> None:
        self.telemetry.record(LATENESS, max(0.0, self.clock.monotonic() - due_at), kind=kind.name)

    def _find_newest(self, ref: ObjectRef, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The object as the cache has it; the watch's own view while the cache has none, or another of that name."""
        cached = self.cache.get(ref)
        if cached is None or cached["metadata"]["uid"] != body["metadata"]["uid"]:
            return body
        return cached

    def _state_of(self, ref: ObjectRef, uid: str) -> LoopState:
        self._uids[ref] = uid
        return self._states.setdefault(uid, LoopState(self.clock.monotonic()))

    async def _pass(self, kind: Kind, body: Manifest, failures: int) -> tuple[timedelta, int]:
        started, outcome = self.clock.monotonic(), "ok"
        try:
            with working_on(kind.name, body["metadata"]):
                async with asyncio.timeout(PASS_DEADLINE.total_seconds()):
                    work = self.reconcilers[kind].reconcile(body)
                    return await self._turns.run(body["metadata"]["namespace"], work), 0
        except Exception as error:  # noqa: BLE001  the loop outlives any pass; each error is counted and logged
            outcome = type(error).__name__
            return self._classify(kind, body["metadata"], error, failures), failures + 1
        finally:
            seconds = self.clock.monotonic() - started
            self.telemetry.record(PASSES, seconds, kind=kind.name, outcome=outcome)

    async def _teardown_pass(self, ref: ObjectRef, uid: str, failures: int) -> tuple[timedelta | None, int]:
        metadata: Mapping[str, Any] = {"namespace": ref.namespace, "name": ref.name}
        try:
            body = await self.reader.get(ref)
            if body is None or body["metadata"]["uid"] != uid:
                return None, 0
            with working_on(ref.kind.name, body["metadata"]):
                async with asyncio.timeout(PASS_DEADLINE.total_seconds()):
                    work = self.reconcilers[ref.kind].teardown(body)
                    return await self._turns.run(ref.namespace, work), 0
        except Exception as error:  # noqa: BLE001  as above
            return self._classify(ref.kind, metadata, error, failures), failures + 1

    def _classify(self, kind: Kind, metadata: Mapping[str, Any], error: Exception, failures: int) -> timedelta:
        """Count and log an error; returns when to try again.

        `NotLeading` too: either a late renewal comes through, or the elector ends the process.
        """
        self.telemetry.record(ERRORS, 1, kind=kind.name, error=type(error).__name__)
        if isinstance(error, Conflict) and failures < 10:
            return CONFLICT_RETRY
        name = f"{metadata['namespace']}/{metadata['name']}"
        if isinstance(error, HeadroomError | TimeoutError):
            logger.warning("%s %s: pass ended: %s", kind.name, name, str(error) or type(error).__name__)
        else:
            logger.error("%s %s: pass failed", kind.name, name, exc_info=error)
        backoff = min(FIRST_BACKOFF * (1 << min(failures, 8)), LONGEST_BACKOFF)
        if isinstance(error, Unavailable):
            return max(backoff, error.retry_after)
        return backoff


def _jitter() -> float:
    return random.uniform(1 - JITTER, 1)  # noqa: S311  it spreads load, it hides nothing


@asynccontextmanager
async def _held(lock: asyncio.Lock) -> AsyncIterator[None]:
    """Hold the lock of an object's passes; no pass outlives its deadline, so that nobody waits for longer."""
    is_held = False
    with suppress(TimeoutError):
        is_held = await asyncio.wait_for(lock.acquire(), PASS_DEADLINE.total_seconds())
    try:
        yield
    finally:
        if is_held:
            lock.release()


async def _wait(wake_event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(wake_event.wait(), max(seconds, 0))


def _plain_object(body: Mapping[str, Any]) -> Manifest:
    return {key: _plain(value) for key, value in body.items()}


def _plain(value: Any) -> Any:
    """Copy a live view into plain dicts and lists, so that a pass sees one moment."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
