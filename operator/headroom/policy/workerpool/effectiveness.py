"""Whether more workers do more: growth is measured step by step, and stopped where it gains nothing.

Until a step is verified, the count may reach max(2 n_v, 1.25 f / (c m0)). Here n_v is the verified count and f what
arrives. A worker has c jobs at a time, and m0 is the best rate of a slot under this pod template. A lock that caps the
throughput makes each worker slower. A formula on the present rate would ask for more and more of them; m0 does not fall
with them.
"""

from dataclasses import replace

from headroom.policy.workerpool.backlog_step import follow_backlog
from headroom.policy.workerpool.constants import (
    BASE_MAX_AGE_SECONDS,
    GAIN_LEAST_JOBS,
    LINEAR_GAIN,
    RECOVERED_RATIO,
    SETTLING_SECONDS,
    SLOWER_LEAST_JOBS,
    TRIAL_SHARE,
    VERDICT_SECONDS,
    WINDOW_JOBS,
)
from headroom.policy.workerpool.free_rate import is_slower, learn_free_rate, set_free_rate, verify_by_rate
from headroom.policy.workerpool.freeze import begin_freeze, begin_trial, follow_freeze
from headroom.policy.workerpool.gain import GainVerdict, decide_gain, has_fallen, is_decidable, is_precise, is_weak_gain
from headroom.policy.workerpool.gain_constants import (
    DRIFT_PIECES,
    TRIAL_AFTER_SECONDS,
    UPDATE_SECONDS,
)
from headroom.policy.workerpool.gain_memory import GainFacts, GainMemory, GainRules, Lift, Verified
from headroom.policy.workerpool.gain_window import GainWindow, Piece
from headroom.policy.workerpool.wait_tally import WaitTally

LONGEST_SETTLING_SECONDS = 60.0
WARM_UP_SECONDS = 30.0
"""A rate that rises so soon after workers became ready is their warm-up, and no change of the queue or the database."""
STEP_LEAST = 0.1
"""A smaller step than a tenth takes thousands of jobs to measure: the window before it stays the base."""


def observe_gain(memory: GainMemory, seen: GainFacts, rules: GainRules) -> GainMemory:
    """The memory after one more pass; a freeze in it says that growth is stopped, and at which count."""
    memory = _follow_ready(_follow_update(_follow_template(memory, seen), seen), seen)
    if _is_update_awaited(memory, seen):
        # Nothing is seen of a free rate meanwhile, so that it does not age.
        return replace(memory, window=None, base=None, pending=None, ready_since=seen.at, free_at=seen.at)
    memory = _count(memory, seen)
    if memory.freeze is not None:
        return follow_freeze(memory, seen, rules)
    if memory.counts_nothing:
        return follow_backlog(memory, seen, rules)
    memory = learn_free_rate(memory, seen)
    memory = verify_by_rate(memory, seen)
    memory = _verify_by_step(memory, seen, rules)
    return memory if memory.freeze is not None else _give_up(memory, seen, rules)


def _follow_template(memory: GainMemory, seen: GainFacts) -> GainMemory:
    """A new pod template may do anything else: all that was measured belongs to the old one."""
    if seen.template is None or seen.template == memory.template:
        return memory
    if memory.template is None:
        return replace(memory, template=seen.template)
    freeze = memory.freeze
    found = GainMemory(
        template=seen.template,
        reach=0 if freeze is None else freeze.fewer_workers,
        lifted=None if freeze is None else Lift.TEMPLATE,
    )
    if not seen.is_updating:
        return found
    # Pods of the old template still do the work, for as long as the new one does not come up.
    return replace(
        found,
        jobs=memory.jobs,
        first_ready=memory.first_ready,
        reach=memory.reach if freeze is None else freeze.fewer_workers,
        free_rate=memory.free_rate,
        free_jobs=memory.free_jobs,
        free_workers=memory.free_workers,
        free_at=memory.free_at,
        updating_since=memory.updating_since,
        is_inherited=True,
    )


def _follow_update(memory: GainMemory, seen: GainFacts) -> GainMemory:
    """A rollout that has ended leaves nothing of what was measured of the old pods."""
    if seen.is_updating:
        since = seen.at if memory.updating_since is None else memory.updating_since
        return replace(memory, updating_since=since)
    if not memory.is_inherited:
        return memory if memory.updating_since is None else replace(memory, updating_since=None)
    reach = memory.reach if memory.lifted is Lift.TEMPLATE else 0
    return GainMemory(template=memory.template, reach=reach, lifted=memory.lifted)


def _is_update_awaited(memory: GainMemory, seen: GainFacts) -> bool:
    """Whether nothing is measured since pods of two templates run, and that will be over soon."""
    return memory.updating_since is not None and seen.at - memory.updating_since < UPDATE_SECONDS


def _follow_ready(memory: GainMemory, seen: GainFacts) -> GainMemory:
    """Another count of ready workers ends a window, which may become the base of the next one."""
    if seen.ready == memory.ready:
        return memory
    before = memory.ready or 0
    # Small steps come faster than samples: what they wait for is counted over several of them, or never known.
    is_small = memory.freeze is None and abs(seen.ready - before) < STEP_LEAST * before
    return replace(
        memory,
        ready=seen.ready,
        ready_since=seen.at,
        window=None,
        base=_find_base(memory, seen),
        pending=None,
        waits=memory.waits if is_small else WaitTally(),
        is_slowed=False,
    )


def _find_base(memory: GainMemory, seen: GainFacts) -> GainWindow | None:
    """What the next window is compared with: the last one at fewer workers, or the one before if that says more."""
    window, base = memory.window, memory.base
    if base is not None and base.workers >= seen.ready:
        base = None
    if window is None or window.workers >= seen.ready or window.ended < GAIN_LEAST_JOBS:
        return base
    is_close = seen.ready < (1 + STEP_LEAST) * window.workers
    return base if base is not None and base.ended > window.ended and (is_close or not window.is_counted) else window


def _count(memory: GainMemory, seen: GainFacts) -> GainMemory:
    """Count the interval, if the workers were settled and had work all the time."""
    if seen.waits is not None and seen.at >= memory.ready_since + SETTLING_SECONDS:
        waits = memory.waits.add(seen.waits)
        memory = replace(memory, waits=waits, locked_at=seen.at if waits.is_lock_known else memory.locked_at)
    if seen.seconds <= 0:
        return _expire(memory, seen)
    if seen.ended is None:
        return replace(_expire(memory, seen), counts_nothing=True)
    memory = replace(_expire(memory, seen), counts_nothing=False, jobs=min(memory.jobs + seen.ended, WINDOW_JOBS))
    if memory.first_ready == 0 and seen.ended > 0:
        memory = replace(memory, first_ready=max(1, seen.ready))
    if memory.reach == 0 and memory.jobs >= GAIN_LEAST_JOBS:
        memory = replace(memory, reach=memory.first_ready)
    service_seconds = 0.0 if not seen.service_rate else 1 / seen.service_rate
    settling = min(max(SETTLING_SECONDS, service_seconds), LONGEST_SETTLING_SECONDS)
    if not seen.is_saturated or seen.ready == 0 or seen.at - seen.seconds < memory.ready_since + settling:
        return memory
    return _extend(memory, seen, seen.ended)


def _extend(memory: GainMemory, seen: GainFacts, ended: int) -> GainMemory:
    old = memory.window
    if old is None or not old.database_load.is_like(seen.database_load):
        old = GainWindow(seen.ready, seen.database_load, seen.at)
    window = old.add(seen.at, Piece(seen.seconds, ended, seen.failed, seen.busy_seconds))
    has_begun_again = len(window.pieces) <= DRIFT_PIECES and window.ended < old.ended + ended
    is_warm_up = old.seconds < WARM_UP_SECONDS and window.rate > old.rate
    # The jobs or the database have changed: what the old base did says nothing about now.
    base = None if has_begun_again and not is_warm_up else memory.base
    memory = replace(memory, window=window, base=base)
    if has_begun_again:
        is_steady = seen.at - memory.ready_since >= VERDICT_SECONDS / 2 and memory.freeze is None
        memory = replace(memory, is_slowed=is_steady and window.rate < old.rate)
    if memory.is_slowed and window.ended >= SLOWER_LEAST_JOBS:
        # No worker came since long: they do not hold each other up more than before. A free slot is slower now.
        return set_free_rate(replace(memory, is_slowed=False), window, seen.at)
    return memory


def _expire(memory: GainMemory, seen: GainFacts) -> GainMemory:
    window, base = (
        None if old is None or seen.at - old.ended_at > BASE_MAX_AGE_SECONDS else old
        for old in (memory.window, memory.base)
    )
    return replace(memory, window=window, base=base)


def _verify_by_step(memory: GainMemory, seen: GainFacts, rules: GainRules) -> GainMemory:
    """The verdict on the step from the base to the window, once there is one."""
    window, base = memory.window, memory.base
    if window is None or base is None:
        return memory
    verdict, gain = decide_gain(base, window, rules.least_gain)
    if verdict is None and is_weak_gain(base, window, gain, rules.least_gain):
        verdict = GainVerdict.GAIN
    memory = replace(memory, pending=gain)
    if verdict is GainVerdict.NO_GAIN:
        if seen.at < memory.wary_until and not memory.waits.is_lock_known:
            # The last verdict of this kind was withdrawn: the jobs or the database change by themselves.
            return replace(memory, base=None, pending=None)
        return begin_freeze(memory, seen, base, window)
    if verdict is None or gain is None:
        return memory
    before = memory.verified
    is_known = before is not None and (before.fewer_workers, before.more_workers) == (base.workers, window.workers)
    verified = Verified(base.workers, base.rate, window.workers, window.rate, gain)
    if gain.low > LINEAR_GAIN and is_slower(memory, base, seen.at):
        # A worker alone was not faster: the jobs have become longer, and nothing holds them up.
        memory = set_free_rate(memory, base, seen.at)
    # A window of a few jobs makes a gain look larger than it is: the free rate counts too.
    useful = min(memory.count_useful(window), round(min(base.workers, memory.reach) * gain.ratio))
    is_final = min(base.ended, window.ended) >= WINDOW_JOBS
    return replace(
        memory,
        reach=max(memory.reach, useful),
        gained=window.workers if is_final else memory.gained,
        assumed_from=None,
        verified=verified,
        lifted=None,
        base=None if is_final else base,
        verdicts=memory.verdicts + (not is_known),
    )


def _give_up(memory: GainMemory, seen: GainFacts, rules: GainRules) -> GainMemory:
    """Without a verdict, five minutes count as a gain, unless workers wait for a lock or do less than free ones.

    Then fewer are tried: at once beside a lock, or if all together do far less than fewer did, where no window before
    can come to a verdict.
    """
    ready, window = memory.ready or 0, memory.window
    if ready <= max(memory.reach, memory.gained) or memory.jobs < GAIN_LEAST_JOBS:
        return replace(memory, above_since=None)
    memory = replace(memory, above_since=seen.at if memory.above_since is None else memory.above_since)
    seconds = seen.at - (memory.above_since or 0.0)
    is_lock, is_over = memory.waits.is_lock_known, seconds >= VERDICT_SECONDS
    is_wary = seen.at < memory.wary_until
    is_held_up = is_lock
    if window is not None and window.is_counted and window.workers > 1 and seen.wanted > window.workers:
        # After so long beside a queue that is late, it does not matter whether time explains it: fewer show that.
        is_held_up = is_lock or (not is_wary and is_slower(memory, window, memory.free_at if is_over else seen.at))
        is_stuck = is_over or memory.base is None or not is_decidable(memory.base, window)
        is_clear = is_lock or (memory.base is not None and has_fallen(memory.base, window, 1 / RECOVERED_RATIO))
        is_due = seen.at >= memory.trial_at and (is_clear or seconds >= TRIAL_AFTER_SECONDS)
        if is_held_up and is_stuck and is_due and is_precise(window, 1 / (1 - TRIAL_SHARE)):
            return begin_trial(memory, seen, window, rules)
    if not is_over or is_held_up:
        return memory
    return replace(memory, reach=ready, assumed_from=memory.known_reach, base=None, pending=None, above_since=None)
