"""How many replicas are to serve: by hand, or by the connections on those that do.

With s sessions, a of them active, on n replicas of capacity c, a target utilization u and a tolerance t:

* up to max(ceil(s / (u*c)), n + 1 if one replica is at 90 % of c), the latter once for each full replica (`growth`)
* down to max(ceil(a / (u*c)), ceil(s / (u*(1+t)*c))): idle sessions must still fit, or they would ask for it back

Not below what was decided on for a full replica while that is still being created. Once more replicas were found to
add no reads (`read_gain`), the average asks for no more, unless one is at 90 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from headroom.api.v1alpha1.autoscaling import Autoscaling, ReplicaBehavior, SignalType
from headroom.model.conditions import Finding
from headroom.model.numbers import count_of
from headroom.policy.replicaset.growth import FULL, PLATEAU_SECONDS, Connections, Growth
from headroom.policy.replicaset.read_gain import ReadGain
from headroom.reasons import Reason

SATURATED = 0.95
"""Above this the reading is a lower bound of the load: more clients could not connect."""
RULE_BY_HAND = "Replicas"
RULE_BOUNDS = "Bounds"


@dataclass(frozen=True, slots=True)
class Want:
    """What one signal asks for, and why; `is_lower_bound`: more clients could not connect."""

    rule: str
    count: int
    reason: Reason
    message: str
    is_lower_bound: bool = False


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A wanted count and its monotonic second, for the stabilization windows."""

    at: float
    count: int


@dataclass(frozen=True, slots=True)
class Past:
    """What was wanted before, oldest first, since this process began; and what sessions and reads have shown."""

    recommendations: Sequence[Recommendation] = ()
    growth: Growth = field(default_factory=Growth)
    reads: ReadGain = field(default_factory=ReadGain)


@dataclass(frozen=True, slots=True)
class Goal:
    """How many are to serve; `limit` is why it is not `wanted`, `missing` the signals that could not be read.

    `relieved` names the full replicas that another one is added for, `notes` says what a signal may hide. `no_gain`:
    why more replicas were found to add no reads; empty if they were not.
    """

    desired: int
    wanted: int
    rule: str
    reason: Reason
    message: str
    limit: Reason | None = None
    missing: tuple[Finding, ...] = ()
    relieved: tuple[str, ...] = ()
    notes: tuple[Finding, ...] = ()
    no_gain: str = ""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The present: the last decision, how many serve, how many standbys could serve at once."""

    desired: int
    serving: int
    ready_standbys: int


def decide_by_hand(replicas: int, kept: int | None = None) -> Goal:
    """`spec.replicas` as it is; `kept` is the count that `autoscaling` has left behind, until `replicas` changes."""
    if kept is not None and kept != replicas:
        message = (
            f"{kept} stay since spec.autoscaling was removed; spec.replicas, {replicas}, was only where it began: "
            f"write another count to change it (for {replicas}, {kept} first)"
        )
        return Goal(kept, kept, RULE_BY_HAND, Reason.REPLICAS_SET, message)
    return Goal(replicas, replicas, RULE_BY_HAND, Reason.REPLICAS_SET, f"spec.replicas asks for {replicas}")


def decide_by_signals(
    scaling: Autoscaling,
    sizes: Sizes,
    readings: Sequence[Connections | None],
    past: Past,
    now_monotonic: float,
) -> Goal:
    """The signal that wants most wins; a missing one holds; then the windows, the step and the bounds."""
    wants, missing = _ask(scaling, sizes, readings, past, now_monotonic)
    known = [reading for reading in readings if reading is not None and reading.capacity > 0]
    no_gain = _describe_no_gain(past.reads, known)
    if not wants:
        message = "; ".join(signal.message for signal in missing) or "no signal can be read"
        held = Goal(sizes.desired, sizes.desired, "Hold", Reason.STALE_SIGNAL, message, None, tuple(missing))
        return _bound(replace(held, no_gain=no_gain), scaling)
    want = max(wants, key=lambda want: want.count)
    wanted = max(want.count, sizes.desired) if missing else want.count
    goal = Goal(wanted, wanted, want.rule, want.reason, want.message, None, tuple(missing))
    goal = _stabilize(goal, scaling.behavior, sizes, past.recommendations, now_monotonic)
    goal = _step(goal, scaling.behavior, sizes, is_urgent=want.is_lower_bound)
    goal = replace(_bound(goal, scaling), no_gain=no_gain)
    relieved = past.growth.find_new(known)[: max(goal.desired - sizes.desired, 0)]
    return replace(goal, relieved=tuple(reading.name for reading in relieved), notes=_find_plateau(past, now_monotonic))


def _describe_no_gain(reads: ReadGain, known: Sequence[Connections]) -> str:
    if reads.hold is None:
        return ""
    full = max((reading.used for reading in known), default=0.0)
    beside = f"; one is at {full:.0%} of its connections, so more are added for those" if full >= FULL else ""
    return f"{reads.hold.describe()}{beside}"


def _find_plateau(past: Past, now: float) -> tuple[Finding, ...]:
    sessions = past.growth.find_plateau(now)
    if sessions is None:
        return ()
    message = (
        f"exactly {sessions} sessions for {PLATEAU_SECONDS:.0f} s, and nearly all of them active: if they come from a "
        "pooler at its limit, clients wait there and this signal does not grow; raise its pool size"
    )
    return (Finding(Reason.SIGNAL_AT_LIMIT, message),)


def _ask(
    scaling: Autoscaling, sizes: Sizes, readings: Sequence[Connections | None], past: Past, now: float
) -> tuple[list[Want], list[Finding]]:
    wants: list[Want] = []
    missing: list[Finding] = []
    for signal in scaling.signals:
        if signal.type is SignalType.CONNECTIONS and signal.connections is not None:
            answer = want_by_connections(
                signal.name,
                sizes.desired,
                readings,
                target=signal.connections.utilization_percent / 100,
                tolerance=scaling.behavior.tolerance_percent / 100,
                past=past,
                now=now,
            )
            if isinstance(answer, Want):
                wants.append(answer)
            else:
                missing.append(answer)
        else:
            missing.append(_miss(f"signal {signal.name} ({signal.type}) is not read by this version"))
    return wants, missing


def want_by_connections(
    name: str,
    desired: int,
    readings: Sequence[Connections | None],
    *,
    target: float,
    tolerance: float,
    past: Past,
    now: float,
) -> Want | Finding:
    """What the sessions ask for; replicas without a reading only keep the count from falling."""
    growth = past.growth
    known = [reading for reading in readings if reading is not None and reading.capacity > 0]
    if not known:
        return _miss(f"signal {name}: no serving replica could be asked for its sessions")
    sessions = sum(reading.sessions for reading in known)
    capacity = sum(reading.capacity for reading in known) / len(known)
    used = sessions / (capacity * len(known))
    asking = growth.find_asking(known, desired, now)
    asked = max(math.ceil(sessions / (target * capacity)), len(known) + 1 if asking is not None else 0)
    cap = _find_cap(past.reads, known, now)
    grown = asked if cap is None else min(asked, max(cap, desired))
    usage = (
        f"{count_of(sessions, 'session', 'sessions')} on {count_of(len(known), 'replica', 'replicas')}, "
        f"{used:.0%} of {capacity * len(known):.0f}, target {target:.0%}"
    )
    if grown > desired and (used > target * (1 + tolerance) or asking is not None):
        one = f"one replica is at {asking.used:.0%}, from {FULL:.0%} on it asks for another; " if asking else ""
        return Want(name, grown, Reason.UTILIZATION_ABOVE_TARGET, f"{one}{usage}", is_lower_bound=used >= SATURATED)
    active = sum(reading.active for reading in known)
    shrunk = max(math.ceil(active / (target * capacity)), math.ceil(sessions / (target * (1 + tolerance) * capacity)))
    shrunk = max(shrunk, growth.count_promised(known), grown if asking is not None else 0)
    is_counted = len(known) == len(readings) and not any(reading.is_estimate for reading in known)
    if shrunk < desired and is_counted:
        return Want(name, shrunk, Reason.UTILIZATION_BELOW_TARGET, f"{usage}, {active} active")
    stuck = growth.describe_stuck(known, now)
    if stuck:
        return Want(name, desired, Reason.NO_GAIN_FROM_MORE_REPLICAS, f"{stuck}; {usage}")
    if asked > grown and past.reads.hold is not None:
        return Want(name, desired, Reason.NO_GAIN_FROM_MORE_REPLICAS, f"{past.reads.hold.describe()}; {usage}")
    return Want(name, desired, Reason.WITHIN_TOLERANCE, usage)


def _find_cap(reads: ReadGain, known: Sequence[Connections], now: float) -> int | None:
    """How many replicas the average may ask for; None where connections run out: then they are what is asked for."""
    return None if any(reading.used >= FULL for reading in known) else reads.find_cap(now)


def _miss(message: str) -> Finding:
    """A signal that cannot be read: it holds the count and never lowers it."""
    return Finding(Reason.STALE_SIGNAL, message)


def _stabilize(
    goal: Goal, behavior: ReplicaBehavior, sizes: Sizes, history: Sequence[Recommendation], now: float
) -> Goal:
    if goal.wanted > sizes.desired:
        window = behavior.scale_up.stabilization_window
        least = min([goal.wanted, *_within(history, window, now)])
        desired = max(least, sizes.desired)
    else:
        window = behavior.scale_down.stabilization_window
        most = max([goal.wanted, *_within(history, window, now)])
        # A window that is not full yet could miss the peak: a process that has just started knows no past.
        is_full = not window or (bool(history) and now - history[0].at >= window.total_seconds())
        desired = min(most, sizes.desired) if is_full else sizes.desired
    if desired == goal.desired:
        return goal
    return _limited(goal, desired, Reason.STABILIZING)


def _within(history: Sequence[Recommendation], window: timedelta, now: float) -> list[int]:
    return [entry.count for entry in history if now - entry.at <= window.total_seconds()] if window else []


def _step(goal: Goal, behavior: ReplicaBehavior, sizes: Sizes, *, is_urgent: bool) -> Goal:
    """Steps count from what serves, so that the next step waits until the last one serves."""
    most = max(sizes.serving + behavior.scale_up.max_step, sizes.desired)
    desired = goal.desired
    if is_urgent and desired > sizes.desired:
        desired = max(desired, sizes.serving + min(sizes.ready_standbys, behavior.scale_up.max_step))
    least = min(max(sizes.serving, 1) - behavior.scale_down.max_step, sizes.desired)
    clamped = min(max(desired, least), most)
    if clamped == desired:
        return replace(goal, desired=desired)
    return _limited(goal, clamped, Reason.STEP_LIMITED)


def _bound(goal: Goal, scaling: Autoscaling) -> Goal:
    if goal.desired > scaling.max_replicas:
        return _limited(goal, scaling.max_replicas, Reason.AT_MAXIMUM)
    if goal.desired < scaling.min_replicas:
        limit = Reason.AT_MINIMUM if goal.wanted < scaling.min_replicas else goal.limit
        return _limited(goal, scaling.min_replicas, limit)
    return goal


def _limited(goal: Goal, desired: int, limit: Reason | None) -> Goal:
    return replace(goal, desired=desired, limit=limit)
