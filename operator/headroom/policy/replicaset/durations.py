"""How long something has lasted, added up from pass to pass.

A pass in which the primary could not be asked tells nothing of what depends on it: it pauses such a count, and neither
ends it nor adds to it. All times are monotonic seconds.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
