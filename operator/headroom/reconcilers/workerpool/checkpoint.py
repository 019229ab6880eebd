"""The part of a pool's memory that outlives the process: status keeps it, and the next process restores it."""

from collections.abc import Mapping
from typing import Any

from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Truth
from headroom.model.moments import Moment, format_time
from headroom.policy.workerpool import ForeignWrites, Move, PoolMemory, Rule
from headroom.policy.workerpool.constants import FOREIGN_HOLD_SECONDS
from headroom.policy.workerpool.memory import Lateness, Wants
from headroom.policy.workerpool.occupancy import Occupancy
from headroom.reasons import Reason
from headroom.reconcilers.workerpool.effectiveness import restore_gain

LATE_REASONS = frozenset(
    {
        Reason.LAG_ABOVE_TARGET,
        Reason.WORKERS_NOT_STARTING,
        Reason.LEARNING_RATE,
        Reason.CANNOT_MEET_DEADLINE,
        Reason.DEADLINE_MISSED,
        Reason.LAG_NOT_FALLING,
        Reason.JOBS_NOT_ENDING,
    }
)
"""The reasons of KeepingUp for a queue that is late."""
LATE_KEPT_AFTER_SECONDS = 60.0
"""A lag that passes its target for a moment is not worth a write."""
RESUMED_STEP_PERCENT = 20


def restore(status: Mapping[str, Any], now: Moment) -> PoolMemory:
    """The memory that an earlier process left in a status; that of a new pool from an empty one.

    Lost on purpose: samples and what was wanted. A new process watches a full window before it lowers a count. If the
    pool has had workers to spare for as long, it watches a minute, and takes one step in its first window.
    Also since when the queue cannot be read, foreign writes that led to no hold, and all moves except the last start.
    The lead time is measured again, the guard allocates connections again, and since when it caps the pool, and how
    many workers run and terminate, is seen again.

    However far the clock of the earlier process was ahead, nothing it has seen is later than now, and no hold is longer
    than one that begins now.
    """
    scaling, desired = status.get("scaling") or {}, status.get("desiredWorkers")
    ready, keeping_up = (_condition(status, kind) for kind in (ConditionType.READY, ConditionType.KEEPING_UP))
    return PoolMemory(
        seen_at=now.monotonic,
        was_reported=ready.get("reason", Reason.NOT_YET_OBSERVED) != Reason.NOT_YET_OBSERVED,
        has_answered=ready.get("status") == Truth.TRUE,
        is_late=keeping_up.get("reason") in LATE_REASONS,
        target_uid=(status.get("target") or {}).get("uid"),
        last_good_rate=scaling.get("completionsPerSlotPerSecond"),
        moves=_last_start(scaling, desired, now),
        wants=_last_wants(scaling, desired, now),
        spare_since=_moment(scaling, "spareSince", now),
        lateness=_last_lateness(scaling, now),
        foreign=_last_write(status, scaling, desired, now),
        gain=restore_gain(status, now),
        occupancy=_last_occupancy(scaling, desired),
    )


def checkpoint(memory: PoolMemory, now: Moment) -> dict[str, Any]:
    """The part of a status that only `restore` needs; None is not known.

    `restore` also reads what people read: the target's uid, `desiredWorkers` and `lastDecision.at` as the last write,
    Ready as "has been read", and the reason of KeepingUp as "is late".
    """
    starts = [move.at for move in memory.moves if move.after > move.before]
    hold, late = memory.foreign.hold_until, memory.lateness
    is_late = late is not None and now.monotonic - late.since >= LATE_KEPT_AFTER_SECONDS
    is_held = hold is not None and hold > now.monotonic
    return {
        "completionsPerSlotPerSecond": memory.last_good_rate,
        "measuredConcurrency": memory.occupancy.taken,
        "lateSince": format_time(now.to_wall(late.since)) if late is not None and is_late else None,
        "spareSince": None if memory.spare_since is None else format_time(now.to_wall(memory.spare_since)),
        "startedAt": format_time(now.to_wall(max(starts))) if starts else None,
        "heldUntil": format_time(now.to_wall(hold)) if hold is not None and is_held else None,
        "heldReason": str(Rule.TARGET_CONFLICT) if is_held else None,
    }


def _condition(status: Mapping[str, Any], kind: ConditionType) -> Mapping[str, Any]:
    return next((entry for entry in status.get("conditions") or () if entry["type"] == kind), {})


def _last_start(scaling: Mapping[str, Any], desired: int | None, now: Moment) -> tuple[Move, ...]:
    """The last start, of at least one worker: status does not keep how many."""
    started_at = scaling.get("startedAt")
    if started_at is None or not desired:
        return ()
    return (Move(now.to_past(started_at), desired - 1, desired),)


def _moment(scaling: Mapping[str, Any], name: str, now: Moment) -> float | None:
    text = scaling.get(name)
    return None if text is None else now.to_past(text)


def _last_wants(scaling: Mapping[str, Any], desired: int | None, now: Moment) -> Wants:
    """The row of wants of a pool with workers to spare: in the first window it may lose a fifth of them."""
    since = _moment(scaling, "spareSince", now)
    if since is None or not desired:
        return Wants()
    return Wants.resume(since, now.monotonic, desired - max(1, desired * RESUMED_STEP_PERCENT // 100))


def _last_occupancy(scaling: Mapping[str, Any], desired: int | None) -> Occupancy:
    taken = scaling.get("measuredConcurrency")
    return Occupancy() if taken is None else Occupancy(taken, desired or 0)


def _last_lateness(scaling: Mapping[str, Any], now: Moment) -> Lateness | None:
    since = _moment(scaling, "lateSince", now)
    return None if since is None else Lateness(since, 0.0, now.monotonic)


def _last_write(
    status: Mapping[str, Any], scaling: Mapping[str, Any], desired: int | None, now: Moment
) -> ForeignWrites:
    held_until = scaling.get("heldUntil")
    most = now.monotonic + FOREIGN_HOLD_SECONDS
    hold = None if held_until is None else min(now.to_monotonic(held_until), most)
    decided_at = (status.get("lastDecision") or {}).get("at")
    if desired is None or decided_at is None:
        return ForeignWrites(hold_until=hold)
    return ForeignWrites(written=desired, written_at=now.to_past(decided_at), hold_until=hold)
