"""Items that workers pass over: they are blocked, no lag that more workers could shorten, and are named.

A row that a forgotten transaction has locked, or a job kind that no worker knows, stays at the head of its queue, and
its age would keep the pool at its limit. The source leaves out those it can tell; here is the proof for all
others: the item is the next in the library's order, and stays it, while others are taken.
"""

import math
from dataclasses import dataclass, replace

from headroom.model.queue import QueueSample, StuckItem
from headroom.policy.workerpool.constants import HEAD_HELD_SECONDS, HEAD_PASSED, HEAD_SAMPLES

WATCHED_BEHIND = 10
"""Items right behind the head that are watched: new ones may push others out of the end of the list."""
MOST_STUCK = 5


@dataclass(frozen=True, slots=True)
class HeadWatch:
    """The next item to be taken, seen in so many samples in a row; what was taken since is counted two ways.

    `passed` are items seen behind it that are gone. `taken_before` is ended + in flight at the first sighting, None
    where the source does not count.
    """

    id: int
    samples: int = 1
    passed: int = 0
    behind: tuple[int, ...] = ()
    taken_before: int | None = None

    def is_proven(self, taken: int | None) -> bool:
        """True when workers have passed the item over repeatedly."""
        counted = 0 if taken is None or self.taken_before is None else taken - self.taken_before
        return self.samples >= HEAD_SAMPLES and max(self.passed, counted) >= HEAD_PASSED


@dataclass(frozen=True, slots=True)
class HeadMemory:
    """What is known of the head of a queue: items proven stuck, and the one that is watched.

    `held` are the items whose row a transaction has locked, as the source says, and since when they are seen so.
    """

    stuck: tuple[int, ...] = ()
    held: tuple[tuple[int, float], ...] = ()
    watch: HeadWatch | None = None
    taken_at: float = -math.inf


def watch_heads(memory: HeadMemory, sample: QueueSample) -> HeadMemory:
    """The memory after one more sample; an answer that is older than the last one changes nothing."""
    if sample.taken_at <= memory.taken_at:
        return memory
    there = {*sample.leading, *(item.id for item in sample.eldest)}
    stuck = tuple(item for item in memory.stuck if item in there)
    leading = [item for item in sample.leading if item not in stuck]
    taken = None if sample.ended is None or sample.in_flight is None else sample.ended + sample.in_flight
    watch = _watch(memory.watch, leading, taken)
    if watch is not None and watch.is_proven(taken):
        stuck, watch = (*stuck, watch.id), _watch(None, leading[1:], taken)
    known = dict(memory.held)
    held = tuple((item.id, known.get(item.id, sample.taken_at)) for item in sample.stuck)
    return HeadMemory(stuck, held, watch, sample.taken_at)


def leave_out_stuck(sample: QueueSample, memory: HeadMemory, target_lag_seconds: float) -> QueueSample:
    """The sample with the stuck items among the blocked ones, and without the lists that only this module needs."""
    ages = {item.id: item.seconds for item in sample.eldest}
    stuck = [item for item in memory.stuck if item in ages or item in sample.leading]
    known = [ages[item] for item in stuck if item in ages]
    # What a batch update locks for a moment is blocked, and not worth a word.
    named = {item for item, since in memory.held if sample.taken_at - since >= HEAD_HELD_SECONDS}
    held = [item for item in sample.stuck if item.id in named]
    is_oldest_stuck = bool(sample.eldest) and sample.eldest[0].id in stuck
    rest = max((seconds for item, seconds in ages.items() if item not in stuck), default=0.0)
    return replace(
        sample,
        lag_seconds=rest if is_oldest_stuck else sample.lag_seconds,
        backlog=max(0, sample.backlog - len(stuck)),
        late=max(0, sample.late - sum(seconds > target_lag_seconds for seconds in known)),
        blocked=sample.blocked + len(stuck),
        blocked_seconds=max([sample.blocked_seconds, *known]),
        stuck=(*(StuckItem(item) for item in stuck), *held)[:MOST_STUCK],
        leading=(),
        eldest=(),
    )


def _watch(before: HeadWatch | None, leading: list[int], taken: int | None) -> HeadWatch | None:
    if not leading:
        return None
    behind = tuple(leading[1 : 1 + WATCHED_BEHIND])
    if before is None or before.id != leading[0]:
        return HeadWatch(leading[0], behind=behind, taken_before=taken)
    # Counts that began again, or were unknown at first, count from now.
    is_same_count = before.taken_before is not None and taken is not None and taken >= before.taken_before
    return HeadWatch(
        id=before.id,
        samples=before.samples + 1,
        passed=before.passed + sum(item not in leading for item in before.behind),
        behind=behind,
        taken_before=before.taken_before if is_same_count else taken,
    )
