"""What pods use, read from the kernel of this machine: processor, memory and disk, without a process in the pods.

The processor's time and the memory are those of the pod's cgroup, of version 1 or 2. Bytes of the disk come from
`/proc/PID/io` of its processes: with version 1 no cgroup knows who wrote what is written back later. A process that
ended is in the sums of its parent. Where the pods run on another machine nothing is found, and nothing is measured.
"""

import threading
import time
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

EVERY_SECONDS = 0.5
CGROUPS, PROCESSES = Path("/sys/fs/cgroup"), Path("/proc")
KIND, MEMORY, CPU = "pids", "memory", "cpuacct"


@dataclass(frozen=True, slots=True)
class Reading:
    """Sums since the pod began, and the working set now: what is used without the cache that could be given back."""

    at: float
    cpu_seconds: float
    read_bytes: int
    written_bytes: int
    working_set: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used in a window of time; `working_set` is the highest that was seen."""

    cpu_seconds: float
    read_bytes: int
    written_bytes: int
    working_set: int


@dataclass(slots=True)
class Meter:
    """Reads all pods that are watched twice a second while the block lasts."""

    cgroups: Path = CGROUPS
    processes: Path = PROCESSES
    _pods: dict[str, str] = field(default_factory=dict)
    _readings: dict[str, list[Reading]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._keep_reading, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def watch(self, pods: Mapping[str, str]) -> None:
        """From now on read these pods only: uids by name. They are read at once."""
        self._pods = dict(pods)
        self.look()

    def look(self) -> None:
        """Read each pod once; one without processes is passed over."""
        with self._lock:
            for name, uid in self._pods.items():
                reading = read_pod(uid, self.cgroups, self.processes)
                if reading is not None:
                    self._readings.setdefault(name, []).append(reading)

    def usage(self, name: str, start: float, end: float) -> Usage | None:
        """What a pod used in a window; None if it was not read before and after."""
        return count_usage(self._readings.get(name, []), start, end)

    def _keep_reading(self) -> None:
        while not self._done.wait(EVERY_SECONDS):
            self.look()


def count_usage(readings: list[Reading], start: float, end: float) -> Usage | None:
    """The difference between the last reading before a window and the first one after it, as a share of the window.

    The readings are further apart than the window, so that the difference is scaled to its length.
    """
    first = bisect_right(readings, start, key=lambda each: each.at) - 1
    last = bisect_right(readings, end, key=lambda each: each.at)
    if first < 0 or last >= len(readings) or end <= start:
        return None
    begun, ended = readings[first], readings[last]
    share = (end - start) / (ended.at - begun.at)
    return Usage(
        cpu_seconds=share * (ended.cpu_seconds - begun.cpu_seconds),
        read_bytes=round(share * (ended.read_bytes - begun.read_bytes)),
        written_bytes=round(share * (ended.written_bytes - begun.written_bytes)),
        working_set=max(each.working_set for each in readings[first : last + 1]),
    )


def read_pod(uid: str, cgroups: Path = CGROUPS, processes: Path = PROCESSES) -> Reading | None:
    """Read one pod; None if it has no cgroup here, or ended meanwhile."""
    folders = {kind: find_cgroup(cgroups, kind, uid) for kind in (KIND, MEMORY, CPU)}
    if None in folders.values():
        return None
    found = {kind: folder for kind, folder in folders.items() if folder is not None}
    try:
        read, written = _count_disk(found[KIND], processes)
        return Reading(time.time(), _read_cpu(found[CPU]), read, written, _read_working_set(found[MEMORY]))
    except OSError:
        return None


def find_cgroup(root: Path, kind: str, uid: str) -> Path | None:
    """The cgroup of a pod in the hierarchy of this kind, or in the only one there is."""
    top = root / kind if (root / kind).is_dir() else root
    spellings = (uid, uid.replace("-", "_"))
    return next((path for each in spellings for path in top.glob(f"**/*pod{each}*") if path.is_dir()), None)


def _read_cpu(folder: Path) -> float:
    old = folder / "cpuacct.usage"
    if old.exists():
        return int(old.read_text()) / 1e9
    return _read_fields(folder / "cpu.stat")["usage_usec"] / 1e6


def _read_working_set(folder: Path) -> int:
    stat = _read_fields(folder / "memory.stat")
    old = folder / "memory.usage_in_bytes"
    if old.exists():
        return int(old.read_text()) - stat["total_inactive_file"]
    return int((folder / "memory.current").read_text()) - stat["inactive_file"]


def _count_disk(folder: Path, processes: Path) -> tuple[int, int]:
    read = written = 0
    for listed in folder.glob("**/cgroup.procs"):
        for pid in listed.read_text().split():
            try:
                fields = _read_fields(processes / pid / "io")
            except OSError:
                continue  # it has ended; its parent has its sums
            read += fields["read_bytes:"]
            written += fields["write_bytes:"]
    return read, written


def _read_fields(path: Path) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in path.read_text().splitlines())}
