"""How many items a worker really takes at a time, where that is fewer than the spec says.

Slots that exist only in the spec make a pool count on throughput that never comes. They differ from slots that a lock
or a stuck head leaves idle. Beside a backlog, a worker with one slot always has exactly one item, and takes the next
one when it ends. A second worker brings a second item. Idle slots of another kind prove nothing, and start nobody.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from headroom.policy.workerpool.constants import (
    IDLE_BESIDE_BACKLOG_SECONDS,
    OCCUPANCY_KEPT,
    OCCUPANCY_REPEAT_SAMPLES,
    OCCUPANCY_SAMPLES,
    SATURATED_SHARE,
)
from headroom.policy.workerpool.facts import ScalingLimits
from headroom.policy.workerpool.window import Observation


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Items that a worker was proven to take at a time; `taken` None: as many as the spec says.

    `workers` is the largest count at which that was proven. `ceiling` is how many items were in flight when more
    workers did not raise them: then something else limits them, and the same number proves nothing again.
    """

    taken: int | None = None
    workers: int = 0
    ceiling: int = 0

    def limit(self, limits: ScalingLimits) -> ScalingLimits:
        """The limits with the slots that a worker really has."""
        return limits if self.taken is None else replace(limits, concurrency=min(self.taken, limits.concurrency))


def follow_occupancy(memory: Occupancy, window: Sequence[Observation], declared: int) -> Occupancy:
    """The memory after the newest sample of a window; `declared` is the concurrency of the spec."""
    if memory.taken is not None and memory.taken >= declared:
        memory = Occupancy()
    workers = window[-1].settled_workers if window else 0
    if workers == 0 or declared == 1:
        return memory
    same = list(takewhile(lambda seen: seen.settled_workers == workers, reversed(window)))
    most = max(seen.sample.in_flight or 0 for seen in same)
    if memory.taken is not None and most > memory.taken * workers:
        # A worker has more slots than that: at least so many.
        memory = replace(memory, taken=math.ceil(most / workers))
        return memory if (memory.taken or 0) < declared else Occupancy()
    backed = [seen for seen in same if seen.sample.backlog > 0]
    if memory.taken is not None and workers > memory.workers:
        return _repeat(memory, backed, workers, most)
    taken = math.ceil(most / workers)
    is_new = 0 < taken < declared and most > memory.ceiling
    if is_new and len(backed) >= OCCUPANCY_SAMPLES and _is_full(backed, taken * workers) and _has_turned(backed, most):
        return replace(memory, taken=taken, workers=max(workers, memory.workers))
    return memory


def _repeat(memory: Occupancy, backed: Sequence[Observation], workers: int, most: int) -> Occupancy:
    """What a larger count shows: as many items more, which proves it again, or hardly any more, which refutes it."""
    taken, before = memory.taken or 0, (memory.taken or 0) * memory.workers
    if len(backed) < OCCUPANCY_REPEAT_SAMPLES:
        return memory
    if _is_full(backed, taken * workers):
        return replace(memory, workers=workers)
    has_room = all(seen.sample.backlog > taken * workers - (seen.sample.in_flight or 0) for seen in backed)
    if has_room and len(backed) >= OCCUPANCY_SAMPLES and most - before < (taken * workers - before) / 2:
        return Occupancy(ceiling=most)
    return memory


def _is_full(backed: Sequence[Observation], slots: int) -> bool:
    """Whether so many slots were busy lately on average, as all of them are where no other limit holds items up."""
    newest = backed[:OCCUPANCY_KEPT]
    return sum(seen.sample.in_flight or 0 for seen in newest) >= SATURATED_SHARE * slots * len(newest)


def _has_turned(backed: Sequence[Observation], slots: int) -> bool:
    """Whether each slot has taken another item meanwhile on average; without counts of ends a minute must do."""
    newest, oldest = backed[0].sample, backed[-1].sample
    if newest.ended is None or oldest.ended is None:
        return newest.taken_at - oldest.taken_at >= IDLE_BESIDE_BACKLOG_SECONDS
    return newest.ended - oldest.ended >= slots
