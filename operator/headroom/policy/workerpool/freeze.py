"""A freeze of growth, from the verdict that began it to what lifts it.

It takes half of the last step back and looks whether the throughput falls: it must not, if the verdict was right. Then
it holds. A new pod template lifts it at once, as does a cause that goes away: the share of the wait event halves, or
the same workers do clearly more. Else more workers are tried after 1, 2, 4 ... minutes.
"""

import math
from dataclasses import replace

from headroom.policy.workerpool.constants import (
    CONFIRM_SECONDS,
    FREEZE_FIRST_SECONDS,
    FREEZE_GROWTH,
    GAIN_LEAST_JOBS,
    GAIN_SIGMAS,
    LOCK_SHARE,
    RECOVERED_RATIO,
    TRIAL_SECONDS,
    TRIAL_SHARE,
    VERDICT_SECONDS,
    WAIT_SAMPLES_KEPT,
)
from headroom.policy.workerpool.gain import GainVerdict, decide_gain, measure_gain
from headroom.policy.workerpool.gain_memory import Freeze, GainFacts, GainMemory, GainRules, Lift, Phase, Verified
from headroom.policy.workerpool.gain_window import GainWindow


def begin_freeze(memory: GainMemory, seen: GainFacts, fewer: GainWindow, more: GainWindow) -> GainMemory:
    """Stop growth after a verdict of no gain; while commits are slow, no worker is taken from its job."""
    back = 0 if seen.are_commits_slow else math.ceil((more.workers - fewer.workers) / 2)
    freeze = Freeze(
        workers=more.workers - back,
        fewer_workers=fewer.workers,
        fewer_rate=fewer.rate,
        more_workers=more.workers,
        more_rate=more.rate,
        began_at=seen.at,
        retry_at=seen.at + FREEZE_FIRST_SECONDS,
        pause_seconds=FREEZE_FIRST_SECONDS,
        phase=Phase.HOLDING if seen.are_commits_slow else Phase.CONFIRMING,
        phase_since=seen.at,
        fewer=fewer,
        more=more,
    )
    return _freeze(memory, freeze)


def begin_trial(memory: GainMemory, seen: GainFacts, more: GainWindow) -> GainMemory:
    """Measure fewer workers where growth was too quick for a window before it, and sessions wait for locks.

    Nothing is taken from its job while commits are slow: then the count only stays.
    """
    if seen.are_commits_slow:
        return memory
    workers = more.workers - math.ceil(TRIAL_SHARE * more.workers)
    frozen = begin_freeze(memory, seen, replace(more, workers=workers), more)
    assert frozen.freeze is not None
    trial = replace(frozen.freeze, workers=workers, is_trial=True, fewer=None)
    return replace(frozen, freeze=trial, reach=memory.reach, gained=memory.gained, verdicts=memory.verdicts)


def _freeze(memory: GainMemory, freeze: Freeze) -> GainMemory:
    waits = memory.waits
    blocker = waits.blocker if waits.is_lock else None
    freeze = replace(
        freeze,
        wait=waits.top,
        statement=None if blocker is None else blocker.statement,
        is_idle_blocker=blocker is not None and blocker.is_idle,
    )
    return replace(
        memory,
        freeze=freeze,
        reach=min(memory.reach, freeze.fewer_workers),
        gained=0,
        verified=None,
        lifted=None,
        above_since=None,
        verdicts=memory.verdicts + 1,
    )


def follow_freeze(memory: GainMemory, seen: GainFacts, rules: GainRules) -> GainMemory:
    """The memory after one more pass under a freeze."""
    freeze = memory.freeze
    assert freeze is not None
    if freeze.phase is Phase.CONFIRMING:
        return _confirm(memory, freeze, seen, rules)
    if freeze.phase is Phase.RETRYING:
        return _retry(memory, freeze, seen, rules)
    return _hold(memory, freeze, seen)


def _lift(memory: GainMemory, why: Lift, workers: int) -> GainMemory:
    """Let the pool grow again from the count that is known to help now."""
    reach = max(memory.reach, workers)
    return replace(memory, freeze=None, lifted=why, reach=reach, base=None, pending=None, above_since=None)


def _return(memory: GainMemory, freeze: Freeze, window: GainWindow | None) -> GainMemory:
    """Fewer workers do less, so that those taken away come back; what they gained says how many more may come."""
    more = freeze.more
    useful = freeze.more_workers if more is None else memory.count_useful(more)
    lifted = _lift(memory, Lift.FEWER_DO_LESS, useful)
    gain = None if window is None or more is None else measure_gain(window, more)
    if window is None or more is None or gain is None:
        return replace(lifted, gained=freeze.more_workers, verified=None)
    verified = Verified(window.workers, window.rate, more.workers, more.rate, gain)
    return replace(lifted, gained=freeze.more_workers, verified=verified)


def _confirm(memory: GainMemory, freeze: Freeze, seen: GainFacts, rules: GainRules) -> GainMemory:
    """Look at fewer workers once: if they do less, the verdict was wrong."""
    window, more = memory.window, freeze.more
    is_over = seen.at - freeze.phase_since >= (TRIAL_SECONDS if freeze.is_trial else CONFIRM_SECONDS)
    if window is None or window.workers > freeze.workers or more is None or not window.is_counted:
        if not is_over:
            return memory
        # Without a comparison a trial has shown nothing, and a verdict stands.
        return _return(memory, freeze, None) if freeze.is_trial else _keep(memory, freeze, seen)
    pairs = [(window, more)]
    if freeze.fewer is not None and freeze.fewer.workers < window.workers:
        # An unlucky window of the verdict looks bad beside any other: what the base did counts too.
        pairs.append((freeze.fewer, window))
    verdicts = [decide_gain(*pair, rules.least_gain)[0] for pair in pairs]
    if GainVerdict.GAIN in verdicts:
        return _return(memory, freeze, window)
    if not freeze.is_trial:
        return _keep(memory, freeze, seen)
    if verdicts[0] is GainVerdict.NO_GAIN:
        proven = replace(freeze, is_trial=False, fewer_workers=window.workers, fewer_rate=window.rate)
        known = replace(memory, reach=min(memory.reach, window.workers), gained=0, verdicts=memory.verdicts + 1)
        return _keep(known, proven, seen)
    return _return(memory, freeze, window) if is_over else memory


def _keep(memory: GainMemory, freeze: Freeze, seen: GainFacts) -> GainMemory:
    return replace(memory, freeze=freeze.enter(Phase.HOLDING, seen.at))


def _hold(memory: GainMemory, freeze: Freeze, seen: GainFacts) -> GainMemory:
    """Wait for what lifts the freeze; shares of waits and rates are compared at the held count only."""
    window = memory.window
    is_held = seen.ready == freeze.workers
    if is_held and seen.is_saturated:
        freeze = _learn_reference(memory, freeze)
        share = None if freeze.wait is None else memory.waits.share(freeze.wait)
        if share is not None and freeze.wait_share is not None and share <= freeze.wait_share / 2:
            return _lift(memory, Lift.WAITS, freeze.workers)
        if window is not None and freeze.held_rate is not None and _has_risen(window, freeze.held_rate):
            return _lift(memory, Lift.THROUGHPUT, freeze.workers)
    has_base = window is not None and window.ended >= GAIN_LEAST_JOBS
    if seen.at >= freeze.retry_at and seen.ready >= freeze.workers and seen.wanted > freeze.workers and has_base:
        freeze = freeze.enter(Phase.RETRYING, seen.at)
    return replace(memory, freeze=freeze)


def _learn_reference(memory: GainMemory, freeze: Freeze) -> Freeze:
    """What the held workers do and wait for, once it is known: later it is compared with this."""
    if freeze.wait_share is None and freeze.wait is not None:
        share = memory.waits.share(freeze.wait) if memory.waits.samples >= WAIT_SAMPLES_KEPT - 1 else None
        freeze = replace(freeze, wait_share=share if share is not None and share >= LOCK_SHARE else None)
    if freeze.held_rate is None and memory.window is not None and memory.window.is_counted:
        freeze = replace(freeze, held_rate=memory.window.rate)
    return freeze


def _has_risen(window: GainWindow, rate: float) -> bool:
    return window.is_counted and window.rate * math.exp(-GAIN_SIGMAS * window.error) > RECOVERED_RATIO * rate


def _retry(memory: GainMemory, freeze: Freeze, seen: GainFacts, rules: GainRules) -> GainMemory:
    """Measure the larger count again: growth stays stopped unless that shows a gain."""
    window, base = memory.window, memory.base
    seconds = seen.at - freeze.phase_since
    if window is None or base is None or window.workers <= freeze.workers or not window.is_counted:
        return memory if seconds < VERDICT_SECONDS else _back_off(memory, freeze, seen, rules)
    verdict, gain = decide_gain(base, window, rules.least_gain)
    if gain is not None and verdict is GainVerdict.GAIN:
        lifted = _lift(memory, Lift.RETRIED, memory.count_useful(window))
        verified = Verified(base.workers, base.rate, window.workers, window.rate, gain)
        return replace(lifted, gained=window.workers, verified=verified)
    is_over = verdict is GainVerdict.NO_GAIN or seconds >= TRIAL_SECONDS
    return _back_off(memory, freeze, seen, rules) if is_over else memory


def _back_off(memory: GainMemory, freeze: Freeze, seen: GainFacts, rules: GainRules) -> GainMemory:
    """Back to the held count; the next try is twice as far away."""
    pause = min(FREEZE_GROWTH * freeze.pause_seconds, max(rules.retry_after_seconds, FREEZE_FIRST_SECONDS))
    workers = max(freeze.workers, seen.ready) if seen.are_commits_slow else freeze.workers
    held = replace(freeze, workers=workers, pause_seconds=pause, retry_at=seen.at + pause)
    return replace(memory, freeze=held.enter(Phase.HOLDING, seen.at), verdicts=memory.verdicts + 1)
