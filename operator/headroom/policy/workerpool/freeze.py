"""A freeze of growth, from the verdict that began it to what lifts it.

It takes half of the last step back and looks whether a slot then does more: it must, if the verdict was right. If not,
the jobs or the database have become slower by themselves, or the workers did help: the verdict is withdrawn. Else it
holds, as `holding` has it, and more workers are tried after 1, 2, 4 ... minutes, with the same look afterwards.
"""

import math
from dataclasses import replace

from headroom.model.waits import LOCK_PREFIX
from headroom.policy.workerpool.constants import (
    CONFIRM_SECONDS,
    FREEZE_FIRST_SECONDS,
    FREEZE_GROWTH,
    RECOVERED_RATIO,
    SLOWER_SHARE,
    TRIAL_SECONDS,
    TRIAL_SHARE,
    VERDICT_SECONDS,
)
from headroom.policy.workerpool.free_rate import set_free_rate
from headroom.policy.workerpool.gain import GainVerdict, decide_gain, has_fallen, measure_gain, measure_recovery
from headroom.policy.workerpool.gain_constants import (
    BACK_SHARE,
    RECOVERED_SIGMAS,
    TRIAL_FIRST_SECONDS,
    WARY_MOST_SECONDS,
    WARY_SECONDS,
)
from headroom.policy.workerpool.gain_memory import Freeze, GainFacts, GainMemory, GainRules, Lift, Phase, Verified
from headroom.policy.workerpool.gain_window import GainWindow
from headroom.policy.workerpool.holding import follow_holding, lift_freeze, name_cause


def begin_freeze(memory: GainMemory, seen: GainFacts, fewer: GainWindow, more: GainWindow) -> GainMemory:
    """Stop growth after a verdict of no gain; while commits are slow, no worker is taken from its job."""
    step = more.workers - fewer.workers
    back = min(step, max(math.ceil(step / 2), math.ceil(BACK_SHARE * more.workers)))
    freeze = Freeze(
        workers=more.workers if seen.are_commits_slow else more.workers - back,
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


def begin_trial(memory: GainMemory, seen: GainFacts, more: GainWindow, rules: GainRules) -> GainMemory:
    """Measure fewer workers where growth was too quick for a window before it, and something holds the slots up.

    Nothing is taken from its job while commits are slow: then the count only stays. The next one is due later, in
    another process as well.
    """
    if seen.are_commits_slow:
        return memory
    workers = more.workers - math.ceil(TRIAL_SHARE * more.workers)
    frozen = begin_freeze(memory, seen, replace(more, workers=workers), more)
    assert frozen.freeze is not None
    fewer = memory.base if memory.base is not None and memory.base.workers <= workers else None
    trial = replace(frozen.freeze, workers=workers, is_trial=True, fewer=fewer)
    pause = memory.trial_pause_seconds
    return replace(
        frozen,
        freeze=trial,
        reach=memory.reach,
        gained=memory.gained,
        verdicts=memory.verdicts,
        trial_at=seen.at + pause,
        trial_pause_seconds=min(FREEZE_GROWTH * pause, max(rules.retry_after_seconds, TRIAL_FIRST_SECONDS)),
    )


def _freeze(memory: GainMemory, freeze: Freeze) -> GainMemory:
    return replace(
        memory,
        freeze=name_cause(freeze, memory.waits, freeze.more_workers),
        reach=min(memory.reach, freeze.fewer_workers),
        gained=0,
        verified=None,
        lifted=None,
        above_since=None,
        verdicts=memory.verdicts + 1,
    )


def follow_freeze(memory: GainMemory, seen: GainFacts, rules: GainRules) -> GainMemory:
    """The memory after one more pass under a freeze."""
    assert memory.freeze is not None
    freeze = name_cause(memory.freeze, memory.waits, seen.ready)
    memory = replace(memory, freeze=freeze)
    if freeze.phase is Phase.CONFIRMING:
        return _confirm(memory, freeze, seen, rules)
    if freeze.phase is Phase.RETRYING:
        return _retry(memory, freeze, seen, rules)
    return follow_holding(memory, freeze, seen, rules)


def _confirm(memory: GainMemory, freeze: Freeze, seen: GainFacts, rules: GainRules) -> GainMemory:
    """Look at fewer workers once: if a slot does no more beside them, the verdict was wrong."""
    window, more = memory.window, freeze.more
    is_over = seen.at - freeze.phase_since >= (TRIAL_SECONDS if freeze.is_trial else CONFIRM_SECONDS)
    if window is None or window.workers > freeze.workers or more is None or not window.is_counted:
        is_begun = window is not None and window.workers <= freeze.workers and not freeze.is_trial
        if not is_over or (is_begun and seen.at - freeze.phase_since < VERDICT_SECONDS):
            return memory
        # Without a comparison a trial has shown nothing, and a verdict stands.
        return lift_freeze(memory, Lift.NOT_MEASURED) if freeze.is_trial else _keep(memory, freeze, seen)
    is_lock = freeze.wait is not None and freeze.wait.startswith(LOCK_PREFIX)
    if not is_lock and has_fallen(window, more, 1 / RECOVERED_RATIO):
        # Fewer do far more than more did: that is another time, with other jobs.
        return lift_freeze(_become_wary(memory, seen), Lift.THROUGHPUT, window.workers)
    recovery = measure_recovery(window, more) or 0.0
    is_disproved = recovery < RECOVERED_SIGMAS and _has_slowed(freeze, window, SLOWER_SHARE)
    if is_disproved or recovery < -RECOVERED_SIGMAS or _is_gain(freeze, window, more, rules):
        return _withdraw(memory, freeze, seen, window, more)
    if freeze.is_trial:
        is_proven = decide_gain(window, more, rules.least_gain)[0] is GainVerdict.NO_GAIN
        # A wait for a lock was seen beside it, so that less is needed.
        if is_proven or ((is_over or is_lock) and recovery > RECOVERED_SIGMAS):
            proven = replace(freeze, is_trial=False, fewer_workers=window.workers, fewer_rate=window.rate)
            if not is_proven:
                # They hold each other up, but the fewer may do a little less: half of the step is what is taken back.
                proven = replace(proven, workers=math.ceil((window.workers + more.workers) / 2))
            reach = min(memory.reach, window.workers)
            known = replace(memory, reach=reach, gained=0, verdicts=memory.verdicts + 1)
            return _keep(replace(known, trial_pause_seconds=TRIAL_FIRST_SECONDS), proven, seen)
    elif recovery > RECOVERED_SIGMAS or (is_over and recovery > 0):
        return _keep(memory, freeze, seen)
    if is_over and freeze.is_trial and recovery > 0:
        # They may hold each other up or not: this proves neither, and the next verdict counts.
        return lift_freeze(memory, Lift.NOT_MEASURED)
    return _withdraw(memory, freeze, seen, window, more) if is_over else memory


def _is_gain(freeze: Freeze, window: GainWindow, more: GainWindow, rules: GainRules) -> bool:
    """Whether one of the steps to the fewer and from them certainly gained something."""
    pairs = [(window, more)]
    if freeze.fewer is not None and freeze.fewer.workers < window.workers:
        # An unlucky window of the verdict looks bad beside any other: what the base did counts too.
        pairs.append((freeze.fewer, window))
    return any(decide_gain(*pair, rules.least_gain)[0] is GainVerdict.GAIN for pair in pairs)


def _has_slowed(freeze: Freeze, window: GainWindow, share: float = 1.0) -> bool:
    """Whether no fewer workers than those of the base now do certainly less than this share of what it did."""
    fewer = freeze.fewer
    return fewer is not None and window.workers >= fewer.workers and has_fallen(fewer, window, share)


def _withdraw(memory: GainMemory, freeze: Freeze, seen: GainFacts, window: GainWindow, more: GainWindow) -> GainMemory:
    """A slot does no more beside fewer workers, so that those taken away come back.

    If these do less than the base did, all slots have become slower by themselves, and what was measured before counts
    no more. What they gained says how many more may come.
    """
    memory = _become_wary(memory, seen)
    if _has_slowed(freeze, window):
        memory = set_free_rate(memory, window, seen.at)
        lifted = lift_freeze(memory, Lift.SERVICE_SLOWED, freeze.more_workers)
        return replace(lifted, gained=freeze.more_workers, verified=None)
    is_held_up = (measure_recovery(window, more) or 0.0) >= -RECOVERED_SIGMAS
    if not is_held_up and window.slot_rate < (memory.free_rate or 0.0):
        # Nothing holds these slots up: the jobs are longer than those of the free rate were.
        memory = set_free_rate(memory, window, seen.at)
    lifted = lift_freeze(memory, Lift.FEWER_DO_LESS, memory.count_useful(more))
    gain = measure_gain(window, more)
    verified = None if gain is None else Verified(window.workers, window.rate, more.workers, more.rate, gain)
    return replace(lifted, gained=freeze.more_workers, verified=verified)


def _become_wary(memory: GainMemory, seen: GainFacts) -> GainMemory:
    pause = min(WARY_SECONDS * 2**memory.mistakes, WARY_MOST_SECONDS)
    return replace(memory, mistakes=memory.mistakes + 1, wary_until=seen.at + pause)


def _keep(memory: GainMemory, freeze: Freeze, seen: GainFacts) -> GainMemory:
    return replace(memory, freeze=freeze.enter(Phase.HOLDING, seen.at))


def _retry(memory: GainMemory, freeze: Freeze, seen: GainFacts, rules: GainRules) -> GainMemory:
    """Measure the larger count again: growth stays stopped unless that shows a gain."""
    window, base = memory.window, memory.base
    seconds = seen.at - freeze.phase_since
    if window is None or base is None or window.workers <= freeze.tried_from or not window.is_counted:
        return memory if seconds < VERDICT_SECONDS else _back_off(memory, freeze, seen)
    verdict, gain = decide_gain(base, window, rules.least_gain)
    if gain is not None and verdict is GainVerdict.GAIN:
        lifted = lift_freeze(memory, Lift.RETRIED, memory.count_useful(window))
        verified = Verified(base.workers, base.rate, window.workers, window.rate, gain)
        return replace(lifted, gained=window.workers, verified=verified)
    if verdict is GainVerdict.NO_GAIN and not seen.are_commits_slow:
        # This verdict is confirmed as well.
        return _back_off(memory, replace(freeze, fewer=base, more=window), seen, Phase.CONFIRMING)
    is_over = verdict is GainVerdict.NO_GAIN or seconds >= TRIAL_SECONDS
    return _back_off(memory, freeze, seen) if is_over else memory


def _back_off(memory: GainMemory, freeze: Freeze, seen: GainFacts, phase: Phase = Phase.HOLDING) -> GainMemory:
    """Back to the held count until the next try."""
    workers = max(freeze.workers, seen.ready) if seen.are_commits_slow else freeze.workers
    held = replace(freeze, workers=workers, retry_at=seen.at + freeze.pause_seconds)
    return replace(memory, freeze=held.enter(phase, seen.at), verdicts=memory.verdicts + 1)
