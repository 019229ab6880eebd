"""Kubernetes events. They are merged into series, rate limited, queued, and posted in the background.

Each namespace has a share: a flood of one is dropped as its own, and what others say is posted in between.
"""

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from headroom.adapters.telemetry.event_queue import EventKey, EventPost, EventQueue
from headroom.errors import Conflict, HeadroomError, KubeUnavailable
from headroom.model.moments import format_moment, format_time
from headroom.model.text import clean_text
from headroom.ports.clock import Clock
from headroom.ports.kube import EVENT, KubeWriter, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.fairness import TokenBucket

logger = logging.getLogger(__name__)

CONTROLLER = "headroom.dev/operator"
ACTION = "Reconcile"
SERIES_SECONDS = 300.0
SWEEP_SECONDS = 10.0
OBJECT_BURST, OBJECT_RATE = 10, 10 / 60
NAMESPACE_BURST, NAMESPACE_RATE = 25, 2.5
"""What a namespace may emit: at most half of what is posted."""
OVERALL_BURST, OVERALL_RATE = 25, 5.0
"""What is posted, of all namespaces together and in turns between them."""
ATTEMPTS = 3
MAX_NOTE = 1024
MAX_NAME_STEM = 200
MEASURED = re.compile(r"(?<![\w.-])\d+(?:\.\d+(?!\w|\.\d)|(?= ?(?:ms|s|min|[KMG]iB|B)\b| ?%))")
"""A measured number: one with a fraction or a unit. Numbers in names and counts do not match: they identify."""
CountOutcome = Callable[[str, str], None]
"""Called with the reason and the outcome of every emitted event."""


@dataclass(slots=True)
class _Series:
    """Repetitions of an event within one window; `written` is the last count that was posted."""

    ref: ObjectRef
    window_ends_at: float
    count: int
    written: int
    last_at: datetime


@dataclass(slots=True)
class EventRecorder:
    """`emit` returns at once; `run` posts until it is cancelled."""

    clock: Clock
    count: CountOutcome
    instance: str
    _series: dict[EventKey, _Series] = field(default_factory=dict)
    _objects: dict[str, TokenBucket] = field(default_factory=dict)
    _namespaces: dict[str, TokenBucket] = field(default_factory=dict)
    _overall: TokenBucket = field(default_factory=lambda: TokenBucket(OVERALL_RATE, OVERALL_BURST))
    _queue: EventQueue = field(default_factory=EventQueue)

    def emit(self, about: Mapping[str, Any], reason: Reason, message: str, type_: str) -> None:
        """Queue an event, count it as a repetition, or drop it; the outcome is counted."""
        message = clean_text(message)
        key = EventKey((about.get("metadata") or {}).get("uid", ""), str(reason), type_, MEASURED.sub("#", message))
        now, moment = self.clock.monotonic(), self.clock.now()
        series = self._series.get(key)
        if series is not None and now < series.window_ends_at:
            series.count, series.last_at = series.count + 1, moment
            self.count(key.reason, "merged")
            return
        namespace = (about.get("metadata") or {}).get("namespace", "")
        refusal = self._find_refusal(key.uid, namespace, now)
        if refusal is not None:
            self.count(key.reason, refusal)
            return
        manifest = build_event(about, key.reason, message, type_=type_, moment=moment, instance=self.instance)
        ref = ObjectRef(EVENT, manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        self._series[key] = _Series(ref, now + SERIES_SECONDS, 1, 1, moment)
        self._enqueue(EventPost(key, ref, manifest))

    async def run(self, writer: KubeWriter) -> None:
        """Post queued events one at a time, and the count of each series when its window ends."""
        sweeper = asyncio.create_task(self._sweep_forever())
        try:
            while True:
                await self._post(writer, await self._take_next())
        finally:
            sweeper.cancel()

    async def _take_next(self) -> EventPost:
        """The next event once it may be posted; what is sent later is not chosen before."""
        while True:
            pause = self._overall.find_wait(self.clock.monotonic())
            if pause > 0:
                await self.clock.sleep(pause)
                continue
            self._queue.has_news.clear()
            post = self._queue.take(self.clock.monotonic())
            if post is not None:
                self._overall.take(self.clock.monotonic())
                return post
            await self._await_news(self._queue.find_pause(self.clock.monotonic()))

    async def _await_news(self, pause: float | None) -> None:
        """Wait for an event, or until a namespace may continue."""
        if pause is None:
            await self._queue.has_news.wait()
            return
        timer = asyncio.create_task(self.clock.sleep(pause))
        news = asyncio.create_task(self._queue.has_news.wait())
        try:
            await asyncio.wait({timer, news}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            news.cancel()

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
            self._enqueue(EventPost(key, series.ref, None, series.count, series.last_at))
        # A full bucket is like a new one, so that objects that are gone do not stay in memory.
        self._objects = {uid: bucket for uid, bucket in self._objects.items() if not bucket.is_full(now)}
        self._namespaces = {name: bucket for name, bucket in self._namespaces.items() if not bucket.is_full(now)}

    async def _sweep_forever(self) -> None:
        while True:
            await self.clock.sleep(SWEEP_SECONDS)
            self.sweep()

    def _find_refusal(self, uid: str, namespace: str, now: float) -> str | None:
        bucket = self._objects.setdefault(uid, TokenBucket(OBJECT_RATE, OBJECT_BURST))
        if not bucket.try_take(now):
            return "object_limit"
        share = self._namespaces.setdefault(namespace, TokenBucket(NAMESPACE_RATE, NAMESPACE_BURST))
        return None if share.try_take(now) else "namespace_limit"

    def _enqueue(self, post: EventPost) -> None:
        if not self._queue.put(post):
            self._drop(post, "queue_full")

    def _drop(self, post: EventPost, outcome: str) -> None:
        # The server has no event to count up, so the next repetition must be posted as a new event.
        self._series.pop(post.key, None)
        self.count(post.key.reason, outcome)

    async def _post(self, writer: KubeWriter, post: EventPost) -> None:
        outcome = await self._try_to_send(writer, post)
        if outcome == "posted":
            self.count(post.key.reason, outcome)
        elif outcome:
            self._drop(post, outcome)

    async def _try_to_send(self, writer: KubeWriter, post: EventPost) -> str:
        """What became of an event; empty if it is tried again."""
        try:
            await _send(writer, post)
        except KubeUnavailable as error:
            return self._try_again(post, error)
        except Conflict:
            # A new event that exists was posted by the attempt before; the event of a series has expired.
            return "posted" if post.manifest is not None else "expired"
        except HeadroomError as error:
            logger.debug("Event %s about %s was not accepted: %s", post.key.reason, post.key.uid, error)
            return "refused"
        return "posted"

    def _try_again(self, post: EventPost, error: KubeUnavailable) -> str:
        # Few attempts, then the next event: an old one is of no use, and the queue is bounded.
        if post.attempt >= ATTEMPTS:
            return "unavailable"
        self._queue.hold(post.ref.namespace, self.clock.monotonic() + error.retry_after.total_seconds())
        return "" if self._queue.put(replace(post, attempt=post.attempt + 1)) else "queue_full"


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


async def _send(writer: KubeWriter, post: EventPost) -> None:
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
