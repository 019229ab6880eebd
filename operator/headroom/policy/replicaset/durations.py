"""How long something has lasted, added up from pass to pass.

A pass in which the primary could not be asked tells nothing of what depends on it: it pauses such a count, and neither
ends it nor adds to it. All times are monotonic seconds.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from headroom.model.database import BackupProgress
from headroom.model.replica import PodFacts, Role
from headroom.policy.replicaset.facts import MemberFacts


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """What was `counted` until the last pass, `at`; from there on it runs or stands."""

    counted: float = 0.0
    at: float | None = None
    is_running: bool = False

    def run(self, now: float, *, longest: float = math.inf) -> "Stopwatch":
        """Count the time since the last pass, at most `longest` of it, and run on."""
        step = min(now - self.at, longest) if self.at is not None else 0.0
        return Stopwatch(self.counted + step, now, is_running=True)

    def pause(self, now: float) -> "Stopwatch":
        """Leave out the time since the last pass, and stand."""
        return Stopwatch(self.counted, now)

    def seconds(self, now: float) -> float:
        """What it shows."""
        return self.counted + (now - self.at if self.is_running and self.at is not None else 0.0)


def begin(now: float, counted: float = 0.0) -> Stopwatch:
    """One that runs from now on."""
    return Stopwatch(counted, now, is_running=True)


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """How far a copy was, and for how long it has made no progress."""

    progress: tuple[str, int]
    still: Stopwatch

    def observe(self, progress: tuple[str, int], now: float) -> "CopyProgress":
        """Take up one pass."""
        return replace(self, still=self.still.run(now)) if progress == self.progress else begin_copy(progress, now)


def begin_copy(progress: tuple[str, int], now: float) -> CopyProgress:
    """A copy that has come so far just now."""
    return CopyProgress(progress, begin(now))


def observe_copies(
    before: Mapping[str, CopyProgress], found: Iterable[MemberFacts], now: float, *, has_primary: bool
) -> dict[str, CopyProgress]:
    """The copies under way, by uid of the pod, as one pass found them; only the primary knows how far they are."""
    after = {}
    for member in found:
        pod = member.pod
        if pod is None or pod.seed.is_done:
            continue
        known = before.get(pod.uid)
        if not has_primary and known is not None:
            after[pod.uid] = replace(known, still=known.still.pause(now))
            continue
        progress = _measure_progress(pod, member.backup)
        after[pod.uid] = known.observe(progress, now) if known is not None else begin_copy(progress, now)
    return after


def _measure_progress(pod: PodFacts, backup: BackupProgress | None) -> tuple[str, int]:
    return (backup.phase, backup.streamed_bytes) if backup is not None else ("", pod.seed.restarts)


def still_seconds(copies: Mapping[str, CopyProgress], pod: PodFacts | None, now: float) -> float:
    """How long a copy has made no progress, as far as this process saw it."""
    known = copies.get(pod.uid) if pod is not None else None
    return known.still.seconds(now) if known is not None else 0.0


def observe_idle_slots(
    before: Mapping[str, Stopwatch], found: Iterable[MemberFacts], now: float, *, has_primary: bool
) -> dict[str, Stopwatch]:
    """The slots that nobody uses, by name."""
    if not has_primary:
        return {name: known.pause(now) for name, known in before.items()}
    slots = [member.slot for member in found if member.slot is not None and not member.slot.is_active]
    return {slot.name: before[slot.name].run(now) if slot.name in before else begin(now) for slot in slots}


def idle_seconds(idle_slots: Mapping[str, Stopwatch], found: MemberFacts, now: float) -> float:
    """How long nobody has used a member's slot, by the server or else as far as this process saw it."""
    slot = found.slot
    if slot is None:
        return 0.0
    known = idle_slots.get(slot.name)
    return slot.idle_seconds(known.seconds(now) if known is not None else 0.0)


@dataclass(frozen=True, slots=True)
class Drain:
    """Since when this process has seen a pod drain; `is_whole`: it has also seen it before."""

    since: float
    is_whole: bool


def observe_drains(
    before: Mapping[str, Drain], pods: Iterable[PodFacts], seen: Iterable[str], now: float
) -> dict[str, Drain]:
    """The pods that drain, by uid; `seen` are the uids of the pods of the last pass. The primary has no part in it."""
    known = frozenset(seen)
    return {
        pod.uid: before.get(pod.uid) or Drain(now, is_whole=pod.uid in known)
        for pod in pods
        if pod.role is Role.DRAINING
    }
