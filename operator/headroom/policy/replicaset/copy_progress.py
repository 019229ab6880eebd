"""How far a copy is, how fast it goes, and for how long it has made no progress.

All times are monotonic seconds. A pass that could not ask the source pauses the count.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from headroom.model.copies import is_standby
from headroom.model.database import BackupProgress
from headroom.model.replica import PodFacts
from headroom.policy.replicaset.durations import Stopwatch, begin
from headroom.policy.replicaset.facts import MemberFacts

STREAMING_PHASE = "streaming database files"
SYNC_PHASE = "syncing to disk"
"""What follows on the last of the server's own phases; no view shows it."""
RATE_WINDOW_SECONDS = 60.0
SHORTEST_RATE_SECONDS = 3.0
"""Over less time, the rate would be that of one packet."""


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """How far a copy was, and for how long it has made no progress.

    `samples` are from the last minute: a moment, and the bytes that had come by then. `has_copied`: files were seen to
    come. If the server then shows no copy any more, it is being checked and synced.
    """

    progress: tuple[str, int]
    still: Stopwatch
    samples: tuple[tuple[float, int], ...] = ()
    has_copied: bool = False

    def observe(self, progress: tuple[str, int], now: float) -> "CopyProgress":
        """Take up one pass."""
        phase, done = progress
        has_copied = self.has_copied or phase == STREAMING_PHASE
        if phase == "" and has_copied:
            progress = (SYNC_PHASE, done)
        still = self.still.run(now) if progress == self.progress else begin(now)
        return replace(
            self, progress=progress, still=still, samples=self._sample(phase, done, now), has_copied=has_copied
        )

    def _sample(self, phase: str, done: int, now: float) -> tuple[tuple[float, int], ...]:
        """The rate is that of the files: neither a pause before them nor the time after is a part of it."""
        if phase != STREAMING_PHASE:
            return self.samples if phase == "" else ()
        # Fewer bytes than before are those of another try.
        kept = self.samples if self.samples and self.samples[-1][1] <= done else ()
        return (*(entry for entry in kept if now - entry[0] <= RATE_WINDOW_SECONDS), (now, done))

    @property
    def rate(self) -> float | None:
        """Bytes per second over the last minute; None while nothing was measured for long enough."""
        if not self.samples:
            return None
        (first, before), (last, after) = self.samples[0], self.samples[-1]
        return (after - before) / (last - first) if last - first >= SHORTEST_RATE_SECONDS else None


def begin_copy(progress: tuple[str, int], now: float) -> CopyProgress:
    """A copy that has come so far just now."""
    return CopyProgress(progress, begin(now)).observe(progress, now)


def observe_copies(
    before: Mapping[str, CopyProgress], found: Iterable[MemberFacts], now: float, *, has_primary: bool
) -> dict[str, CopyProgress]:
    """The copies under way, by uid of the pod, as one pass found them; only their sources know how far they are."""
    after = {}
    for member in found:
        pod = member.pod
        if pod is None or pod.seed.is_done:
            continue
        known = before.get(pod.uid)
        is_asked = member.is_copy_observed if is_standby(pod.copy_source) else has_primary
        if not is_asked and known is not None:
            after[pod.uid] = replace(known, still=known.still.pause(now))
            continue
        progress = _measure_progress(pod, member.backup)
        after[pod.uid] = known.observe(progress, now) if known is not None else begin_copy(progress, now)
    return after


def _measure_progress(pod: PodFacts, backup: BackupProgress | None) -> tuple[str, int]:
    return (backup.phase, backup.streamed_bytes) if backup is not None else ("", pod.seed.restarts)


def find_copy(copies: Mapping[str, CopyProgress], pod: PodFacts | None) -> CopyProgress | None:
    """The copy that a pod makes, as far as this process saw it."""
    return copies.get(pod.uid) if pod is not None else None


def estimate_seconds(copy: CopyProgress | None, backup: BackupProgress | None) -> float | None:
    """How long the files still take at the rate of the last minute; None while that is not known."""
    if copy is None or backup is None or not copy.rate or backup.phase != STREAMING_PHASE or not backup.total_bytes:
        return None
    return max(backup.total_bytes - backup.streamed_bytes, 0) / copy.rate
