"""How a new replica gets its data."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from headroom.api.base import SpecModel, rule
from headroom.api.v1alpha1.common import ObjectName
from headroom.api.values import ByteRange, DurationRange


class Method(StrEnum):
    """What a new replica starts from."""

    AUTO = "Auto"
    VOLUME_SNAPSHOT = "VolumeSnapshot"
    BASE_BACKUP = "BaseBackup"


class Source(StrEnum):
    """The server a base backup is taken from."""

    AUTO = "Auto"
    STANDBY = "Standby"
    PRIMARY = "Primary"


class Consistency(StrEnum):
    """How a snapshot becomes consistent."""

    STOPPED = "Stopped"
    ATOMIC = "Atomic"


class Snapshots(SpecModel):
    """Recent snapshots of the volume of a standby, for new replicas."""

    class_name: ObjectName
    """VolumeSnapshotClass to use."""
    consistency: Consistency = Consistency.STOPPED
    """`Stopped` first stops a standby cleanly, which is safe with every driver. `Atomic` snapshots a running standby,
    which is safe only if the driver's snapshot is one point in time of the volume."""
    max_wal_behind: Annotated[int, ByteRange("16Mi", "16Ti")] = 4 * 1024**3
    """A snapshot that is further behind than this, or than 30 % of the volume, is replaced."""
    max_age: Annotated[timedelta, DurationRange("5m", "744h")] = timedelta(hours=6)
    """A snapshot that is older than this is replaced."""
    keep: Annotated[int, Field(ge=1, le=8)] = 2
    """Snapshots that are kept."""


class Provisioning(SpecModel):
    """How a new replica gets its data."""

    method: Method = Method.AUTO
    """`Auto` restores a snapshot that fits, since that spares the primary, unless a base backup takes less than half as
    long by measurement. `VolumeSnapshot` and `BaseBackup` are fixed: with the first, a replica waits for a snapshot."""
    source: Source = Source.AUTO
    """The server a base backup is taken from. `Auto` prefers a standby, to spare the primary."""
    max_concurrent: Annotated[int, Field(ge=1, le=8)] = 1
    """Replicas that are created at the same time."""
    max_rate: Annotated[int, ByteRange("32Ki", "1Gi")] | None = None
    """Bytes per second of a base backup at most, such as 100Mi. Absent: no limit."""
    max_slot_wal: Annotated[int, ByteRange("64Mi", "16Ti")] | None = None
    """WAL that our slots may keep on the primary. Beyond it replicas are given up, to protect the disk of the primary.
    Absent: half of the primary's max_slot_wal_keep_size. Required if that is -1."""
    snapshots: Snapshots | None = None
    """Recent snapshots for new replicas. Absent: no snapshots are taken."""
    stall_timeout: Annotated[timedelta, DurationRange("10s", "1h")] = timedelta(minutes=2)
    """A copy that makes no progress for this long has failed."""

    @rule(
        "self.method != 'VolumeSnapshot' || has(self.snapshots)",
        "method VolumeSnapshot needs snapshots: set snapshots.className",
        field=".snapshots",
    )
    def _snapshot_method_has_snapshots(self) -> bool:
        return self.method is not Method.VOLUME_SNAPSHOT or self.snapshots is not None
