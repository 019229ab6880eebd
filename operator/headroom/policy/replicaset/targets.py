"""What a plan works towards, and what all parts of it ask of a member."""

from dataclasses import dataclass, field
from datetime import datetime

from headroom.api.v1alpha1.serving import Readiness
from headroom.model.replica import Role, Stage
from headroom.policy.replicaset.copies import Copies
from headroom.policy.replicaset.drain import DrainLimits
from headroom.policy.replicaset.members import EvaluatedMember
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class Targets:
    """What is wanted, and what may be done towards it."""

    desired: int
    standbys: int
    max_concurrent: int
    bounds: Readiness
    drain: DrainLimits
    why: Reason
    is_acting: bool = True
    """False in DryRun and Paused."""
    no_activation: str = ""
    """Why no standby may be put into the Service, whatever its lag; empty if one may."""
    may_reserve: bool = True
    """The primary admits one more member, and no failed attempt has to be waited out."""
    obstacle: str = ""
    """Why it cannot be begun, if that is not only such a pause."""
    may_replace: bool = True
    """The primary would admit one more member once another is given up."""
    has_primary: bool = True
    keeps_one_more: bool = False
    """A snapshot is due, and is taken of a member that the spec does not ask for: if there is one, it is kept."""
    begins_one_more: bool = False
    """If there is none, it is begun."""
    outage_seconds: float | None = None
    """How long the primary has not answered; None while it does, and before that counts as an outage."""
    template: str | None = None
    """The hash that a pod created now would have; None while it is not known."""
    copies: Copies = field(default_factory=Copies)
    authority_made_after: datetime | None = None
    """Pods of before have an authority that is to be exchanged in time; None: none has."""

    @property
    def wanted(self) -> int:
        """Members that the spec asks for."""
        return self.desired + self.standbys

    @property
    def kept(self) -> int:
        """Members that stay although some of them may not be asked for."""
        return self.wanted + self.keeps_one_more


def is_drifted(member: EvaluatedMember, targets: Targets) -> bool:
    """Its pod was created from another template than the present one, or so long ago that its authority is old."""
    pod = member.facts.pod
    if targets.template is None or pod is None:
        return False
    oldest = targets.authority_made_after
    is_old = bool(pod.authority) and oldest is not None and pod.created_at < oldest
    return is_old or pod.template != targets.template


def is_warm(member: EvaluatedMember) -> bool:
    """It serves, or could at once, and is neither behind nor due for replacement."""
    if member.facts.role is Role.SERVING:
        is_going = member.verdict.is_failed or member.verdict.is_due_for_replacement
        return not (is_going or member.facts.has_other_libraries)
    return member.facts.role is Role.STANDBY and member.verdict.stage is Stage.STANDBY
