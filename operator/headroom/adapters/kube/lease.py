"""The Lease elector: one process writes, and it knows until when it may.

All decisions count monotonic seconds of this process: a term is counted from the moment a renewal was *sent*, and
another's from the moment it was last *seen* to change. Wall time is only written for people to read.

Safety: the leader starts a mutating call only if it ends before `renewed_at + lease`; a follower takes over no
sooner than a lease, and a margin for drift, after it last saw the Lease change.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from headroom.adapters.kube.leadership import LEADER, LEASE_RENEWALS
from headroom.adapters.kube.lease_record import (
    LeaseRecord,
    LeaseTimes,
    build_lease,
    build_release,
    build_renewal,
    build_takeover,
    parse_lease,
)
from headroom.adapters.kube.limits import Limits
from headroom.errors import Conflict, HeadroomError, NotLeading
from headroom.model.moments import format_moment
from headroom.ports.clock import Clock
from headroom.ports.kube import KubeReader, KubeWriter, ObjectRef
from headroom.ports.telemetry import Telemetry

logger = logging.getLogger(__name__)

LEASE_LIMITS = Limits(concurrency=2, calls_per_second=10, burst=20, read_timeout_seconds=2.0, write_timeout_seconds=2.0)
"""For the elector's own `ApiKube`, without a fence: renewals wait for no other call, two fit into the deadline."""


class LeaseKube(KubeReader, KubeWriter, Protocol):
    """What the elector uses of the API."""


@dataclass(frozen=True, slots=True)
class Term:
    """A term of ours: since when, its number in this Lease, and who held the Lease before."""

    lease_uid: str
    acquired_at: str
    number: int
    previous_holder: str


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A version of the Lease and when it was first seen (monotonic); None is a missing Lease."""

    version: str | None
    seen_at: float


class LeaseElector:
    """Implements `Fence`. `lost` is set, and `on_lost` called, once: a process leads at most one term."""

    def __init__(
        self,
        kube: LeaseKube,
        clock: Clock,
        *,
        lease: ObjectRef,
        holder: str,
        times: LeaseTimes | None = None,
        telemetry: Telemetry | None = None,
        on_lost: Callable[[str], None] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.lost = asyncio.Event()
        self.lost_because = ""
        self.term: Term | None = None
        self._kube = kube
        self._clock = clock
        self._lease = lease
        self._holder = holder
        self._times = times or LeaseTimes()
        self._telemetry = telemetry
        self._on_lost = on_lost
        self._jitter = jitter
        self._sighting: _Sighting | None = None
        self._has_seen_one = False
        self._asked: tuple[str, str] | None = None
        self._renewed_at = float("-inf")
        self._busy_until = float("-inf")
        self._tasks: list[asyncio.Task[None]] = []
        self._record_leading(is_leading=False)

    @property
    def is_leading(self) -> bool:
        """True while the term runs; a write still has to pass `check`."""
        return self.term is not None and not self.lost.is_set()

    def check(self, timeout_seconds: float) -> None:
        """Raise `NotLeading` unless a call of that length, started now, ends within the lease."""
        end = self._clock.monotonic() + timeout_seconds
        if not self.is_leading:
            raise NotLeading(f"{self._holder} does not hold the lease {self._lease.name}")
        left = self._renewed_at + self._times.lease_seconds - end
        if left <= 0:
            raise NotLeading(f"the lease {self._lease.name} ends {-left:.1f} s before a call of this length would")
        # `release` waits until then: a call that may still take effect must end before another process leads.
        self._busy_until = max(self._busy_until, end)

    async def acquire(self) -> Term:
        """Wait until the lease is ours, then keep it in the background; errors are logged and waited out."""
        while True:
            try:
                term = await self._try_acquire()
            except HeadroomError as error:
                logger.warning("The lease %s cannot be acquired now: %s", self._lease.name, error)
            else:
                if term is not None:
                    self._start(term)
                    return term
            await self._pause()

    async def release(self) -> None:
        """Stop writing, wait out the calls that may be on their way (3 s at most), and give the lease up."""
        # First of all: from here on `check` refuses every new write.
        term, self.term = self.term, None
        self._record_leading(is_leading=False)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if term is None or self.lost.is_set():
            return
        await self._clock.sleep(self._busy_until - self._clock.monotonic())
        try:
            await self._kube.patch(self._lease, build_release(self._holder, term.acquired_at, self._clock.now()))
        except HeadroomError as error:
            logger.warning("The lease %s was not released and runs out: %s", self._lease.name, error)

    async def _try_acquire(self) -> Term | None:
        found = await self._kube.get(self._lease)
        record = None if found is None else parse_lease(found)
        waited = self._watch_record(record)
        if record is not None and self._is_ours(record):
            return await self._confirm(record)
        if not self._may_take(record, waited):
            return None
        sent_at, now = self._clock.monotonic(), self._clock.now()
        # Remembered before it is sent: if the response is lost, the next read still recognizes our term.
        self._asked = (format_moment(now), record.holder if record else "")
        try:
            if record is None:
                taken = await self._kube.create(build_lease(self._lease, self._holder, now, self._times))
            else:
                taken = await self._kube.patch(self._lease, build_takeover(record, self._holder, now, self._times))
        except Conflict:
            return None
        self._renewed_at = sent_at
        return self._begin(parse_lease(taken))

    async def _confirm(self, record: LeaseRecord) -> Term | None:
        """Our takeover took effect although its answer was lost: the term counts from an answered renewal."""
        return self._begin(record) if await self._renew(record.acquired_at) else None

    def _is_ours(self, record: LeaseRecord) -> bool:
        return self._asked is not None and (record.holder, record.acquired_at) == (self._holder, self._asked[0])

    def _begin(self, record: LeaseRecord) -> Term:
        previous_holder = self._asked[1] if self._asked else ""
        return Term(record.uid, record.acquired_at, record.transitions, previous_holder)

    def _watch_record(self, record: LeaseRecord | None) -> float:
        """Seconds since the Lease was last seen to change."""
        version = None if record is None else record.resource_version
        now = self._clock.monotonic()
        if self._sighting is None or self._sighting.version != version:
            self._sighting = _Sighting(version, now)
        return now - self._sighting.seen_at

    def _may_take(self, record: LeaseRecord | None, waited: float) -> bool:
        self._has_seen_one = self._has_seen_one or record is not None
        # A Lease that never existed has no leader; one that vanished was deleted while its holder may still write.
        is_free = not record.holder if record else not self._has_seen_one
        term = max(self._times.lease_seconds, record.duration_seconds if record else 0.0)
        return is_free or waited > term * (1 + self._times.drift_margin)

    def _start(self, term: Term) -> None:
        self.term = term
        self._record_leading(is_leading=True)
        logger.info("Leading since %s, term %d of lease %s", term.acquired_at, term.number, self._lease.name)
        self._tasks = [asyncio.create_task(self._keep(term)), asyncio.create_task(self._watch_deadline())]

    async def _keep(self, term: Term) -> None:
        while True:
            await self._pause()
            try:
                is_ours = await self._renew(term.acquired_at)
            except HeadroomError as error:
                self._count(type(error).__name__)
                logger.warning("The lease %s was not renewed: %s", self._lease.name, error)
            except Exception as error:
                # Whatever the error, only the deadline decides: a mistake of ours must not end the renewals.
                self._count(type(error).__name__)
                logger.exception("The lease %s was not renewed", self._lease.name)
            else:
                self._count("Renewed" if is_ours else "Taken")
                if not is_ours:
                    return self._lose("another process holds the lease, or it was deleted")

    async def _renew(self, acquired_at: str) -> bool:
        sent_at = self._clock.monotonic()
        try:
            await self._kube.patch(self._lease, build_renewal(self._holder, acquired_at, self._clock.now()))
        except Conflict:
            return False
        # From sending, not from the answer: a follower may have seen the renewal at any moment since.
        self._renewed_at = max(self._renewed_at, sent_at)
        return True

    async def _watch_deadline(self) -> None:
        while True:
            left = self._renewed_at + self._times.renew_deadline_seconds - self._clock.monotonic()
            if left <= 0:
                return self._lose(f"no renewal within {self._times.renew_deadline_seconds:g} s")
            await self._clock.sleep(left)

    def _lose(self, because: str) -> None:
        if self.lost.is_set():
            return
        self.lost_because = because
        self.lost.set()
        self._record_leading(is_leading=False)
        logger.error("The lease %s is lost: %s", self._lease.name, because)
        if self._on_lost is not None:
            self._on_lost(because)

    async def _pause(self) -> None:
        await self._clock.sleep(self._times.retry_seconds * (1 + self._times.jitter * self._jitter()))

    def _record_leading(self, *, is_leading: bool) -> None:
        if self._telemetry is not None:
            self._telemetry.record(LEADER, float(is_leading))

    def _count(self, outcome: str) -> None:
        if self._telemetry is not None:
            self._telemetry.record(LEASE_RENEWALS, 1, outcome=outcome)
