"""Whether the disk has room for a size of the database: the primary with its WAL, and copies beside it."""

import shutil
import time
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


FREED_SECONDS = 60.0
BLOCK_BYTES = 512
"""Of `st_blocks`, whatever the file system has."""


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
    """Look at the pool of the bundled cluster, once the volumes of before are gone from it."""
    deadline = time.monotonic() + FREED_SECONDS
    while True:
        room = Room(gib, measure_free(POOL_MOUNT, load_settings().pool_file))
        if not room.problem or time.monotonic() >= deadline:
            return room
        time.sleep(1.0)


def measure_free(pool: Path, file: Path) -> float | None:
    """GiB that volumes may still take: of the pool, and of the disk that its sparse file is on; None if it is not here.

    Blocks that the file has and the pool does not use any more are as good as free ones of the disk.
    """
    if not (pool.is_dir() and file.is_file()):
        return None
    inside, outside = shutil.disk_usage(pool), shutil.disk_usage(file.parent)
    spare = max(file.stat().st_blocks * BLOCK_BYTES - inside.used, 0)
    return min(inside.free, outside.free + spare) / 2**30
