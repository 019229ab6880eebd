"""A freeze that holds: what it waits for, when more workers are tried, and what ends it.

Shares of waits and rates are compared at the count that is really there, which other rules may keep above or below the
held one. A freeze that holds nobody back ends by itself; what was verified stays the limit of the next growth.
"""

import math
from dataclasses import replace

from headroom.model.waits import LOCK_PREFIX
from headroom.policy.workerpool.constants import (
    FREEZE_FIRST_SECONDS,
    FREEZE_GROWTH,
    GAIN_LEAST_JOBS,
    GAIN_SIGMAS,
    LOCK_SHARE,
    RECOVERED_RATIO,
    VERDICT_SECONDS,
    WAIT_SAMPLES_KEPT,
)
from headroom.policy.workerpool.gain_memory import Freeze, GainFacts, GainMemory, GainRules, Lift, Phase
from headroom.policy.workerpool.gain_window import GainWindow
from headroom.policy.workerpool.wait_tally import IDLE, WaitTally


def name_cause(freeze: Freeze, waits: WaitTally, workers: int) -> Freeze:
    """The freeze with what so many workers wait for, once that is known.

    A lock is believed at any count, and stays. What else limits the workers of the verdict shows beside as many only:
    the fewer that are held may well be busy.
    """
    cause, is_lock = waits.find_cause(workers), _is_lock(freeze.wait)
    if cause is None or (is_lock and (cause != freeze.wait or freeze.statement is not None)):
        return freeze
    if not _is_lock(cause) and (freeze.wait not in (None, IDLE) or (cause != IDLE and workers < freeze.more_workers)):
        return freeze
    blocker = waits.blocker if _is_lock(cause) else None
    return replace(
        freeze,
        wait=cause,
        wait_share=freeze.wait_share if cause == freeze.wait else None,
        statement=None if blocker is None else blocker.statement,
        is_idle_blocker=blocker is not None and blocker.is_idle,
    )


def _is_lock(wait: str | None) -> bool:
    return wait is not None and wait.startswith(LOCK_PREFIX)


def lift_freeze(memory: GainMemory, why: Lift, workers: int = 0) -> GainMemory:
    """Let the pool grow again, from the count that is known to help now."""
    reach = max(memory.reach, workers)
    return replace(memory, freeze=None, lifted=why, reach=reach, base=None, pending=None, above_since=None)


def follow_holding(memory: GainMemory, freeze: Freeze, seen: GainFacts, rules: GainRules) -> GainMemory:
    """The memory after one more pass under a freeze that holds."""
    freeze = _follow_need(freeze, seen)
    if _is_over(freeze, seen, rules):
        return lift_freeze(memory, Lift.NOT_NEEDED)
    if seen.is_saturated:
        if _has_risen(memory.window, freeze):
            return lift_freeze(memory, Lift.THROUGHPUT, min(seen.ready, freeze.workers))
        freeze = _learn_reference(memory, freeze, seen)
        if _have_waits_halved(memory, freeze, seen):
            return lift_freeze(memory, Lift.WAITS, min(seen.ready, freeze.workers))
    return replace(memory, freeze=_begin_try(memory, freeze, seen, rules))


def _follow_need(freeze: Freeze, seen: GainFacts) -> Freeze:
    """Since when the freeze holds nobody back, because the queue asks for no more or other rules allow less."""
    if seen.seconds <= 0:
        return freeze
    is_needed = seen.wanted > freeze.workers and seen.ready >= freeze.workers and seen.most > freeze.workers
    is_quiet = not seen.is_saturated and seen.wanted <= freeze.fewer_workers
    return replace(
        freeze,
        unneeded_since=None if is_needed else _first(freeze.unneeded_since, seen.at),
        quiet_since=_first(freeze.quiet_since, seen.at) if is_quiet and not is_needed else None,
    )


def _first(since: float | None, at: float) -> float:
    return at if since is None else since


def _is_over(freeze: Freeze, seen: GainFacts, rules: GainRules) -> bool:
    is_quiet = freeze.quiet_since is not None and seen.at - freeze.quiet_since >= VERDICT_SECONDS
    longest = max(rules.retry_after_seconds, VERDICT_SECONDS)
    return is_quiet or (freeze.unneeded_since is not None and seen.at - freeze.unneeded_since >= longest)


def _learn_reference(memory: GainMemory, freeze: Freeze, seen: GainFacts) -> Freeze:
    """What the present workers do and wait for, once it is known: later it is compared with this."""
    window = memory.window
    if window is not None and window.is_counted and freeze.reference_workers != window.workers:
        freeze = replace(freeze, reference_workers=window.workers, held_rate=window.rate, wait_share=None)
    if freeze.wait_share is None and freeze.wait is not None and freeze.reference_workers == seen.ready:
        share = memory.waits.share(freeze.wait) if memory.waits.samples >= WAIT_SAMPLES_KEPT - 1 else None
        freeze = replace(freeze, wait_share=share if share is not None and share >= LOCK_SHARE else None)
    return freeze


def _has_risen(window: GainWindow | None, freeze: Freeze) -> bool:
    """Whether no more workers than those of the reference certainly do more."""
    if window is None or not window.is_counted or freeze.held_rate is None:
        return False
    is_like = window.workers <= freeze.reference_workers
    return is_like and window.rate * math.exp(-GAIN_SIGMAS * window.error) > RECOVERED_RATIO * freeze.held_rate


def _have_waits_halved(memory: GainMemory, freeze: Freeze, seen: GainFacts) -> bool:
    if freeze.wait is None or freeze.wait_share is None or freeze.reference_workers != seen.ready:
        return False
    share = memory.waits.share(freeze.wait)
    return share is not None and share <= freeze.wait_share / 2


def _begin_try(memory: GainMemory, freeze: Freeze, seen: GainFacts, rules: GainRules) -> Freeze:
    """Try more workers once that is due and there is something to compare them with.

    The next try is due later from now on, for another process as well.
    """
    window = memory.window
    has_base = window is not None and window.workers == seen.ready and window.ended >= GAIN_LEAST_JOBS
    tried = min(find_try(freeze, seen.ready), seen.most)
    is_wanted = seen.wanted > max(freeze.workers, seen.ready) and tried > seen.ready >= freeze.workers
    if seen.at < freeze.retry_at or not has_base or not is_wanted:
        return freeze
    pause = min(FREEZE_GROWTH * freeze.pause_seconds, max(rules.retry_after_seconds, FREEZE_FIRST_SECONDS))
    due = replace(freeze, pause_seconds=pause, retry_at=seen.at + pause, tried_from=seen.ready, tried=tried)
    return due.enter(Phase.RETRYING, seen.at)


def find_try(freeze: Freeze, ready: int) -> int:
    """How many workers a try has: those of the verdict again, else one more than are held.

    Workers that could not be taken away are still there: what they do is seen without a try.
    """
    return max(freeze.more_workers, ready + 1) if ready <= freeze.workers else freeze.more_workers
