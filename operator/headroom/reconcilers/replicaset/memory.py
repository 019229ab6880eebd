"""The handles of a set in this process: connections, tasks and caches; and the context of a pass."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.errors import Conflict
from headroom.manifests.children import Owner, read_service_name
from headroom.model.database import ConnectionTarget, ReplicaProbe
from headroom.policy.replicaset.decide import SetDecision
from headroom.policy.replicaset.facts import SetFacts
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.memory import SetMemory
from headroom.ports.kube import REPLICA_SET, ObjectRef
from headroom.ports.postgres import ReplicaLink, SlotLink
from headroom.reconcilers.context import ReconcileContext
from headroom.reconcilers.logins import CachedLogin
from headroom.reconcilers.replicaset.copy_reader import SizeTask
from headroom.reconcilers.replicaset.library_reader import LibraryTask
from headroom.reconcilers.replicaset.pod_template import PodTemplate
from headroom.reconcilers.replicaset.snapshot_class import KnownClass
from headroom.reconcilers.replicaset.warmup_task import WarmupTask
from headroom.reconcilers.servers import GuardKey


@dataclass(slots=True)
class MemberHandles:
    """The connection to one pod's server, and the probe that is on its way.

    `unplanned` is the last error of a probe that no code foresaw, empty once one was answered; `unended` is the same of
    ending its sessions.
    """

    pod_uid: str
    link: ReplicaLink | None = None
    link_target: ConnectionTarget | None = None
    pending: "asyncio.Task[ReplicaProbe] | None" = None
    unplanned: str = ""
    unended: str = ""
    libraries: LibraryTask = field(default_factory=LibraryTask)
    warmup: WarmupTask = field(default_factory=WarmupTask)

    async def close(self) -> None:
        """End the questions and the connections."""
        await self.warmup.close()
        await self.libraries.close()
        if self.pending is not None:
            self.pending.cancel()
            # Whatever the probe met: it must not cost the pass of the set.
            with suppress(asyncio.CancelledError, Exception):
                await self.pending
        if self.link is not None:
            with suppress(Exception):
                await self.link.close()


@dataclass(slots=True)
class SetHandles:
    """All that is open for one set, and what would cost too much to compute in every pass.

    `members` is by name. `target` is how a member is reached, with the primary's login. `spec` and `pod_template` are
    kept with what they were built from. `applied` has, for each object that a set has once, what was last written and
    when (monotonic seconds). `measured` names the members that have metrics. `unanswered` has the slots whose creation
    was asked for without an answer, and when: the server may still create them.
    """

    members: dict[str, MemberHandles] = field(default_factory=dict)
    libraries: LibraryTask = field(default_factory=LibraryTask)
    size: SizeTask = field(default_factory=SizeTask)
    target: ConnectionTarget | None = None
    spec: tuple[int, ReplicaSetSpec] | None = None
    pod_template: tuple[object, PodTemplate] | None = None
    applied: dict[ObjectRef, tuple[str, float]] = field(default_factory=dict)
    is_service_refused: bool = False
    measured: frozenset[str] = frozenset()
    unanswered: dict[str, float] = field(default_factory=dict)
    permission: CachedLogin[bool] | None = None
    """Whether the labels of the Secrets that pods mount were permitted when last read; None without such a rule."""
    given: CachedLogin[str] | None = None
    """The certificates that verify the one of the spec's Secret, as last read; None if it names none."""
    snapshot_class: KnownClass | None = None
    given_authority: str = ""
    """What it found (PEM), empty if there is no Secret, or no certificate in it that verifies the others."""
    warmup_note: str = ""
    """Why the caches of standbys are not filled, with the remedy; empty if they are, or need not be."""

    async def close(self) -> None:
        """End all connections."""
        await self.libraries.close()
        await self.size.close()
        for member in self.members.values():
            await member.close()


class SetContext(ReconcileContext[ReplicaSetSpec, SetFacts, SetDecision, SetMemory, SetHandles]):
    """One pass over a set."""

    __slots__ = ()

    @property
    def owner(self) -> Owner:
        """The set as the owner of its children."""
        return Owner(self.name, self.namespace, self.uid)

    @property
    def service_name(self) -> str:
        """Name of the read Service."""
        return read_service_name(self.name, self.spec.routing.service_name)

    @property
    def guard_key(self) -> GuardKey:
        """The guard of the set's primary."""
        return self.namespace, self.spec.database_ref.name

    @property
    def slot_link(self) -> SlotLink | None:
        """The link that creates and drops slots; None while the primary does not answer, or nobody may."""
        links = self.services.servers.links(self.guard_key)
        return links.slots if links is not None and self.facts.primary is not None else None

    @property
    def pod_template(self) -> PodTemplate | None:
        """What a new pod is built from; None while that is not known."""
        drawn = self.handles.pod_template
        return drawn[1] if drawn is not None and drawn[1].template == self.facts.template else None

    def member(self, name: str) -> Member:
        """The member of this name, as the pass began."""
        return self.decision.find(name).facts

    async def confirm_spec(self) -> None:
        """Raise Conflict if another spec was stored since: the new one may keep what the old one discards. The watch
        may be late, and then so are the spec and every decision from it.
        """
        live = await self.services.kube.get(ObjectRef(REPLICA_SET, self.namespace, self.name))
        metadata = self.body["metadata"]
        if live is None or (live["metadata"]["uid"], live["metadata"]["generation"]) != (
            self.uid,
            metadata["generation"],
        ):
            raise Conflict(f"dbrs/{self.name} has changed since this pass began")
