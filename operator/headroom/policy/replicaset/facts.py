"""What one pass found out about a set, before any conclusion: values, without links or manifests."""

from dataclasses import dataclass
from datetime import datetime

from headroom.model.conditions import Finding
from headroom.model.database import BackupProgress, DatabaseView, Mark, ReplicaProbe, SlotFacts
from headroom.model.libraries import ServerLibraries
from headroom.model.replica import ClaimFacts, MemberId, PodFacts
from headroom.model.snapshot import SnapshotClass, SnapshotFacts, Stamps
from headroom.model.timelines import TimelineHistory
from headroom.policy.target_conflict import AutoscalerClaim
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class Answer:
    """A member answered the probe of this pass."""

    probe: ReplicaProbe


@dataclass(frozen=True, slots=True)
class Silence:
    """A member gave no reading; `message` is the error of the probe, empty while it still waits.

    `is_excused`: our own loop was late, so that this says nothing about the member. `late` is an answer that came in
    this pass to a question from before the primary's position was read: no reading, but a sign of life. `reason` is
    that of the error, if it has one.
    """

    message: str = ""
    is_excused: bool = False
    late: ReplicaProbe | None = None
    reason: Reason | None = None


Reading = Answer | Silence
LibraryReading = ServerLibraries | Finding | None
"""The last reading of a server's libraries, else why the last question failed; None until there was an answer."""


@dataclass(frozen=True, slots=True)
class MemberFacts:
    """One member as found; `reading` is None if nobody asked, since its pod has no address or has ended.

    `is_node_lost` is true only if the node itself was seen not to answer. `is_published`: clients can verify its server
    by the set's ConfigMap, or there is nothing to publish. `restored` has the stamps of the snapshot that its volume is
    created from.
    """

    id: MemberId
    name: str
    slot_name: str
    pod: PodFacts | None = None
    claim: ClaimFacts | None = None
    slot: SlotFacts | None = None
    backup: BackupProgress | None = None
    is_copy_observed: bool = True
    """Whether the standby that it is copied from could be asked how far that is."""
    is_listed: bool = False
    is_node_lost: bool = False
    is_published: bool = True
    reading: Reading | None = None
    restored: Stamps | None = None
    libraries: LibraryReading = None


@dataclass(frozen=True, slots=True)
class PrimaryFacts:
    """The primary as it answered in this pass; the last of `marks` is from this moment, so there is at least one."""

    view: DatabaseView
    marks: tuple[Mark, ...]
    has_slot_link: bool = True
    data_bytes: int | None = None
    """What a copy takes; None while that was not read."""
    history: TimelineHistory | None = None
    """Of the timeline that it writes; None while that is not known, or nobody has to know."""

    @property
    def position(self) -> Mark:
        """Where its WAL ends now."""
        return self.marks[-1]


@dataclass(frozen=True, slots=True)
class Deletion:
    """The set is being deleted; `is_abandoned`: a person asked not to wait for slots that cannot be dropped.

    `is_namespace_ending`: so is its whole namespace. It is only looked up while the primary does not answer.
    """

    requested_at: datetime
    is_abandoned: bool = False
    is_namespace_ending: bool = False


@dataclass(frozen=True, slots=True)
class SetFacts:
    """One pass's facts; `primary` is None while it does not answer or is another server, and then `outage` says why.

    `template` is the hash that a pod created now would have, None while it is not known, or while none may be created:
    `prohibition` says which rule of the installation the pods would break. `is_service_refused`: another
    object has the name of the read Service. `autoscalers` are those of the namespace, `libraries` those of the primary.
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
    libraries: LibraryReading = None
    prohibition: Finding | None = None
    snapshots: tuple[SnapshotFacts, ...] | None = ()
    """Those of the set, by name; None where the cluster has no such kind."""
    snapshot_class: SnapshotClass | Finding | None = None
    """The one that the spec names, or why there is none; None while that is not known."""
    anchors: tuple[SlotFacts, ...] = ()
    """The slots that keep the WAL which clones of snapshots need, whether their snapshot exists or not."""
    given_authority: str = ""
    """What verifies the certificate of the spec's Secret (PEM); empty without a Secret, or if it does not say."""
