"""Probes all members of a set at the same time and within a bound; keeps one connection to each."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace

from headroom.errors import HeadroomError, Unavailable
from headroom.model.database import ConnectionTarget, ReplicaProbe
from headroom.model.replica import PodFacts
from headroom.policy.replicaset.facts import Answer, Reading, Silence
from headroom.ports.clock import Clock
from headroom.ports.postgres import Postgres, ReplicaLink
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.memory import MemberHandles, SetHandles

ROUND_SECONDS = 0.7
"""A member that has not answered by then is silent in this pass; its probe continues, and no second one starts."""
LATE_SECONDS = 0.3
"""If our own loop wakes this much too late, a missing answer says nothing about the member."""

_SILENCES = (HeadroomError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Prober:
    """Probes the members of one set; the policy decides what the answers mean."""

    postgres: Postgres
    clock: Clock
    handles: SetHandles

    async def probe_all(self, pods: Iterable[PodFacts], target: ConnectionTarget) -> dict[str, Reading]:
        """Probe every pod that has an address and may run; readings are by name of the member."""
        due = [pod for pod in pods if pod.ip and not pod.is_ended]
        tasks = [self._begin(pod, target) for pod in due]
        began = self.clock.monotonic()
        if tasks:
            await asyncio.wait(tasks, timeout=ROUND_SECONDS)
        is_late = self.clock.monotonic() - began > ROUND_SECONDS + LATE_SECONDS
        return {pod.name: self._read(pod, is_late=is_late) for pod in due}

    async def probe_now(self, pod: PodFacts) -> ReplicaProbe | None:
        """One fresh answer of a member that has a link; None when it does not answer."""
        member = self.handles.members.get(pod.name)
        if member is None or member.link is None or member.pod_uid != pod.uid:
            return None
        try:
            return await asyncio.wait_for(_probe(member.link, pod.name), ROUND_SECONDS)
        except _SILENCES:
            return None

    async def forget_missing(self, pods: Iterable[PodFacts]) -> None:
        """Close the links to pods that are gone or were recreated."""
        alive = {pod.name: pod.uid for pod in pods}
        for name, member in list(self.handles.members.items()):
            if alive.get(name) != member.pod_uid:
                del self.handles.members[name]
                await member.close()

    def _begin(self, pod: PodFacts, target: ConnectionTarget) -> "asyncio.Task[ReplicaProbe]":
        member = self.handles.members.setdefault(pod.name, MemberHandles(pod.uid))
        if member.pending is None:
            member.pending = asyncio.create_task(self._ask(member, replace(target, host=pod.ip), pod.name))
        return member.pending

    def _read(self, pod: PodFacts, *, is_late: bool) -> Reading:
        member = self.handles.members[pod.name]
        pending = member.pending
        if pending is None or not pending.done():
            return Silence(is_excused=is_late)
        member.pending = None
        if pending.cancelled():
            return Silence(is_excused=is_late)
        error = pending.exception()
        if isinstance(error, _SILENCES):
            return Silence(str(error), is_excused=is_late)
        return Answer(pending.result())

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
