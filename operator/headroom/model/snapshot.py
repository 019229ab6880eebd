"""A snapshot of a member's volume as Kubernetes stores it: its name, its stamps, and the slot that keeps its WAL.

The stamps are annotations. The first are written when the object is created, the last once the snapshot is ready: one
that lacks any of them is never restored.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from headroom.model.database import Lsn
from headroom.model.replica import hash8, slot_prefix
from headroom.model.text import parse_count

SNAPSHOT_ANNOTATION = "headroom.dev/snapshot"
"""On a claim: the snapshot for which its member was stopped. No pod is created for it meanwhile."""
STAMP_PREFIX = "headroom.dev/snapshot-"
PROVISIONER_ANNOTATIONS = ("volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner")
"""Where Kubernetes writes on a claim which driver its volume comes from; the second until Kubernetes 1.23."""
ANCHOR_MARK = "s"
"""In the name of a slot, where a member's has its ordinal."""
SYSTEM, TIMELINE, MAJOR = f"{STAMP_PREFIX}system", f"{STAMP_PREFIX}timeline", f"{STAMP_PREFIX}major"
CONSISTENCY, SOURCE_SLOT = f"{STAMP_PREFIX}consistency", f"{STAMP_PREFIX}source-slot"
FROM_LSN, TO_LSN = f"{STAMP_PREFIX}from-lsn", f"{STAMP_PREFIX}to-lsn"
ANCHOR = f"{STAMP_PREFIX}anchor"
_WORDS = {
    SYSTEM: re.compile(r"[0-9]{1,20}"),
    CONSISTENCY: re.compile(r"[A-Za-z]{1,32}"),
    SOURCE_SLOT: re.compile(r"[a-z0-9_]{1,63}"),
    ANCHOR: re.compile(r"[a-z0-9_]{1,63}"),
}
"""What they may be: whoever edits a snapshot writes no messages of ours. A consistency may be a later version's."""
STAMP_ANNOTATIONS = (SYSTEM, TIMELINE, MAJOR, CONSISTENCY, SOURCE_SLOT, FROM_LSN, TO_LSN, ANCHOR)


@dataclass(frozen=True, slots=True)
class Stamps:
    """What a restore has to know of a snapshot.

    The volume has the WAL up to `from_lsn` for certain: what is streamed to a clone begins there or before. It may have
    WAL up to `to_lsn`, and nothing beyond: a timeline that forked off before that is out of reach. `to_lsn` is None
    until the snapshot is ready. `source_slot` is the slot of the member whose volume it was, `anchor` the slot that
    keeps the WAL from `from_lsn` on.
    """

    system_identifier: str
    timeline: int
    major: int
    consistency: str
    source_slot: str
    anchor: str
    from_lsn: Lsn
    to_lsn: Lsn | None = None

    def format(self) -> dict[str, str]:
        """The annotations; without `to_lsn` while that is not known."""
        texts = {
            SYSTEM: self.system_identifier,
            TIMELINE: str(self.timeline),
            MAJOR: str(self.major),
            CONSISTENCY: self.consistency,
            SOURCE_SLOT: self.source_slot,
            ANCHOR: self.anchor,
            FROM_LSN: str(self.from_lsn),
        }
        return texts if self.to_lsn is None else {**texts, TO_LSN: str(self.to_lsn)}

    @classmethod
    def parse(cls, annotations: Mapping[str, str]) -> "Stamps | None":
        """Read them back; None if one is missing or was edited into something that cannot be right."""
        timeline, major = (parse_count(annotations.get(name, "")) for name in (TIMELINE, MAJOR))
        texts = [annotations.get(name, "") for name in _WORDS]
        try:
            begin = Lsn.parse(annotations.get(FROM_LSN, ""))
            end = Lsn.parse(annotations[TO_LSN]) if TO_LSN in annotations else None
        except ValueError:
            return None
        if timeline is None or major is None or not all(map(re.Pattern.fullmatch, _WORDS.values(), texts)):
            return None
        system, consistency, source_slot, anchor = texts
        return cls(system, timeline, major, consistency, source_slot, anchor, begin, end)


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """A VolumeSnapshot of a set; `claim` is the claim that it was taken of, `size` bytes of the smallest volume for it.
    `class_name` is that of its VolumeSnapshotClass.

    `cut_at`: its data are of this moment. From then on the volume may change, although a driver that uploads them may
    take hours until the snapshot is ready.

    `error` is what the driver said last; None of that says that it has given up. `stamps` is None if they cannot be
    read: then it is never restored.
    """

    name: str
    uid: str
    resource_version: str
    created_at: datetime
    claim: str = ""
    class_name: str = ""
    cut_at: datetime | None = None
    is_ready: bool = False
    is_deleting: bool = False
    size: int | None = None
    error: str = ""
    stamps: Stamps | None = None

    @property
    def is_whole(self) -> bool:
        """It can be restored: ready, with all stamps, and not on its way out."""
        return self.is_ready and not self.is_deleting and self.stamps is not None and self.stamps.to_lsn is not None


@dataclass(frozen=True, slots=True)
class SnapshotClass:
    """A VolumeSnapshotClass, and the driver whose volumes it is for."""

    name: str
    driver: str


def snapshot_name(set_name: str, incarnation: str) -> str:
    """Name of a VolumeSnapshot."""
    return f"{set_name}-{ANCHOR_MARK}-{incarnation}"


def anchor_name(install_id: str, set_uid: str, incarnation: str) -> str:
    """Name of the slot that keeps the WAL which clones of this snapshot need."""
    return f"{slot_prefix(install_id, set_uid)}{ANCHOR_MARK}_{incarnation}"


def find_incarnation(anchor: str) -> str:
    """The incarnation that an anchor shares with its snapshot."""
    return anchor.rpartition("_")[2]


def is_anchor_of(set_uid: str, name: str) -> bool:
    """Whether a slot is an anchor of the set, by whichever installation."""
    parts = name.split("_")
    return len(parts) == 5 and parts[0] == "hr" and parts[2:4] == [hash8(set_uid), ANCHOR_MARK]
