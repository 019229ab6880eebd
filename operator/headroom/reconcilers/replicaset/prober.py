"""Asks every member of a set how it is, all at once and within a bound; keeps one connection to each."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from headroom.api.v1alpha1.serving import Readiness
from headroom.errors import HeadroomError, Unavailable
from headroom.model.database import ConnectionTarget, Mark, ReplicaProbe
from headroom.model.replica import Lag, PodFacts
from headroom.policy.replicaset.readiness import is_beyond, is_within
from headroom.policy.replicaset.replay_lag import LagVerdict, NotEligible, ReplayLag, measure_replay_lag
from headroom.ports.clock import Clock
from headroom.ports.postgres import Postgres, ReplicaLink
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.memory import MemberMemory, SetMemory

ROUND_SECONDS = 0.7
"""A member that has not answered by then is unanswered in this pass; its probe goes on, and no second is begun."""
LATE_SECONDS = 0.3
"""When our own loop wakes this much too late, it is no witness against anybody."""


_SILENCES = (HeadroomError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Prober:
    """Probes the members of one set."""

    postgres: Postgres
    clock: Clock
    memory: SetMemory
    bounds: Readiness

    async def probe_all(self, pods: Iterable[PodFacts], target: ConnectionTarget, marks: Sequence[Mark]) -> None:
        """Probe every pod that has an address; results are in the memory of each member."""
        due = [self._recall(pod) for pod in pods if pod.ip and not pod.is_ended]
        for member, pod in due:
            if member.pending is None:
                at = replace(target, host=pod.ip)
                member.pending = asyncio.create_task(self._ask(member, at, pod.name))
        tasks = [member.pending for member, _ in due if member.pending is not None]
        began = self.clock.monotonic()
        if tasks:
            await asyncio.wait(tasks, timeout=ROUND_SECONDS)
        is_late = self.clock.monotonic() - began > ROUND_SECONDS + LATE_SECONDS
        for member, _ in due:
            self._note(member, marks, is_late=is_late)

    async def probe_now(self, pod: PodFacts, marks: Sequence[Mark]) -> Lag | None:
        """One fresh reading of a member that has a link; None when it does not answer."""
        member = self.memory.members.get(pod.name)
        if member is None or member.link is None or member.pod_uid != pod.uid:
            return None
        try:
            probe = await asyncio.wait_for(_read(member.link, pod.name), ROUND_SECONDS)
        except (HeadroomError, TimeoutError):
            return None
        return to_lag(measure_replay_lag(marks, probe, self.clock.monotonic(), previous=member.verdict))

    async def forget_missing(self, pods: Iterable[PodFacts]) -> None:
        """Close the links to pods that are gone or were made anew."""
        alive = {pod.name: pod.uid for pod in pods}
        for name, member in list(self.memory.members.items()):
            if alive.get(name) != member.pod_uid:
                del self.memory.members[name]
                await close_member(member)

    def _recall(self, pod: PodFacts) -> tuple[MemberMemory, PodFacts]:
        known = self.memory.members.get(pod.name)
        if known is None:
            known = MemberMemory(pod.uid, seen_since=self.clock.monotonic())
            self.memory.members[pod.name] = known
        return known, pod

    async def _ask(self, member: MemberMemory, target: ConnectionTarget, name: str) -> ReplicaProbe:
        link = member.link
        if link is None or member.link_target != target:
            link = await self._link_anew(member, target)
        return await _read(link, name)

    async def _link_anew(self, member: MemberMemory, target: ConnectionTarget) -> ReplicaLink:
        """Open a link; a new login must work before it replaces the old: a member may not have replayed it yet."""
        old, before = member.link, member.link_target
        if old is not None and (before is None or before.host != target.host):
            # Who answers at an address that is not the pod's any more could be another member.
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

    def _note(self, member: MemberMemory, marks: Sequence[Mark], *, is_late: bool) -> None:
        pending, now = member.pending, self.clock.monotonic()
        is_done = pending is not None and pending.done()
        if is_done:
            member.pending = None
        if pending is None or not is_done or pending.cancelled():
            self._note_silence(member, now, is_late=is_late)
            return
        error = pending.exception()
        if isinstance(error, _SILENCES):
            member.silence = str(error)
            self._note_silence(member, now, is_late=is_late)
            return
        member.probe = pending.result()
        member.unanswered, member.silence, member.answered_at = 0, "", now
        self._judge(member, marks, now)

    def _note_silence(self, member: MemberMemory, now: float, *, is_late: bool) -> None:
        """Count at most one unanswered probe a second, however fast passes follow each other."""
        member.within, member.beyond, member.lag = 0, 0, None
        if is_late:
            return
        if member.unanswered == 0 or now - member.counted_at >= 1.0:
            member.unanswered += 1
            member.counted_at = now

    def _judge(self, member: MemberMemory, marks: Sequence[Mark], now: float) -> None:
        assert member.probe is not None
        verdict = measure_replay_lag(marks, member.probe, now, previous=member.verdict)
        member.verdict, member.lag = verdict, to_lag(verdict)
        member.within = member.within + 1 if is_within(member.lag, self.bounds) else 0
        member.beyond = member.beyond + 1 if is_beyond(member.lag, self.bounds) else 0
        refusal = member.lag.refusal
        if refusal is not member.refusal:
            member.refusal, member.refused_since = refusal, now


async def _read(link: ReplicaLink, name: str) -> ReplicaProbe:
    """A reading of this member and no other: an address may be another pod's by now, and a verdict can be final."""
    probe = await link.probe()
    if probe.server_name != name:
        message = f"a server named {probe.server_name!r} answers where {name} should"
        raise Unavailable(message, reason=Reason.MEMBER_UNREACHABLE)
    return probe


def to_lag(verdict: LagVerdict) -> Lag:
    """The verdict as the plain fact that decisions read."""
    if isinstance(verdict, ReplayLag):
        return Lag(verdict.seconds, verdict.bytes)
    if isinstance(verdict, NotEligible):
        return Lag(refusal=verdict.reason, message=verdict.message)
    return Lag(message=verdict.message)


async def close_member(member: MemberMemory) -> None:
    """End a member's probe and its connection."""
    if member.pending is not None:
        member.pending.cancel()
        with suppress(asyncio.CancelledError, HeadroomError, TimeoutError):
            await member.pending
    if member.link is not None:
        await member.link.close()
