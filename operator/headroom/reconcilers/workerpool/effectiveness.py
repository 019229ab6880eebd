"""What people see of the effectiveness gate: its condition, events, and part of status, which survives a restart.

Windows are lost with the process and measured again; what was decided (a freeze, the verified count, the free rate of a
slot) is kept.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from headroom.api.v1alpha1.workerpool import Direction
from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Condition, Truth
from headroom.model.moments import Moment, keep_time
from headroom.model.numbers import count_of, round_number, settle
from headroom.policy.workerpool.constants import WINDOW_JOBS
from headroom.policy.workerpool.gain import Gain
from headroom.policy.workerpool.gain_memory import Freeze, GainMemory, Lift, Phase, Verified
from headroom.policy.workerpool.growth import describe_freeze
from headroom.policy.workerpool.passing import is_estimated
from headroom.reasons import Reason
from headroom.reconcilers.workerpool import metrics
from headroom.reconcilers.workerpool.growth_words import (
    ESTIMATED,
    Surroundings,
    describe_lift,
    describe_stop,
    describe_unmeasured,
)
from headroom.reconcilers.workerpool.memory import PoolContext

RATE_FLOOR_SHARE = 0.25
"""A free rate that moves by less is not written: chance moves it as much."""


def effective_condition(context: PoolContext) -> Condition:
    """Whether more workers do more, as far as it was measured."""
    gain, kind = context.memory.gain, ConditionType.EFFECTIVE
    freeze = gain.freeze
    if context.facts.workload is None or context.spec.queue is None:
        return Condition(kind, Truth.UNKNOWN, Reason.NOT_YET_OBSERVED, "nothing is scaled")
    if not context.spec.effectiveness.enabled:
        message = "effectiveness.enabled is false: no step is measured"
        return Condition(kind, Truth.UNKNOWN, Reason.NOT_YET_OBSERVED, message)
    if freeze is not None and freeze.is_trial:
        return Condition(kind, Truth.UNKNOWN, Reason.MEASURING_GAIN, describe_freeze(freeze))
    if freeze is not None:
        message = describe_stop(freeze, context.now, read_growth_context(context))
        return Condition(kind, Truth.FALSE, Reason.NO_GAIN_FROM_MORE_WORKERS, message)
    if gain.lifted is not None:
        is_open = gain.lifted is Lift.NOT_MEASURED
        message = describe_unmeasured(gain, context.now) if is_open else describe_lift(gain.lifted)
        return Condition(kind, Truth.UNKNOWN, Reason.MEASURING_GAIN if is_open else Reason.GROWTH_RESUMED, message)
    if gain.counts_nothing:
        message = (
            f"the queue does not tell how many jobs end; lag and backlog tell it only while {WINDOW_JOBS} jobs or more "
            "wait and are taken in their order, and no step can be measured now"
        )
        return Condition(kind, Truth.UNKNOWN, Reason.LEARNING_RATE, message)
    if gain.verified is not None:
        found = gain.verified
        message = (
            f"{count_of(found.more_workers, 'worker')} did {round_number(found.more_rate):g}/s, "
            f"{found.fewer_workers} did {round_number(found.fewer_rate):g}/s"
        )
        message += f", {ESTIMATED}" if is_estimated(context.memory.window) else ""
        return Condition(kind, Truth.TRUE, Reason.AS_EXPECTED, message)
    message = "no step has been measured yet: that takes two counts of workers that all have work"
    return Condition(kind, Truth.UNKNOWN, Reason.NOT_YET_OBSERVED, message)


def read_growth_context(context: PoolContext) -> Surroundings:
    """What the texts about a freeze need of this pass."""
    target, limits, present = context.facts.workload, context.decision.limits, 0
    if target is not None:
        present = target.pods.ready
    return Surroundings(
        target=str(target),
        namespace=context.namespace,
        ready=present,
        wanted=context.memory.wanted or 0,
        most=present if limits.paused is Direction.UP else limits.max_workers,
        has_template=context.memory.gain.template is not None,
        is_estimated=is_estimated(context.memory.window),
    )


def emit_growth(context: PoolContext, before: GainMemory) -> None:
    """One event when growth stops, and one when it resumes."""
    gain, old = context.memory.gain, before.freeze
    was_frozen, freeze = old is not None and not old.is_trial, gain.freeze
    is_frozen = freeze is not None and not freeze.is_trial
    if freeze is not None and is_frozen and not was_frozen:
        message = describe_stop(freeze, context.now, read_growth_context(context))
        context.emit(Reason.NO_GAIN_FROM_MORE_WORKERS, message, "Warning")
        metrics.record_freeze(context)
    if was_frozen and not is_frozen and gain.lifted is not None:
        context.emit(Reason.GROWTH_RESUMED, describe_lift(gain.lifted))


def build_effectiveness(gain: GainMemory, now: Moment, old: Mapping[str, Any]) -> dict[str, Any] | None:
    """The gate's part of a status; None while nothing was measured."""
    if not gain.reach and gain.freeze is None:
        return None
    floor = RATE_FLOOR_SHARE * (gain.free_rate or 0.0)
    rate = settle(old.get("freeCompletionsPerSlotPerSecond"), _round(gain.free_rate), floor)
    shown: dict[str, Any] = {
        "podTemplate": gain.template,
        "verifiedWorkers": _settle_count(old.get("verifiedWorkers"), gain.reach),
        "freeCompletionsPerSlotPerSecond": rate,
    }
    freeze, verified = gain.freeze, gain.verified
    if verified is not None and freeze is None:
        shown |= {
            "workersBefore": verified.fewer_workers,
            "perSecondBefore": round_number(verified.fewer_rate),
            "workersAfter": verified.more_workers,
            "perSecondAfter": round_number(verified.more_rate),
            "gain": round_number(verified.gain.value),
        }
    if freeze is not None and not freeze.is_trial:
        shown |= {
            "workersBefore": freeze.fewer_workers,
            "perSecondBefore": round_number(freeze.fewer_rate),
            "workersAfter": freeze.more_workers,
            "perSecondAfter": round_number(freeze.more_rate),
            "frozenWorkers": freeze.workers,
            "frozenAt": keep_time(now.to_wall(freeze.began_at), old.get("frozenAt")),
            "retryAt": keep_time(now.to_wall(freeze.retry_at), old.get("retryAt")),
            "retryPauseSeconds": freeze.pause_seconds,
            "waitEvent": freeze.wait,
            "waitShare": _round(freeze.wait_share),
            "heldBy": freeze.statement,
            "isHolderIdle": freeze.is_idle_blocker or None,
        }
    if gain.trial_at > now.monotonic:
        shown |= {
            "fewerTriedAt": keep_time(now.to_wall(gain.trial_at), old.get("fewerTriedAt")),
            "fewerTriedPauseSeconds": gain.trial_pause_seconds,
        }
    return {name: value for name, value in shown.items() if value is not None}


def _settle_count(old: int | None, new: int) -> int:
    """The old count until the new one is twice as large, or smaller: a restart loses one verdict at most by that."""
    return old if old is not None and old <= new < 2 * old else new


def restore_gain(status: Mapping[str, Any], now: Moment) -> GainMemory:
    """What an earlier process decided; a try of more workers that it had begun comes again later."""
    kept: Mapping[str, Any] = status.get("effectiveness") or {}
    if not kept:
        return GainMemory()
    reach = int(kept.get("verifiedWorkers", 0))
    free = kept.get("freeCompletionsPerSlotPerSecond")
    memory = GainMemory(
        template=kept.get("podTemplate"),
        jobs=RESTORED_JOBS if reach else 0,
        first_ready=reach,
        reach=reach,
        free_rate=free,
        free_jobs=float(RESTORED_JOBS) if free else 0.0,
        free_at=now.monotonic,
        freeze=_restore_freeze(kept, now),
        verified=_restore_verified(kept),
    )
    if "fewerTriedAt" not in kept:
        return memory
    pause = float(kept["fewerTriedPauseSeconds"])
    return replace(memory, trial_at=_restore_due(kept["fewerTriedAt"], pause, now), trial_pause_seconds=pause)


RESTORED_JOBS = 100
"""What was kept was measured: it counts as much as two windows that stop growth."""


def _restore_freeze(kept: Mapping[str, Any], now: Moment) -> Freeze | None:
    if "frozenWorkers" not in kept:
        return None
    pause = float(kept["retryPauseSeconds"])
    return Freeze(
        workers=int(kept["frozenWorkers"]),
        fewer_workers=int(kept["workersBefore"]),
        fewer_rate=float(kept["perSecondBefore"]),
        more_workers=int(kept["workersAfter"]),
        more_rate=float(kept["perSecondAfter"]),
        began_at=now.to_past(kept["frozenAt"]),
        retry_at=_restore_due(kept["retryAt"], pause, now),
        pause_seconds=pause,
        phase=Phase.HOLDING,
        phase_since=now.monotonic,
        wait=kept.get("waitEvent"),
        wait_share=kept.get("waitShare"),
        statement=kept.get("heldBy"),
        is_idle_blocker=bool(kept.get("isHolderIdle")),
    )


def _restore_due(text: str, pause: float, now: Moment) -> float:
    """When something is due by the clock of another process: no later than a whole pause from now."""
    return min(now.to_monotonic(text), now.monotonic + pause)


def _restore_verified(kept: Mapping[str, Any]) -> Verified | None:
    """The last step that gained something; how sure that was is not kept."""
    if "gain" not in kept:
        return None
    value, before, after = float(kept["gain"]), float(kept["perSecondBefore"]), float(kept["perSecondAfter"])
    ratio = after / before if before else 1.0
    gain = Gain(value, value, value, ratio, below_linear=0.0)
    return Verified(int(kept["workersBefore"]), before, int(kept["workersAfter"]), after, gain)


def _round(value: float | None) -> float | None:
    return None if value is None else round_number(value)
