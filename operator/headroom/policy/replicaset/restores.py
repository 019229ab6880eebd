"""What a new member is created from, and what became of the restores so far: values that memory and decision share."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta

from headroom.api.v1alpha1.provisioning import Method
from headroom.model.conditions import Finding
from headroom.model.snapshot import SnapshotFacts
from headroom.reasons import Reason

FAILURES_OF_SNAPSHOTS = 2
"""After so many failed restores in a row a member is created by base backup, until there is a new snapshot."""
FIRST_REST = timedelta(hours=1)
LONGEST_REST = timedelta(hours=24)
"""If later snapshots fail as well, none is tried for so long, doubled each time: each try takes ten minutes, in which a
replica is missing."""
NOT_OF_SNAPSHOT = frozenset(
    {
        Reason.POD_UNSCHEDULABLE,
        Reason.IMAGE_NOT_PULLED,
        Reason.IMAGE_INCOMPLETE,
        Reason.MAJOR_VERSION_MISMATCH,
        Reason.NODE_LOST,
        Reason.VOLUME_IN_USE,
    }
)
"""What ends an attempt, and would end one by base backup as well: it says nothing about the snapshot."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How a member is created, and why in words; `snapshot` is what it is restored from.

    `wait`: it is not made at all now, since the spec allows one method only and that has nothing to offer. `spare` is a
    snapshot that fits as well, where a base backup is expected to be much faster.
    """

    method: Method
    why: str
    snapshot: SnapshotFacts | None = None
    wait: Finding | None = None
    spare: SnapshotFacts | None = None

    def avoid(self, wait: Finding) -> "Choice":
        """What to do where a base backup has to wait: a snapshot never has to."""
        if self.spare is None:
            return self
        return Choice(Method.VOLUME_SNAPSHOT, f"{self.why}; but {wait.message}", self.spare)

    @property
    def anchor(self) -> str:
        """The slot that the member's is copied from; empty for a slot that begins where the primary is now."""
        stamps = self.snapshot.stamps if self.snapshot is not None else None
        return stamps.anchor if stamps is not None else ""


ANY_COPY = Choice(Method.BASE_BACKUP, "")
"""Before anything was chosen."""


@dataclass(frozen=True, slots=True)
class RestoreFailures:
    """Failed restores since the last one that succeeded: how many, and of which snapshots.

    `barred` are the snapshots that there were when two had failed: none of them is tried again, a later one is. `bars`:
    how often that was so, the last time at `barred_at` (monotonic seconds).
    """

    count: int = 0
    failed: frozenset[str] = frozenset()
    barred: frozenset[str] = frozenset()
    bars: int = 0
    barred_at: float = 0.0

    def fail(self, name: str, present: Collection[str], now: float) -> "RestoreFailures":
        """Count one more, of the snapshot of this name; `present` are those that there are."""
        failed = self.failed | {name}
        if self.count + 1 < FAILURES_OF_SNAPSHOTS:
            return replace(self, count=self.count + 1, failed=failed)
        return RestoreFailures(0, failed, self.barred | {name, *present}, self.bars + 1, now)

    def is_resting(self, now: float) -> bool:
        """Whether no snapshot is tried: later ones failed as well, so that it is not the snapshots."""
        if self.bars < 2:
            return False
        pause = min(FIRST_REST * (1 << min(self.bars - 2, 10)), LONGEST_REST)
        return now - self.barred_at < pause.total_seconds()

    def forget(self) -> "RestoreFailures":
        """All are tried again, but not while they rest."""
        return RestoreFailures(bars=self.bars, barred_at=self.barred_at)

    def succeed(self, name: str) -> "RestoreFailures":
        """A member that was restored from this one is a standby."""
        return RestoreFailures(0, self.failed - {name}, self.barred - {name})

    def keep(self, present: Collection[str]) -> "RestoreFailures":
        """Forget the names of those that are gone; that they failed still counts."""
        return replace(self, failed=self.failed & {*present}, barred=self.barred & {*present})
