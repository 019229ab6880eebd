"""All reads of a pass: children from the watches, slots and copies from the primary, one probe of each member."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.errors import Refused, Unavailable
from headroom.manifests.children import Owner, read_service_name
from headroom.model.conditions import Finding
from headroom.model.database import VIEW_FRESH_SECONDS, BackupProgress, ConnectionTarget, DatabaseView, Mark, SlotFacts
from headroom.model.replica import ABANDON_ANNOTATION, SET_LABEL, ClaimFacts, MemberId, PodFacts
from headroom.model.snapshot import SnapshotClass, SnapshotFacts, Stamps, is_anchor_of
from headroom.policy.databaseguard.identity import find_identity_mismatch
from headroom.policy.replicaset.facts import Deletion, MemberFacts, PrimaryFacts, Reading, SetFacts
from headroom.policy.replicaset.failover import must_know_history
from headroom.policy.replicaset.memory import SetMemory
from headroom.policy.replicaset.method import needs_history
from headroom.policy.replicaset.timeouts import NODE_LOST_AFTER
from headroom.policy.target_conflict import AutoscalerClaim
from headroom.ports.kube import (
    CLAIM,
    DATABASE_GUARD,
    ENDPOINT_SLICE,
    NAMESPACE,
    NODE,
    POD,
    VOLUME_SNAPSHOT,
    Kind,
    Manifest,
    ObjectRef,
)
from headroom.reasons import Reason
from headroom.reconcilers.context import Services
from headroom.reconcilers.namespace_view import read_autoscalers
from headroom.reconcilers.readings import POSITION_AGE_SECONDS
from headroom.reconcilers.replicaset.certificates import read_bundle, read_given_authority
from headroom.reconcilers.replicaset.children import (
    is_node_lost,
    is_owned,
    parse_claim,
    parse_listed,
    parse_pod,
    parse_restored_stamps,
    parse_snapshot,
    parse_time,
)
from headroom.reconcilers.replicaset.copy_reader import add_copies
from headroom.reconcilers.replicaset.library_reader import Library, LibraryReader
from headroom.reconcilers.replicaset.memory import SetHandles
from headroom.reconcilers.replicaset.permission import find_prohibition
from headroom.reconcilers.replicaset.pod_template import build_pod_template, build_upstream
from headroom.reconcilers.replicaset.prober import LoopWatch, Prober, excuse
from headroom.reconcilers.replicaset.snapshot_class import read_snapshot_class

SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class _Children:
    pods: Mapping[str, PodFacts]
    claims: Mapping[str, ClaimFacts]
    restored: Mapping[str, Stamps | None]
    """What the claims say of the snapshots that they are made of, by name."""
    listed: frozenset[str]
    snapshots: tuple[SnapshotFacts, ...] | None
    guard: Manifest | None
    published: Mapping[str, str]
    """By which authority clients verify each member, by its name."""


@dataclass(frozen=True, slots=True)
class _Remote:
    """What the primary answered; without it `outage` says why it is not asked."""

    primary: PrimaryFacts | None
    outage: Finding | None = None
    slots: Sequence[SlotFacts] = ()
    backups: Sequence[BackupProgress] = ()


@dataclass(frozen=True, slots=True)
class Gatherer:
    """Reads for one pass over one set; `is_live` reads from the API server what otherwise comes from the watches."""

    services: Services
    body: Manifest
    spec: ReplicaSetSpec
    memory: SetMemory
    handles: SetHandles
    is_live: bool = False

    async def gather(self) -> SetFacts:
        """Read everything: what the API server is asked comes first, then the primary, its position last, and at once
        the probes.
        """
        children = await self._read_children()
        if not self.is_live:
            self.handles.given_authority = await read_given_authority(
                self.services, self.handles, self._owner, self.spec
            )
        # First, so that no probe goes to a pod that was recreated under the same name.
        await self._prober.forget_missing(children.pods.values())
        lost_nodes = await self._read_lost_nodes(children.pods.values())
        with LoopWatch(self.services.clock) as watch:
            remote = await self._read_remote(watch)
            readings = await self._probe(children.pods, remote.primary)
            if watch.is_late:
                readings = excuse(readings)
        view = remote.primary.view if remote.primary is not None else None
        prohibition = await self._find_prohibition(children.guard)
        facts = SetFacts(
            name=self._owner.name,
            generation=self.body["metadata"]["generation"],
            members=tuple(self._join(children, remote, lost_nodes, readings)),
            primary=remote.primary,
            outage=remote.outage,
            template=self._render_template(view, children.guard) if prohibition is None else None,
            prohibition=prohibition,
            has_guard=children.guard is not None,
            snapshots=children.snapshots,
            snapshot_class=await self._read_snapshot_class(),
            anchors=tuple(slot for slot in remote.slots if is_anchor_of(self._owner.uid, slot.name)),
            given_authority=self.handles.given_authority,
            is_service_refused=self.handles.is_service_refused,
            autoscalers=self._read_autoscalers(),
            deletion=await self._read_deletion(has_primary=remote.primary is not None),
        )
        return self._add_libraries(await self._add_history(await self._add_copies(facts)))

    async def _add_copies(self, facts: SetFacts) -> SetFacts:
        """Add how far copies from standbys are, and how much there is to copy."""
        if self.is_live:
            return facts
        links = {name: member.link for name, member in self.handles.members.items()}
        facts = replace(facts, members=await add_copies(facts.members, links))
        if facts.primary is None:
            return facts
        size = self.handles.size.read(
            lambda: self.services.servers.read_data_bytes(self._guard_key),
            self.services.clock.monotonic(),
            is_needed=any(member.pod is None or member.pod.is_copying for member in facts.members),
        )
        return replace(facts, primary=replace(facts.primary, data_bytes=size))

    async def _find_prohibition(self, guard: Manifest | None) -> Finding | None:
        """None in a teardown, which makes nothing."""
        if self.is_live:
            return None
        return await find_prohibition(self.services, self.handles, self._owner.namespace, self.spec, guard)

    async def _read_deletion(self, *, has_primary: bool) -> Deletion | None:
        deletion = _parse_deletion(self.body)
        if deletion is None or has_primary:
            return deletion
        with suppress(Refused):
            found = await self.services.kube.get(ObjectRef(NAMESPACE, "", self._owner.namespace))
            is_ending = found is not None and "deletionTimestamp" in found["metadata"]
            return replace(deletion, is_namespace_ending=is_ending)
        return deletion

    @property
    def _owner(self) -> Owner:
        metadata = self.body["metadata"]
        return Owner(metadata["name"], metadata["namespace"], metadata["uid"])

    @property
    def _prober(self) -> Prober:
        return Prober(self.services.postgres, self.services.clock, self.handles)

    @property
    def _guard_key(self) -> tuple[str, str]:
        return self._owner.namespace, self.spec.database_ref.name

    async def _read_children(self) -> _Children:
        owner = self._owner
        of_set = {SET_LABEL: owner.name}
        of_service = {SERVICE_LABEL: read_service_name(owner.name, self.spec.routing.service_name)}
        pods = [item for item in await self._list(POD, of_set) if is_owned(item, owner.uid)]
        claims = [item for item in await self._list(CLAIM, of_set) if is_owned(item, owner.uid)]
        return _Children(
            pods={item["metadata"]["name"]: parse_pod(item) for item in pods},
            claims={item["metadata"]["name"]: parse_claim(item) for item in claims},
            restored={item["metadata"]["name"]: parse_restored_stamps(item) for item in claims},
            snapshots=await self._read_snapshots(of_set),
            listed=parse_listed(await self._list(ENDPOINT_SLICE, of_service)),
            guard=await self._get(ObjectRef(DATABASE_GUARD, *self._guard_key)),
            published=read_bundle(self.services.cache, owner),
        )

    async def _read_snapshots(self, of_set: Mapping[str, str]) -> tuple[SnapshotFacts, ...] | None:
        if VOLUME_SNAPSHOT in self.services.unserved:
            return None
        found = await self._list(VOLUME_SNAPSHOT, of_set)
        return tuple(parse_snapshot(item) for item in found if is_owned(item, self._owner.uid))

    async def _read_snapshot_class(self) -> SnapshotClass | Finding | None:
        """None in a teardown, which takes none."""
        wanted = self.spec.provisioning.snapshots
        if wanted is None or self.is_live or VOLUME_SNAPSHOT in self.services.unserved:
            return None
        known = await read_snapshot_class(self.services, self.handles.snapshot_class, wanted.class_name)
        self.handles.snapshot_class = known
        return known.found if known is not None else None

    async def _list(self, kind: Kind, labels: Mapping[str, str]) -> list[Manifest]:
        if self.is_live:
            return await self.services.kube.list(kind, self._owner.namespace, labels=labels)
        return self.services.cache.list(kind, self._owner.namespace, labels=labels)

    async def _get(self, ref: ObjectRef) -> Manifest | None:
        return await self.services.kube.get(ref) if self.is_live else self.services.cache.get(ref)

    def _read_autoscalers(self) -> tuple[AutoscalerClaim, ...]:
        if self.spec.autoscaling is None:
            return ()
        return read_autoscalers(self.services.cache, self._owner.namespace, self._owner.name)

    async def _read_lost_nodes(self, pods: Iterable[PodFacts]) -> frozenset[str]:
        """Lost nodes, of members that are silent for long and not ready; none without the right to read nodes."""
        now = self.services.clock.monotonic()
        suspects = {pod.node for pod in pods if pod.node and not pod.is_ready and self._is_silent(pod, now)}
        found = await asyncio.gather(*map(self._is_node_lost, sorted(suspects)))
        return frozenset(node for node, is_lost in zip(sorted(suspects), found, strict=True) if is_lost)

    async def _is_node_lost(self, name: str) -> bool:
        """False where nobody can tell: a busy API server must not keep a pass from its ejections."""
        with suppress(Refused, Unavailable):
            return is_node_lost(await self.services.kube.get(ObjectRef(NODE, "", name)))
        return False

    def _is_silent(self, pod: PodFacts, now: float) -> bool:
        known = self.memory.members.get(pod.name)
        is_known = known is not None and known.pod_uid == pod.uid
        return known is not None and is_known and known.silent_seconds(now) > NODE_LOST_AFTER.total_seconds()

    async def _read_remote(self, watch: LoopWatch) -> _Remote:
        servers, key = self.services.servers, self._guard_key
        view, links = servers.view(key), servers.links(key)
        outage = _find_outage(view, has_links=links is not None, now=self.services.clock.monotonic())
        if view is None or links is None or outage is not None:
            return _Remote(None, outage)
        try:
            slots, backups = await asyncio.gather(servers.read_slots(key), servers.read_backups(key))
            # The last read before the probes: no wait of ours may become part of a member's lag.
            watch.begin()
            position = await self._read_position()
        except Unavailable as error:
            return _Remote(None, Finding(error.reason, str(error)))
        mismatch = find_identity_mismatch(
            position.system_identifier,
            position.timeline,
            pinned=self.memory.system_identifier,
            highest_timeline=self.memory.timeline,
        )
        if mismatch is not None:
            return _Remote(None, mismatch)
        primary = PrimaryFacts(view, (*view.marks, position), has_slot_link=links.slots is not None)
        return _Remote(primary, None, slots, backups)

    async def _read_position(self) -> Mark:
        """Asked for now: a question of another set's that was on its way before would count its wait as lag."""
        asked_at = self.services.clock.monotonic()
        position = await self.services.servers.read_position(self._guard_key)
        if asked_at - position.taken_at <= POSITION_AGE_SECONDS:
            return position
        return await self.services.servers.read_position(self._guard_key)

    async def _probe(self, pods: Mapping[str, PodFacts], primary: PrimaryFacts | None) -> dict[str, Reading]:
        # Also while the primary does not answer: with the login of the Secret, else with the last one that was known.
        view = self.services.servers.view(self._guard_key)
        if view is not None and view.target is not None:
            self.handles.target = _member_target(view.target, self.handles.given_authority)
        if self.handles.target is None:
            return {}
        position = primary.position if primary is not None else None
        return await self._prober.probe_all(pods.values(), self.handles.target, position)

    async def _add_history(self, facts: SetFacts) -> SetFacts:
        """Add where the primary's timeline forked off, once a member or a snapshot is seen that is not on it."""
        primary = facts.primary
        if primary is None:
            return facts
        position = primary.position
        is_asked = must_know_history(self.memory.positions, facts.members, position) or needs_history(facts, position)
        if not is_asked:
            return facts
        history = await self.services.servers.read_history(self._guard_key, primary.position)
        return replace(facts, primary=replace(primary, history=history))

    def _add_libraries(self, facts: SetFacts) -> SetFacts:
        """What has arrived of them by now; the questions run beside the passes, and none of their work is in a lag."""
        if self.is_live:
            return facts
        key, primary = self._guard_key, facts.primary
        members = [
            Library(member.pod, known.libraries, known.link)
            for member in facts.members
            if member.pod is not None and (known := self.handles.members.get(member.name)) is not None
        ]
        reader = LibraryReader(self.services.clock, self.handles.libraries, self.spec.readiness.ignore_libraries)
        version = None if primary is None else _identify(primary)
        ask = None if primary is None else lambda: self.services.servers.read_libraries(key, version)
        libraries, found = reader.read(members, ask, version)
        joined = (replace(member, libraries=found.get(member.name)) for member in facts.members)
        return replace(facts, libraries=libraries, members=tuple(joined))

    def _join(
        self, children: _Children, remote: _Remote, lost_nodes: frozenset[str], readings: Mapping[str, Reading]
    ) -> Iterator[MemberFacts]:
        """Every member with a pod, a claim or a slot; their names derive from the member's id."""
        install, uid, set_name = self.services.install_id, self._owner.uid, self._owner.name
        slots = {slot.name: slot for slot in remote.slots}
        backups = {backup.application_name: backup for backup in remote.backups}
        # Also those of an earlier version of this installation: the set's uid is in them, and nobody else has that.
        ids = (*self.services.former_ids, install)
        slot_names = {MemberId.parse_slot(each, uid, slot): slot for each in ids for slot in slots}
        found = {
            *(MemberId.parse_object(set_name, child) for child in (*children.pods, *children.claims)),
            *slot_names,
        }
        for member in sorted(member for member in found if member is not None):
            name = member.object_name(set_name)
            pod, claim = children.pods.get(name), children.claims.get(name)
            # A claim from an installation with another name keeps the slot it was created with: the copy is bound to
            # it. Anybody may edit the claim, so a slot that cannot be this member's is not taken from it.
            written = claim.slot if claim is not None and member.may_have_slot(uid, claim.slot) else ""
            slot_name = written or slot_names.get(member) or member.slot_name(install, uid)
            yield MemberFacts(
                id=member,
                name=name,
                slot_name=slot_name,
                pod=pod,
                claim=claim,
                slot=slots.get(slot_name),
                backup=backups.get(slot_name),
                is_listed=pod is not None and pod.uid in children.listed,
                is_node_lost=pod is not None and pod.node in lost_nodes,
                is_published=pod is None or pod.authority in ("", children.published.get(name)),
                reading=readings.get(name),
                restored=children.restored.get(name),
            )

    def _render_template(self, view: DatabaseView | None, guard: Manifest | None) -> str | None:
        """The hash of the pod template, which is rendered again only when one of its sources changes."""
        upstream = build_upstream(view, guard, self.services.postgres.read_system_authorities())
        if upstream is None or view is None or view.server is None:
            return None
        source = (self.body["metadata"]["generation"], upstream, view.server.settings)
        rendered = self.handles.pod_template
        if rendered is None or rendered[0] != source:
            rendered = source, build_pod_template(self._owner, self.spec, view.server, upstream)
            self.handles.pod_template = rendered
        return rendered[1].template


def _identify(primary: PrimaryFacts) -> tuple[object, ...]:
    """Changes with another primary, and with a restart, after which its image may be another."""
    server = primary.view.server
    return primary.position.system_identifier, primary.position.timeline, server.started_at if server else None


def _find_outage(view: DatabaseView | None, *, has_links: bool, now: float) -> Finding | None:
    """Why the primary is not asked; None where it can be."""
    if view is None:
        return Finding(Reason.GUARD_NOT_READY, "the DatabaseGuard has not observed its server yet")
    if not view.is_ready:
        return view.finding
    if now - view.observed_at > VIEW_FRESH_SECONDS:
        return Finding(Reason.GUARD_NOT_READY, "the DatabaseGuard has not observed its server for too long")
    return None if has_links else Finding(Reason.GUARD_NOT_READY, "the DatabaseGuard has no connection to its server")


def _member_target(primary: ConnectionTarget, given_authority: str) -> ConnectionTarget:
    """What is the same for all members; `prober.reach` adds what each pod has of its own."""
    ca = given_authority or None
    return replace(primary, port=5432, tls_mode="disable", ca_pem=ca, client_certificate_pem=None, client_key_pem=None)


def _parse_deletion(body: Manifest) -> Deletion | None:
    metadata = body["metadata"]
    requested_at = parse_time(metadata.get("deletionTimestamp"))
    if requested_at is None:
        return None
    return Deletion(requested_at, is_abandoned=metadata.get("annotations", {}).get(ABANDON_ANNOTATION) == "true")
