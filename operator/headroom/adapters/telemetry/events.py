"""Kubernetes events. They are merged into series, rate limited, queued, and posted in the background."""

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from headroom.adapters.kube.limits import TokenBucket
from headroom.errors import Conflict, HeadroomError, KubeUnavailable
from headroom.model.moments import format_moment, format_time
from headroom.ports.clock import Clock
from headroom.ports.kube import EVENT, KubeWriter, Manifest, ObjectRef
from headroom.reasons import Reason

logger = logging.getLogger(__name__)

CONTROLLER = "headroom.dev/operator"
ACTION = "Reconcile"
SERIES_SECONDS = 300.0
SWEEP_SECONDS = 10.0
OBJECT_BURST, OBJECT_RATE = 10, 10 / 60
OVERALL_BURST, OVERALL_RATE = 25, 5.0
QUEUE_LIMIT = 500
ATTEMPTS = 3
MAX_NOTE = 1024
MAX_NAME_STEM = 200
MEASURED = re.compile(r"(?<![\w.-])\d+(?:\.\d+(?!\w|\.\d)|(?= ?(?:ms|s|min|[KMG]iB|B)\b| ?%))")
"""A measured number: one with a fraction or a unit. Numbers in names and counts do not match: they identify."""
CountOutcome = Callable[[str, str], None]
"""Called with the reason and the outcome of every emitted event."""


@dataclass(frozen=True, slots=True)
class _Key:
    uid: str
    reason: str
    type: str
    template: str
    """The message without its measured numbers, so that two replicas, states or steps stay two events."""


@dataclass(slots=True)
class _Series:
    """Repetitions of an event within one window; `written` is the last count that was posted."""

    ref: ObjectRef
    window_ends_at: float
    count: int
    written: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class _Post:
    """A pending write: a new event, or the count of a series."""

    key: _Key
    ref: ObjectRef
    manifest: Manifest | None = None
    count: int = 0
    last_at: datetime | None = None


@dataclass(slots=True)
class EventRecorder:
    """`emit` returns at once; `run` posts until it is cancelled."""

    clock: Clock
    count: CountOutcome
    instance: str
    _series: dict[_Key, _Series] = field(default_factory=dict)
    _objects: dict[str, TokenBucket] = field(default_factory=dict)
    _overall: TokenBucket = field(default_factory=lambda: TokenBucket(OVERALL_RATE, OVERALL_BURST))
    _queue: "asyncio.Queue[_Post]" = field(default_factory=lambda: asyncio.Queue(QUEUE_LIMIT))

    def emit(self, about: Mapping[str, Any], reason: Reason, message: str, type_: str) -> None:
        """Queue an event, count it as a repetition, or drop it; the outcome is counted."""
        key = _Key((about.get("metadata") or {}).get("uid", ""), str(reason), type_, MEASURED.sub("#", message))
        now, moment = self.clock.monotonic(), self.clock.now()
        series = self._series.get(key)
        if series is not None and now < series.window_ends_at:
            series.count, series.last_at = series.count + 1, moment
            self.count(key.reason, "merged")
            return
        refusal = self._find_refusal(key.uid, now)
        if refusal is not None:
            self.count(key.reason, refusal)
            return
        manifest = build_event(about, key.reason, message, type_=type_, moment=moment, instance=self.instance)
        ref = ObjectRef(EVENT, manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        self._series[key] = _Series(ref, now + SERIES_SECONDS, 1, 1, moment)
        self._enqueue(_Post(key, ref, manifest))

    async def run(self, writer: KubeWriter) -> None:
        """Post queued events one at a time, and the count of each series when its window ends."""
        sweeper = asyncio.create_task(self._sweep_forever())
        try:
            while True:
                await self._post(writer, await self._queue.get())
        finally:
            sweeper.cancel()

    def sweep(self) -> None:
        """Close windows that have ended: post the count of each series, and forget events that were not repeated."""
        now = self.clock.monotonic()
        for key, series in list(self._series.items()):
            if now < series.window_ends_at:
                continue
            if series.count == series.written:
                del self._series[key]
                continue
            series.written, series.window_ends_at = series.count, now + SERIES_SECONDS
            self._enqueue(_Post(key, series.ref, None, series.count, series.last_at))
        # A full bucket is like a new one, so that objects that are gone do not stay in memory.
        self._objects = {uid: bucket for uid, bucket in self._objects.items() if not bucket.is_full(now)}

    async def _sweep_forever(self) -> None:
        while True:
            await self.clock.sleep(SWEEP_SECONDS)
            self.sweep()

    def _find_refusal(self, uid: str, now: float) -> str | None:
        bucket = self._objects.setdefault(uid, TokenBucket(OBJECT_RATE, OBJECT_BURST))
        if not bucket.try_take(now):
            return "object_limit"
        return None if self._overall.try_take(now) else "overall_limit"

    def _enqueue(self, post: _Post) -> None:
        try:
            self._queue.put_nowait(post)
        except asyncio.QueueFull:
            self._drop(post, "queue_full")

    def _drop(self, post: _Post, outcome: str) -> None:
        # The server has no event to count up, so the next repetition must be posted as a new event.
        self._series.pop(post.key, None)
        self.count(post.key.reason, outcome)

    async def _post(self, writer: KubeWriter, post: _Post) -> None:
        outcome = await self._try_to_send(writer, post)
        if outcome == "posted":
            self.count(post.key.reason, outcome)
        else:
            self._drop(post, outcome)

    async def _try_to_send(self, writer: KubeWriter, post: _Post) -> str:
        # Few attempts, then the next event: an old one is of no use, and the queue is bounded.
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await _send(writer, post)
            except KubeUnavailable as error:
                if attempt < ATTEMPTS:
                    await self.clock.sleep(error.retry_after.total_seconds())
            except Conflict:
                # A new event that exists was posted by the attempt before; the event of a series has expired.
                return "posted" if post.manifest is not None else "expired"
            except HeadroomError as error:
                logger.debug("Event %s about %s was not accepted: %s", post.key.reason, post.key.uid, error)
                return "refused"
            else:
                return "posted"
        return "unavailable"


def build_event(
    about: Mapping[str, Any], reason: str, message: str, *, type_: str, moment: datetime, instance: str
) -> Manifest:
    """A core/v1 Event. Its name is a hash of its content, so that posting it twice creates one event.

    Not one of events.k8s.io: those may not have a lastTimestamp, by which `kubectl describe` sorts.
    """
    metadata = about.get("metadata") or {}
    name, uid = metadata.get("name", ""), metadata.get("uid", "")
    at = format_moment(moment)
    digest = hashlib.sha256(f"{uid} {reason} {type_} {at} {instance} {message}".encode()).hexdigest()[:16]
    involved = {
        "apiVersion": about.get("apiVersion", ""),
        "kind": about.get("kind", ""),
        "namespace": metadata.get("namespace", ""),
        "name": name,
        "uid": uid,
    }
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {
            "namespace": metadata.get("namespace") or "default",
            "name": f"{name[:MAX_NAME_STEM]}.{digest}".lstrip("."),
        },
        "eventTime": at,
        "firstTimestamp": format_time(moment),
        "lastTimestamp": format_time(moment),
        "reportingComponent": CONTROLLER,
        "reportingInstance": instance,
        "action": ACTION,
        "reason": reason,
        "involvedObject": {key: value for key, value in involved.items() if value},
        "message": _shorten(message),
        "type": type_,
    }


async def _send(writer: KubeWriter, post: _Post) -> None:
    if post.manifest is not None:
        await writer.create(post.manifest)
    elif post.last_at is not None:
        series = {"count": post.count, "lastObservedTime": format_moment(post.last_at)}
        repeated = {"/series": series, "/lastTimestamp": format_time(post.last_at)}
        await writer.patch(post.ref, [{"op": "add", "path": path, "value": value} for path, value in repeated.items()])


def _shorten(message: str) -> str:
    # The limit is in bytes.
    raw = message.encode()
    return message if len(raw) <= MAX_NOTE else raw[: MAX_NOTE - 3].decode(errors="ignore") + "..."
