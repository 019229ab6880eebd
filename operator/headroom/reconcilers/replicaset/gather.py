"""All reads of a pass: children from the API server, slots and copies from the primary, one probe of each member."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.errors import Refused, Unavailable
from headroom.manifests.ownership import Owner
from headroom.manifests.routing import read_service_name
from headroom.model.database import BackupProgress, ConnectionTarget, Mark, SlotFacts
from headroom.model.replica import ANY_SLOT_PREFIX, SET_LABEL, ClaimFacts, MemberFacts, MemberId, PodFacts
from headroom.ports.kube import CLAIM, DATABASE_GUARD, ENDPOINT_SLICE, POD, Kind, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.board import GuardView
from headroom.reconcilers.replicaset.children import is_node_lost, is_owned, parse_claim, parse_listed, parse_pod
from headroom.reconcilers.replicaset.facts import Primary, Problem, SetFacts
from headroom.reconcilers.replicaset.history import count_restarts, measure_idle, note_histories
from headroom.reconcilers.replicaset.memory import MemberMemory, SetMemory
from headroom.reconcilers.replicaset.pod_template import build_pod_template
from headroom.reconcilers.replicaset.prober import Prober
from headroom.reconcilers.replicaset.services import Services

NODE = Kind("v1", "Node", "nodes")
GUARD_EVERY_SECONDS = 10.0
SERVICE_LABEL = "kubernetes.io/service-name"
FRESH_SECONDS = 10.0
"""A guard's view older than this is of a guard that does not look any more."""


@dataclass(frozen=True, slots=True)
class _Children:
    pods: dict[str, PodFacts]
    claims: dict[str, ClaimFacts]
    listed: set[str]


@dataclass(frozen=True, slots=True)
class _Remote:
    primary: Primary | None
    outage: Problem | None
    slots: Sequence[SlotFacts] = ()
    backups: Sequence[BackupProgress] = ()


async def gather_facts(services: Services, memory: SetMemory, body: Manifest, spec: ReplicaSetSpec) -> SetFacts:
    """Read everything, in two rounds: the world at once, then every member."""
    metadata = body["metadata"]
    owner = Owner(metadata["name"], metadata["namespace"], metadata["uid"])
    service_name = read_service_name(owner.name, spec.routing.service_name)
    view = services.board.read(owner.namespace, spec.database_ref.name)
    children, remote, _ = await asyncio.gather(
        _gather_children(services, owner, service_name),
        _gather_remote(services, view, body.get("status") or {}),
        _gather_guard(services, memory, owner, spec),
    )
    await _probe(services, memory, spec, children, remote)
    lost = await _gather_lost_nodes(services, memory, children)
    now = services.clock.monotonic()
    _note_outage(memory, remote, now)
    note_histories(memory, children.pods.values(), remote.slots, at=now, now=services.clock.now())
    slots = {slot.name: slot for slot in remote.slots}
    backups = {backup.application_name: backup for backup in remote.backups}
    assembly = _Assembly(services, memory, owner, children, slots, backups, lost, now)
    return SetFacts(
        services=services,
        memory=memory,
        body=body,
        spec=spec,
        owner=owner,
        service_name=service_name,
        now=services.clock.now(),
        gathered_at=now,
        members=tuple(assembly.members()),
        primary=remote.primary,
        outage=remote.outage,
        pod_template=build_pod_template(
            owner, spec, remote.primary.view if remote.primary else None, memory, services.postgres
        ),
        is_guard_missing=memory.guard_read_at is not None and not memory.has_guard,
    )


async def _gather_children(services: Services, owner: Owner, service_name: str) -> _Children:
    labels = {SET_LABEL: owner.name}
    pods, claims, slices = await asyncio.gather(
        services.kube.list(POD, owner.namespace, labels=labels),
        services.kube.list(CLAIM, owner.namespace, labels=labels),
        services.kube.list(ENDPOINT_SLICE, owner.namespace, labels={SERVICE_LABEL: service_name}),
    )
    return _Children(
        pods={item["metadata"]["name"]: parse_pod(item) for item in pods if is_owned(item, owner.uid)},
        claims={item["metadata"]["name"]: parse_claim(item) for item in claims if is_owned(item, owner.uid)},
        listed=parse_listed(slices),
    )


async def _gather_remote(services: Services, view: GuardView | None, status: Mapping[str, Any]) -> _Remote:
    if view is None:
        return _Remote(None, Problem(Reason.GUARD_NOT_READY, "the DatabaseGuard has not looked at its server yet"))
    if not view.is_ready or view.primary is None:
        return _Remote(None, Problem(view.reason, view.message))
    if services.clock.monotonic() - view.looked_at > FRESH_SECONDS:
        return _Remote(None, Problem(Reason.GUARD_NOT_READY, "the DatabaseGuard has not looked for too long"))
    link = view.primary
    try:
        slots, backups, position = await asyncio.gather(link.slots(ANY_SLOT_PREFIX), link.backups(), link.position())
    except Unavailable as error:
        return _Remote(None, Problem(error.reason, str(error)))
    mismatch = _find_mismatch(position, status)
    if mismatch is not None:
        return _Remote(None, mismatch)
    return _Remote(Primary(view, link, view.slots, (*view.marks, position)), None, slots, backups)


def _find_mismatch(position: Mark, status: Mapping[str, Any]) -> Problem | None:
    """A server that is not the primary our members are copies of: nothing is decided on its word."""
    pinned, highest = status.get("systemIdentifier"), status.get("timeline", 0)
    if pinned is not None and position.system_identifier != pinned:
        message = f"system {position.system_identifier} answers where {pinned} should; make a new ReplicaSet for it"
        return Problem(Reason.PRIMARY_REPLACED, message)
    if position.timeline < highest:
        message = f"a server on timeline {position.timeline} answers, and {highest} was seen: an old primary came back"
        return Problem(Reason.PRIMARY_STALE, message)
    return None


def _note_outage(memory: SetMemory, remote: _Remote, now: float) -> None:
    """A process that has just started cannot tell how long the outage is: it says so at once."""
    if remote.primary is not None:
        memory.outage_since = None
        memory.has_seen_primary = True
    elif memory.outage_since is None:
        memory.outage_since = now if memory.has_seen_primary else -math.inf


async def _gather_guard(services: Services, memory: SetMemory, owner: Owner, spec: ReplicaSetSpec) -> None:
    """The guard's own object names the Secret that pods mount; it seldom changes, so it is read seldom."""
    now = services.clock.monotonic()
    if memory.guard_read_at is not None and now - memory.guard_read_at < GUARD_EVERY_SECONDS and memory.has_guard:
        return
    guard = await services.kube.get(ObjectRef(DATABASE_GUARD, owner.namespace, spec.database_ref.name))
    connection: dict[str, Any] = (guard or {}).get("spec", {}).get("connection", {})
    memory.replication_secret = connection.get("replicationSecretRef", {}).get("name", "")
    client_certificate = connection.get("tls", {}).get("clientCertificateSecretRef", {})
    memory.client_certificate_secret = client_certificate.get("name", "")
    memory.guard_read_at, memory.has_guard = now, guard is not None


async def _probe(
    services: Services, memory: SetMemory, spec: ReplicaSetSpec, children: _Children, remote: _Remote
) -> None:
    if remote.primary is not None and remote.primary.view.target is not None:
        memory.target = _member_target(remote.primary.view.target, spec)
    prober = Prober(services.postgres, services.clock, memory, spec.readiness)
    await prober.forget_missing(children.pods.values())
    memory.copies = {pod.uid: memory.copies[pod.uid] for pod in children.pods.values() if pod.uid in memory.copies}
    if memory.target is not None:
        marks = remote.primary.marks if remote.primary else ()
        await prober.probe_all(children.pods.values(), memory.target, marks)


async def _gather_lost_nodes(services: Services, memory: SetMemory, children: _Children) -> set[str]:
    """Looks at a node only when a member on it is silent and not ready; where that is not allowed no node is lost."""
    suspects = {
        pod.node
        for pod in children.pods.values()
        if pod.node and not pod.is_ready and (known := memory.members.get(pod.name)) is not None and known.unanswered
    }
    lost = set()
    for node in suspects:
        with suppress(Refused):
            if is_node_lost(await services.kube.get(ObjectRef(NODE, "", node))):
                lost.add(node)
    return lost


def _member_target(primary: ConnectionTarget, spec: ReplicaSetSpec) -> ConnectionTarget:
    """A member is reached by its pod address, which no certificate names."""
    mode = "require" if spec.tls is not None else "disable"
    return replace(primary, port=5432, tls_mode=mode, ca_pem=None, client_certificate_pem=None, client_key_pem=None)


@dataclass(frozen=True, slots=True)
class _Assembly:
    """Joins what was read into members, by the names that derive from their ids."""

    services: Services
    memory: SetMemory
    owner: Owner
    children: _Children
    slots: dict[str, SlotFacts]
    backups: dict[str, BackupProgress]
    lost_nodes: set[str]
    now: float

    def members(self) -> list[MemberFacts]:
        """Every member of which a pod, a claim or a slot was found."""
        install, uid, name = self.services.install_id, self.owner.uid, self.owner.name
        found = {
            *(MemberId.parse_object(name, child) for child in (*self.children.pods, *self.children.claims)),
            *(MemberId.parse_slot(install, uid, slot) for slot in self.slots),
        }
        return [self._member(member) for member in sorted(member for member in found if member is not None)]

    def _member(self, member: MemberId) -> MemberFacts:
        name = member.object_name(self.owner.name)
        claim = self.children.claims.get(name)
        # A claim that an installation of another name made keeps the slot it was made with: the copy is bound to it.
        slot_name = (claim and claim.slot) or member.slot_name(self.services.install_id, self.owner.uid)
        pod, known = self.children.pods.get(name), self.memory.members.get(name)
        backup = self.backups.get(slot_name)
        facts = MemberFacts(
            id=member,
            name=name,
            slot_name=slot_name,
            pod=pod,
            claim=claim,
            slot=self.slots.get(slot_name),
            slot_idle_seconds=measure_idle(self.memory.idle_slots, self.slots.get(slot_name), self.now),
            server_restarts=count_restarts(self.memory, pod),
            backup=backup,
            is_listed=pod is not None and pod.uid in self.children.listed,
            still_seconds=_still_seconds(self.memory, pod, backup, self.now),
            is_node_lost=pod is not None and pod.node in self.lost_nodes,
        )
        return facts if known is None else _with_readings(facts, known, self.now)


def _with_readings(facts: MemberFacts, known: MemberMemory, now: float) -> MemberFacts:
    since = known.answered_at if known.answered_at is not None else known.seen_since
    return replace(
        facts,
        probe=known.probe,
        lag=known.lag if not known.unanswered else None,
        within=known.within,
        beyond=known.beyond if not known.unanswered else 0,
        unanswered=known.unanswered,
        silence=known.silence,
        silent_seconds=now - since if known.unanswered else 0.0,
        broken_seconds=known.broken_seconds,
        refused_seconds=now - known.refused_since if known.refusal is not None else 0.0,
    )


def _still_seconds(memory: SetMemory, pod: PodFacts | None, backup: BackupProgress | None, now: float) -> float:
    """How long a copy has not moved, as far as this process saw it."""
    if pod is None or pod.seed.is_done:
        return 0.0
    progress = (backup.phase, backup.streamed_bytes) if backup is not None else ("", pod.seed.restarts)
    before = memory.copies.get(pod.uid)
    if before is None or before[0] != progress:
        memory.copies[pod.uid] = (progress, now)
        return 0.0
    return now - before[1]
