"""The members of a ReplicaSet as Kubernetes stores them: names, roles, pods and claims; and how long a deletion waits.

Names derive only from set, ordinal and incarnation, so that every step finds what an earlier process began.
"""

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from headroom.model.frozen import FrozenMap
from headroom.model.text import parse_count
from headroom.reasons import Reason

SET_LABEL = "headroom.dev/replica-set"
ROLE_LABEL = "headroom.dev/role"
ORDINAL_LABEL = "headroom.dev/ordinal"
INCARNATION_LABEL = "headroom.dev/incarnation"
CONFIG_ANNOTATION = "headroom.dev/config"
TEMPLATE_ANNOTATION = "headroom.dev/template"
DRAINING_SINCE_ANNOTATION = "headroom.dev/draining-since"
DRAINING_WHY_ANNOTATION = "headroom.dev/draining-why"
SLOT_ANNOTATION = "headroom.dev/slot"
RETIRE_ANNOTATION = "headroom.dev/retire"
ABANDON_ANNOTATION = "headroom.dev/abandon"
RETAINED_LABEL = "headroom.dev/retained-from"
SEEDED_ANNOTATION = "headroom.dev/seeded"
"""On a claim whose volume has a complete copy, which a set that retains volumes keeps."""

COPY_SOURCE_ANNOTATION = "headroom.dev/copy-source"
COPY_WHY_ANNOTATION = "headroom.dev/copy-why"

SLOT_PATTERN = re.compile(r"^hr_([0-9a-f]{8})_([0-9a-f]{8})_(0|[1-9][0-9]*|s)_([0-9a-z]+)$")
"""Installation, set, ordinal (or `s`: the anchor of a snapshot) and incarnation."""
MEMBER_PATTERN = re.compile(r"^(.+)-(0|[1-9][0-9]*)-([0-9a-z]+)$")
ANY_SLOT_PREFIX = "hr_"
INCARNATION_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
ABANDON_AFTER = timedelta(minutes=10)
"""A finalizer must not block a namespace: after this time the rest is reported and released."""
SWEEP_AFTER = timedelta(minutes=10)
"""A slot of ours is dropped if nobody has used it for so long and its set is gone."""


class Role(StrEnum):
    """What a member's pod is for; the value of its role label. Only `serving` is selected by the read Service."""

    PROVISIONING = "provisioning"
    STANDBY = "standby"
    SERVING = "serving"
    DRAINING = "draining"


class Stage(StrEnum):
    """The stage of a member; the first five end with a condition of the same name."""

    ADMITTED = "Admitted"
    SLOT_RESERVED = "SlotReserved"
    SEEDED = "Seeded"
    STREAMING = "Streaming"
    CAUGHT_UP = "CaughtUp"
    STANDBY = "Standby"
    SERVING = "Serving"
    DRAINING = "Draining"
    RETIRED = "Retired"


def hash8(text: str) -> str:
    """Eight hexadecimal digits of a name: short enough for a slot's 63 characters."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def format_incarnation(moment: datetime) -> str:
    """A short text that is different each second, so that a late old pod can never take a new member's slot."""
    left, text = int(moment.timestamp()), ""
    while left:
        left, digit = divmod(left, len(INCARNATION_DIGITS))
        text = INCARNATION_DIGITS[digit] + text
    return text or "0"


def parse_incarnation(text: str) -> datetime | None:
    """The second that an incarnation was named after; None for a text that cannot be one."""
    try:
        return datetime.fromtimestamp(int(text, len(INCARNATION_DIGITS)), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def slot_prefix(install_id: str, set_uid: str = "") -> str:
    """How the names of all slots of an installation begin, or those of one set if its uid is given."""
    return f"hr_{install_id}_{hash8(set_uid)}_" if set_uid else f"hr_{install_id}_"


@dataclass(frozen=True, slots=True, order=True)
class MemberId:
    """One life of one member: a re-seed keeps the ordinal and takes a new incarnation."""

    ordinal: int
    incarnation: str

    def object_name(self, set_name: str) -> str:
        """Name of its pod and claim."""
        return f"{set_name}-{self.ordinal}-{self.incarnation}"

    def slot_name(self, install_id: str, set_uid: str) -> str:
        """Name of its slot on the primary, and its application_name."""
        return f"{slot_prefix(install_id, set_uid)}{self.ordinal}_{self.incarnation}"

    def may_have_slot(self, set_uid: str, name: str) -> bool:
        """Whether this is the name of its slot by some installation: one that is written down may have been edited."""
        match = SLOT_PATTERN.fullmatch(name)
        return match is not None and match.groups()[1:] == (hash8(set_uid), str(self.ordinal), self.incarnation)

    @classmethod
    def parse_object(cls, set_name: str, name: str) -> "MemberId | None":
        """Read a pod's or claim's name back; None if it is not one of this set's."""
        match = MEMBER_PATTERN.fullmatch(name)
        ordinal = parse_count(match[2]) if match and match[1] == set_name else None
        return None if match is None or ordinal is None else cls(ordinal, match[3])

    @classmethod
    def parse_slot(cls, install_id: str, set_uid: str, name: str) -> "MemberId | None":
        """Read a slot's name back; None if it is not one of this set's."""
        match = SLOT_PATTERN.fullmatch(name)
        ordinal = parse_count(match[3]) if match and name.startswith(slot_prefix(install_id, set_uid)) else None
        return None if match is None or ordinal is None else cls(ordinal, match[4])


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """One container of a pod: how it runs, or why it waits: `waiting` is one word, `waiting_why` the kubelet's text.

    About its last end: `message` is the end of its output, `ended_by` the reason of Kubernetes, such as OOMKilled.
    `report` is what it said at a good end.
    """

    is_running: bool = False
    is_done: bool = False
    started_at: datetime | None = None
    restarts: int = 0
    waiting: str = ""
    waiting_why: str = ""
    image: str = ""
    message: str = ""
    exit_code: int | None = None
    ended_by: str = ""
    report: str = ""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A member's pod; `template` is the hash of what it was built from, `why` the reason it drains for.

    `ends_at`: when the grace period of a pod that is being deleted is over. `role_label` is the text on the pod,
    which anybody can write; `role` is what it means. `has_tls`: its server was started with a certificate. `authority`
    is the certificate (PEM) that verifies it, which its seed step made and reported; empty where the user gave one.
    `scheduled_at`: when a node was found for it.
    `copy_source` names what its seed step copies from, and `copy_why` says why; empty on a pod of an earlier version.
    """

    name: str
    uid: str
    resource_version: str
    role: Role
    created_at: datetime
    phase: str = "Pending"
    is_ready: bool = False
    is_deleting: bool = False
    ends_at: datetime | None = None
    scheduled_at: datetime | None = None
    ip: str = ""
    node: str = ""
    config: str = ""
    template: str = ""
    role_label: str | None = None
    has_tls: bool = False
    authority: str = ""
    copy_source: str = ""
    copy_why: str = ""
    unschedulable: str = ""
    seed: ContainerFacts = ContainerFacts()
    server: ContainerFacts = ContainerFacts()
    draining_since: datetime | None = None
    why: Reason | None = None

    @property
    def is_copying(self) -> bool:
        """Its volume has no complete copy yet, as far as it tells."""
        return self.role is Role.PROVISIONING and not self.seed.is_done

    @property
    def is_ended(self) -> bool:
        """The pod will never run again."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class ClaimFacts:
    """A member's claim; `retire` is set once it was decided that the member goes, `slot` names its slot.

    `is_seeded`: it was recorded that the volume has a complete copy, which only a set that retains volumes does.
    `restored_from` names the VolumeSnapshot that its volume is created from, `snapshot` the one that its member was
    stopped for, with the first of its `stamps` as annotations. `why` says why it is made in the way it is.
    `provisioner` is the driver of its volume, empty if not known.
    """

    name: str
    uid: str
    resource_version: str
    created_at: datetime
    is_bound: bool = False
    is_deleting: bool = False
    retire: Reason | None = None
    slot: str = ""
    is_seeded: bool = False
    restored_from: str = ""
    why: str = ""
    snapshot: str = ""
    stamps: FrozenMap[str, str] = field(default_factory=FrozenMap)
    provisioner: str = ""
