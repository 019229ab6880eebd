"""What one pass found out about a set, before any conclusion: values, without links or manifests."""

from dataclasses import dataclass
from datetime import datetime

from headroom.model.conditions import Finding
from headroom.model.database import BackupProgress, DatabaseView, Mark, ReplicaProbe, SlotFacts
from headroom.model.replica import ClaimFacts, MemberId, PodFacts
from headroom.policy.target_conflict import AutoscalerClaim


@dataclass(frozen=True, slots=True)
class Answer:
    """A member answered the probe of this pass."""

    probe: ReplicaProbe


@dataclass(frozen=True, slots=True)
class Silence:
    """A member did not answer; `message` is the error of the probe, empty while it still waits.

    `is_excused`: our own loop woke too late, so the silence does not count against the member.
    """

    message: str = ""
    is_excused: bool = False


Reading = Answer | Silence


@dataclass(frozen=True, slots=True)
class MemberFacts:
    """One member as found; `reading` is None if nobody asked, since its pod has no address or has ended.

    `is_node_lost` is true only if the node itself was seen not to answer.
    """

    id: MemberId
    name: str
    slot_name: str
    pod: PodFacts | None = None
    claim: ClaimFacts | None = None
    slot: SlotFacts | None = None
    backup: BackupProgress | None = None
    is_listed: bool = False
    is_node_lost: bool = False
    reading: Reading | None = None


@dataclass(frozen=True, slots=True)
class PrimaryFacts:
    """The primary as it answered in this pass; the last of `marks` is from this moment, so there is at least one."""

    view: DatabaseView
    marks: tuple[Mark, ...]
    has_slot_link: bool = True

    @property
    def position(self) -> Mark:
        """Where its WAL ends now."""
        return self.marks[-1]


@dataclass(frozen=True, slots=True)
class Deletion:
    """The set is being deleted; `is_abandoned`: a person asked not to wait for slots that cannot be dropped."""

    requested_at: datetime
    is_abandoned: bool = False


@dataclass(frozen=True, slots=True)
class SetFacts:
    """One pass's facts; `primary` is None while it does not answer or is another server, and then `outage` says why.

    `template` is the hash that a pod created now would have, None while it is not known. `is_service_refused`: another
    object has the name of the read Service. `autoscalers` are those of the namespace.
    """

    name: str
    generation: int
    members: tuple[MemberFacts, ...]
    primary: PrimaryFacts | None
    outage: Finding | None
    template: str | None = None
    has_guard: bool = True
    is_service_refused: bool = False
    autoscalers: tuple[AutoscalerClaim, ...] = ()
    deletion: Deletion | None = None
