"""Everything one pass knows of a set, gathered before anything is decided."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.manifests.ownership import Owner
from headroom.model.database import Mark
from headroom.model.replica import MemberFacts
from headroom.policy.replicaset.timeouts import OUTAGE_NOTICE
from headroom.ports.kube import Manifest
from headroom.ports.postgres import PrimaryLink, SlotLink
from headroom.reasons import Reason
from headroom.reconcilers.board import GuardView
from headroom.reconcilers.replicaset.memory import PodTemplate, SetMemory
from headroom.reconcilers.replicaset.services import Services


@dataclass(frozen=True, slots=True)
class Problem:
    """Something outside that keeps a part of the work from being done; said in a condition."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Primary:
    """The primary as it answered in this pass; `marks` end with one of this moment."""

    view: GuardView
    link: PrimaryLink
    slots: SlotLink | None
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class SetFacts:
    """One pass's facts; `primary` is None while it does not answer, and then `outage` says why."""

    services: Services
    memory: SetMemory
    body: Manifest
    spec: ReplicaSetSpec
    owner: Owner
    service_name: str
    now: datetime
    gathered_at: float
    members: tuple[MemberFacts, ...]
    primary: Primary | None
    outage: Problem | None
    pod_template: PodTemplate | None
    is_guard_missing: bool = False

    @property
    def lasting_outage(self) -> Problem | None:
        """The outage, once it has lasted long enough to be news."""
        since = self.memory.outage_since
        is_news = since is not None and self.gathered_at - since >= OUTAGE_NOTICE.total_seconds()
        return self.outage if is_news else None

    def member(self, name: str) -> MemberFacts:
        """The member of this name."""
        return next(member for member in self.members if member.name == name)
