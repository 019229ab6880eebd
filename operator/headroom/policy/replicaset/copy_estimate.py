"""What WAL a copy would make the primary keep: how fast it writes, how long that takes, and what slots keep already."""

from dataclasses import dataclass

from headroom.model.conditions import Finding
from headroom.model.database import Mark
from headroom.model.numbers import describe_bytes, describe_seconds
from headroom.reasons import Reason

WINDOW_SECONDS = 60.0
STEP_SECONDS = 5.0
"""So far apart are the positions that are kept: a rate needs no more of them."""
SHORTEST_SECONDS = 5.0
ASSUMED_BYTES_PER_SECOND = 100 * 1024**2
"""Until a copy of this process was measured. Volumes and networks of clouds give 100 to 500 MiB/s to one stream; the
slowest of them keeps the primary's disk safe."""


@dataclass(frozen=True, slots=True)
class WalHistory:
    """Positions of the primary in the last minute, each with its monotonic second; all of one timeline."""

    timeline: int = 0
    positions: tuple[tuple[float, int], ...] = ()

    def observe(self, marks: tuple[Mark, ...]) -> "WalHistory":
        """Take up what one pass found, oldest first; nothing while the primary is silent."""
        after = self
        for mark in marks:
            after = after._add(mark)
        return after

    def _add(self, mark: Mark) -> "WalHistory":
        kept = self.positions if mark.timeline == self.timeline else ()
        if kept and mark.taken_at - kept[-1][0] < STEP_SECONDS:
            return self
        recent = (entry for entry in kept if mark.taken_at - entry[0] <= WINDOW_SECONDS)
        return WalHistory(mark.timeline, (*recent, (mark.taken_at, int(mark.lsn))))

    @property
    def rate(self) -> float | None:
        """Bytes per second; None while it was not measured for long enough."""
        if len(self.positions) < 2:
            return None
        (first, before), (last, after) = self.positions[0], self.positions[-1]
        return max(after - before, 0) / (last - first) if last - first >= SHORTEST_SECONDS else None


@dataclass(frozen=True, slots=True)
class CopyEstimate:
    """What is known before a copy begins; `wal_rate` and `copy_rate` are bytes per second, `size` those of the data,
    `kept` the WAL that the set's slots keep already, `cap` what they may. None: not known.
    """

    wal_rate: float | None = None
    size: int | None = None
    copy_rate: float | None = None
    max_rate: int | None = None
    kept: int | None = None
    cap: int | None = None

    @property
    def rate(self) -> float:
        """How fast a copy would go: as the last one, else as assumed; never faster than it may."""
        rate = self.copy_rate or float(ASSUMED_BYTES_PER_SECOND)
        return min(rate, self.max_rate) if self.max_rate is not None else rate


def find_excess(estimate: CopyEstimate) -> Finding | None:
    """Why no copy is begun: by its end the slots would keep more WAL than they may; None also where nobody knows."""
    wal_rate, size, kept, cap = estimate.wal_rate, estimate.size, estimate.kept, estimate.cap
    if wal_rate is None or size is None or kept is None or cap is None:
        return None
    seconds = size / estimate.rate
    written = wal_rate * seconds
    if written + kept <= cap:
        return None
    measured = "" if estimate.copy_rate is not None else ", which is assumed"
    faster = "raise provisioning.maxRate, " if estimate.max_rate is not None else ""
    message = (
        f"no copy is begun: {describe_bytes(size)} take about {describe_seconds(seconds)} at "
        f"{describe_bytes(estimate.rate)}/s{measured}, in which the primary writes about {describe_bytes(written)} of "
        f"WAL; slots keep {describe_bytes(kept)} already, and {describe_bytes(cap)} are allowed: raise "
        f"provisioning.maxSlotWAL, {faster}or wait until less is written"
    )
    return Finding(Reason.COPY_WOULD_EXCEED_SLOT_WAL, message)
