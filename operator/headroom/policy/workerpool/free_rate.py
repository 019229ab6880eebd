"""The free rate m0: what a slot does beside workers that do not hold each other up, and what it says of others.

It is the best rate under one pod template. A lock that caps the throughput makes each slot slower, and m0 does not fall
with them. Jobs and databases become slower too, though: what m0 says of a slot weakens the longer ago it was seen.
"""

import math
from dataclasses import replace

from headroom.policy.workerpool.constants import (
    BASE_MAX_AGE_SECONDS,
    FREE_SHARE,
    GAIN_LEAST_JOBS,
    GAIN_SIGMAS,
    LINEAR_SIGMAS,
    SLOWER_SHARE,
)
from headroom.policy.workerpool.gain_constants import (
    DRIFT_PER_MINUTE,
)
from headroom.policy.workerpool.gain_memory import GainFacts, GainMemory
from headroom.policy.workerpool.gain_window import GainWindow

FIRST_RATE_JOBS = 30.0
STEADY_SECONDS = 60.0
"""What the rate of a slot counts for, in jobs, until the count of workers has been steady for so long."""


def learn_free_rate(memory: GainMemory, seen: GainFacts) -> GainMemory:
    """m0: the best rate of a slot. Until a window has measured it, what busy slots did before the pool grew."""
    window = memory.window
    is_small = (memory.ready or 0) <= memory.known_reach
    if window is not None and is_small and _has_slowed(memory, window):
        return set_free_rate(memory, window, seen.at)
    if window is None or not window.is_counted:
        return _learn_without_window(memory, seen)
    rate, free = window.slot_rate, memory.free_rate
    spread = math.exp(GAIN_SIGMAS * window.error)
    is_better = free is None or rate / spread > free
    is_first = memory.free_workers == 0 and is_small and memory.base is None
    is_outdated = is_small and seen.at - memory.free_at > BASE_MAX_AGE_SECONDS
    if is_better or is_first or is_outdated:
        return set_free_rate(memory, window, seen.at)
    is_like = is_small and free is not None and rate * spread >= free
    # Nothing holds up the slots of a verified count: a rate a little below the best one is the present free rate.
    return set_free_rate(memory, window, seen.at) if is_like else memory


def _has_slowed(memory: GainMemory, window: GainWindow) -> bool:
    """Whether the slots of a verified count do far less than before: jobs or database have changed, not the count.

    Not where they wait for a lock: that may go, and a limit on the rate beside it would ask for any number of workers.
    """
    if memory.free_rate is None or window.ended < GAIN_LEAST_JOBS or memory.waits.is_lock:
        return False
    if window.slot_rate >= FREE_SHARE * memory.free_rate:
        return False
    spread = math.exp(GAIN_SIGMAS * math.sqrt(window.error**2 + 1 / memory.free_jobs))
    return window.slot_rate * spread < FREE_SHARE * memory.free_rate


def _learn_without_window(memory: GainMemory, seen: GainFacts) -> GainMemory:
    """From the busy slots of a queue that does not have work for all of them."""
    is_small, rate = (memory.ready or 0) <= memory.known_reach, seen.service_rate
    if memory.jobs < GAIN_LEAST_JOBS or rate is None:
        return memory
    is_outdated = seen.at - memory.free_at > BASE_MAX_AGE_SECONDS
    # It is hardly known at first: slots that the first samples show busy may have been idle.
    jobs = float(memory.jobs) if seen.at - memory.ready_since >= STEADY_SECONDS else min(memory.jobs, FIRST_RATE_JOBS)
    if memory.free_rate is None or (is_small and (memory.free_workers == 0 or is_outdated)):
        return replace(memory, free_rate=rate, free_jobs=jobs, free_workers=0, free_at=seen.at)
    # It follows changes late: a rate that a window has shown since then is the newer one.
    is_like = is_small and SLOWER_SHARE <= rate / memory.free_rate <= 1 / SLOWER_SHARE
    jobs = max(memory.free_jobs, FIRST_RATE_JOBS)
    return replace(memory, free_rate=rate, free_jobs=jobs, free_at=seen.at) if is_like else memory


def set_free_rate(memory: GainMemory, window: GainWindow, now: float) -> GainMemory:
    """The memory with what the slots of a window did as the free rate."""
    ended = float(window.ended)
    return replace(memory, free_rate=window.slot_rate, free_jobs=ended, free_workers=window.workers, free_at=now)


def verify_by_rate(memory: GainMemory, seen: GainFacts) -> GainMemory:
    """Slots that are nearly as fast as free ones are not held up by each other: no second window is needed for that.

    Slots that are far slower need not be held up either, but a count that was verified in better times says nothing.
    """
    window, free = memory.window, memory.free_rate
    if window is None or free is None or window.ended < GAIN_LEAST_JOBS:
        return memory
    share = window.slot_rate / free
    spread = math.exp(GAIN_SIGMAS * math.sqrt(window.error**2 + 1 / memory.free_jobs))
    if share / spread >= FREE_SHARE and memory.free_workers < window.workers:
        return replace(memory, reach=max(memory.reach, memory.count_useful(window)))
    if share * spread * _find_drift(memory, seen.at) < FREE_SHARE:
        doubted = window.workers if memory.base is None else memory.base.workers
        return replace(memory, reach=min(memory.reach, doubted), gained=min(memory.gained, window.workers))
    return memory


def is_slower(memory: GainMemory, window: GainWindow, now: float) -> bool:
    """Whether a slot certainly does less than a free one; `now` is that of the free rate if time does not matter."""
    if memory.free_rate is None:
        return False
    spread = math.exp(GAIN_SIGMAS * math.sqrt(window.error**2 + 1 / memory.free_jobs))
    return window.slot_rate * spread * _find_drift(memory, now) < SLOWER_SHARE * memory.free_rate


def _find_drift(memory: GainMemory, now: float) -> float:
    """By which factor all slots may have become slower since the free rate was seen."""
    return math.exp(LINEAR_SIGMAS * DRIFT_PER_MINUTE * max(0.0, now - memory.free_at) / 60)
