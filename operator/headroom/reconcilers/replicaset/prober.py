"""Probes all members of a set at the same time and within a bound; keeps one connection to each.

A round begins once the primary's position was read, and only an answer to a question of this round is a reading: none
of our waits becomes a part of a lag. What comes later, or in a round in which our own loop was late, is a sign of life
and no more.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from headroom.errors import HeadroomError, Unavailable
from headroom.model.database import ConnectionTarget, Mark, ReplicaProbe
from headroom.model.replica import PodFacts
from headroom.policy.replicaset.facts import Answer, Reading, Silence
from headroom.ports.clock import Clock
from headroom.ports.postgres import Postgres, ReplicaLink
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.memory import MemberHandles, SetHandles

logger = logging.getLogger(__name__)

ROUND_SECONDS = 0.7
"""A member that has not answered by then is silent in this pass; its probe continues, and no second one starts."""
LATE_SECONDS = 0.3
"""A pass in which our own loop wakes this much too late is discarded: it would measure the operator."""
TICK_SECONDS = 0.05
ASK_AGAIN_SECONDS = (0.02, 0.08)
"""A member that has not replayed the position yet is asked again after these times. On a primary that always writes, a
single question would find it behind each time, and its lag would be the age of the mark before."""
SECOND_ROUND_SECONDS = 0.2

_EXPECTED = (HeadroomError, TimeoutError)


@dataclass(slots=True)
class LoopWatch:
    """Whether our own event loop was late since it was entered, or since the last `begin`."""

    clock: Clock
    _worst: float = 0.0
    _due_at: float = 0.0
    _timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    def __enter__(self) -> "LoopWatch":
        self.begin()
        self._tick()
        return self

    def begin(self) -> None:
        """Forget what was late before now."""
        self._worst, self._due_at = 0.0, self.clock.monotonic()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @property
    def is_late(self) -> bool:
        """True once a turn of the loop took much longer than it may."""
        return max(self._worst, self.clock.monotonic() - self._due_at) > LATE_SECONDS

    def _tick(self) -> None:
        now = self.clock.monotonic()
        self._worst = max(self._worst, now - self._due_at)
        self._due_at = now + TICK_SECONDS
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)


def excuse(readings: Mapping[str, Reading]) -> dict[str, Reading]:
    """The readings of a round in which our loop was late: none counts, neither for nor against a member."""
    return {
        name: Silence("the operator was late", is_excused=True, late=reading.probe)
        if isinstance(reading, Answer)
        else replace(reading, is_excused=True)
        for name, reading in readings.items()
    }


def reach(target: ConnectionTarget, pod: PodFacts) -> ConnectionTarget:
    """The server in a pod, verified by what the pod itself reported, else by the authority of the spec's Secret.

    The spec does not tell: pods from before its last change run on as they are. The authority of a pod is of that pod
    alone, so whoever has its address next is not taken for it; a name in the certificate would not tell more.
    """
    ca = pod.authority or (target.ca_pem if pod.has_tls else None)
    encrypted = "verify-ca" if ca else "require"
    return replace(target, host=pod.ip, ca_pem=ca, tls_mode=encrypted if pod.has_tls else "disable", is_member=True)


@dataclass(frozen=True, slots=True)
class Prober:
    """Probes the members of one set; the policy decides what the answers mean."""

    postgres: Postgres
    clock: Clock
    handles: SetHandles

    async def probe_all(
        self, pods: Iterable[PodFacts], target: ConnectionTarget, position: Mark | None = None
    ) -> dict[str, Reading]:
        """Probe every pod that has an address and may run; readings are by name of the member.

        `position` is where the primary's WAL was just before; None while the primary does not answer.
        """
        due = [pod for pod in pods if pod.ip and not pod.is_ended]
        readings = await self._ask_all(due, target, ROUND_SECONDS)
        for seconds in ASK_AGAIN_SECONDS:
            answers = {name: reading.probe for name, reading in readings.items() if isinstance(reading, Answer)}
            behind = [pod for pod in due if pod.name in answers and _is_just_behind(answers[pod.name], position)]
            if not behind:
                break
            await self.clock.sleep(seconds)
            again = await self._ask_all(behind, target, SECOND_ROUND_SECONDS)
            readings |= {name: reading for name, reading in again.items() if isinstance(reading, Answer)}
        return readings

    async def probe_now(self, pod: PodFacts, position: Mark | None = None) -> ReplicaProbe | None:
        """One fresh answer of a member that has a link; None when it does not answer."""
        member = self.handles.members.get(pod.name)
        if member is None or member.link is None or member.pod_uid != pod.uid:
            return None
        probe = await self._ask_now(member, member.link, pod.name)
        for seconds in ASK_AGAIN_SECONDS:
            if probe is None or not _is_just_behind(probe, position):
                break
            await self.clock.sleep(seconds)
            probe = await self._ask_now(member, member.link, pod.name)
        return probe

    async def _ask_now(self, member: MemberHandles, link: ReplicaLink, name: str) -> ReplicaProbe | None:
        try:
            return await asyncio.wait_for(_probe(link, name), ROUND_SECONDS)
        except Exception as error:  # noqa: BLE001  one member's trouble must cost no other its turn
            _log_unplanned(member, name, error)
            return None

    async def forget_missing(self, pods: Iterable[PodFacts]) -> None:
        """Close the links to pods that are gone or were recreated."""
        alive = {pod.name: pod.uid for pod in pods}
        for name, member in list(self.handles.members.items()):
            if alive.get(name) != member.pod_uid:
                del self.handles.members[name]
                await member.close()

    async def _ask_all(self, due: Sequence[PodFacts], target: ConnectionTarget, seconds: float) -> dict[str, Reading]:
        """One round: every member is asked at the same time."""
        earlier = {pod.name: self._take(pod) for pod in due}
        began = self.clock.monotonic()
        tasks = [self._begin(pod, target) for pod in due]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        return {pod.name: self._read(pod, earlier[pod.name], began) for pod in due}

    def _begin(self, pod: PodFacts, target: ConnectionTarget) -> "asyncio.Task[ReplicaProbe]":
        member = self.handles.members.setdefault(pod.name, MemberHandles(pod.uid))
        if member.pending is None:
            member.pending = asyncio.create_task(self._ask(member, reach(target, pod), pod.name))
        return member.pending

    def _read(self, pod: PodFacts, earlier: Reading | None, began: float) -> Reading:
        """The reading of this round; without one, whatever came of the question before."""
        found = self._take(pod) or earlier or Silence()
        if found is earlier or (isinstance(found, Answer) and found.probe.probed_at < began):
            return _describe_late(found.probe) if isinstance(found, Answer) else found
        return found

    def _take(self, pod: PodFacts) -> Reading | None:
        """What a question has brought, if it has ended; an error that nobody foresaw is this member's alone."""
        member = self.handles.members.get(pod.name)
        if member is None or member.pending is None or not member.pending.done():
            return None
        pending, member.pending = member.pending, None
        if pending.cancelled():
            return Silence()
        error = pending.exception()
        if error is None:
            member.unplanned = ""
            return Answer(pending.result())
        if not isinstance(error, Exception):
            raise error
        _log_unplanned(member, pod.name, error)
        reason = error.reason if isinstance(error, Unavailable) else None
        return Silence(str(error) or type(error).__name__, reason=reason)

    async def _ask(self, member: MemberHandles, target: ConnectionTarget, name: str) -> ReplicaProbe:
        link = member.link
        if link is None or member.link_target != target:
            link = await self._relink(member, target)
        return await _probe(link, name)

    async def _relink(self, member: MemberHandles, target: ConnectionTarget) -> ReplicaLink:
        """Open a link; a new login must work before it replaces the old: a member may not have replayed it yet."""
        old, before = member.link, member.link_target
        if old is not None and (before is None or before.host != target.host):
            # At an address that the pod no longer has, another member could answer.
            member.link = None
            await old.close()
            old = None
        try:
            member.link = await self.postgres.open_replica(target)
        except HeadroomError:
            if old is None:
                raise
            return old
        member.link_target = target
        if old is not None:
            await old.close()
        return member.link


async def _probe(link: ReplicaLink, name: str) -> ReplicaProbe:
    """A reading of this member and no other: another pod may have the address by now, and a verdict can be final."""
    probe = await link.probe()
    if probe.server_name != name:
        message = f"a server named {probe.server_name!r} answers where {name} should"
        raise Unavailable(message, reason=Reason.MEMBER_UNREACHABLE)
    return probe


def _describe_late(probe: ReplicaProbe) -> Silence:
    return Silence(f"its answer took {probe.answered_at - probe.probed_at:.1f} s", late=probe)


def _is_just_behind(probe: ReplicaProbe, position: Mark | None) -> bool:
    """It may replay the position within a moment."""
    is_moving = probe.is_streaming and not probe.is_replay_paused
    return position is not None and is_moving and probe.replay_lsn is not None and probe.replay_lsn < position.lsn


def _log_unplanned(member: MemberHandles, name: str, error: Exception) -> None:
    """Once for each error in a row: a probe follows every second."""
    text = "" if isinstance(error, _EXPECTED) else f"{type(error).__name__}: {error}"
    if text and text != member.unplanned:
        logger.error("%s: the probe failed", name, exc_info=error)
    member.unplanned = text
