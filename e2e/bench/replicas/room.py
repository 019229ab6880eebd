"""Whether the disk has room for a size of the database: the primary with its WAL, and copies beside it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.layout import POOL_MOUNT
from e2e.cluster.settings import load_settings

WAL_GIB = 6.0
"""The primary's max_wal_size of 4 GiB, and what a slot keeps during a run."""
SPARE_GIB = 2.0
FEWEST_COPIES = 2
"""The data that all restored replicas share, and one more copy at a time."""
EASY_COPIES = 3
"""No replica has to be exchanged: after a scale-in the one with a copy of its own may stay."""


@dataclass(frozen=True, slots=True)
class Room:
    """GiB: the size of the database, and what is free; None if that cannot be told here."""

    gib: int
    free: float | None

    @property
    def problem(self) -> str:
        """Why this size cannot be measured; empty if it can."""
        needed = self._count(FEWEST_COPIES)
        if self.free is None or self.free >= needed:
            return ""
        return (
            f"{self.gib} GiB is skipped: it needs {needed:.0f} GiB of disk and {self.free:.0f} GiB are free; the "
            "cluster's pool is as large as HEADROOM_CLUSTER_POOL_GIB said when it was started"
        )

    @property
    def is_tight(self) -> bool:
        """Whether there is room for one copy at a time only."""
        return self.free is not None and self.free < self._count(EASY_COPIES)

    def _count(self, copies: int) -> float:
        return self.gib * (1 + copies) + WAL_GIB + SPARE_GIB


def find_room(gib: int) -> Room:
    """Look at the pool of the bundled cluster, and at the disk that its sparse file is on."""
    return Room(gib, measure_free((POOL_MOUNT, load_settings().pool_file.parent)))


def measure_free(folders: tuple[Path, ...]) -> float | None:
    """GiB that are free on the fullest of the file systems; None if one of them is not here."""
    if not all(folder.is_dir() for folder in folders):
        return None
    return min(shutil.disk_usage(folder).free for folder in folders) / 2**30
