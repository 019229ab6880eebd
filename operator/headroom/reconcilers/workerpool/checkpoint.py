"""The part of a pool's memory that outlives the process: status keeps it, and the next process restores it."""

from collections.abc import Mapping
from typing import Any

from headroom.model.conditions import Truth
from headroom.model.moments import Moment, format_time
from headroom.policy.workerpool import ForeignWrites, Move, PoolMemory, Rule
from headroom.reasons import ConditionType, Reason

LATE_REASONS = frozenset(
    {Reason.LAG_ABOVE_TARGET, Reason.WORKERS_NOT_STARTING, Reason.LEARNING_RATE, Reason.CANNOT_MEET_DEADLINE}
)
"""The reasons of KeepingUp for a queue that is late."""


def restore(status: Mapping[str, Any], now: Moment) -> PoolMemory:
    """The memory that an earlier process left in a status; that of a new pool from an empty one.

    Lost on purpose: samples and wants, since a new process watches a full window before it lowers a count. Also since
    when the queue is late or cannot be read, foreign writes that led to no hold, and all moves except the last start.
    The lead time is measured again, the guard allocates connections again, and since when it caps the pool, and how
    many workers run and terminate, is seen again.
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
        foreign=_last_write(status, scaling, desired, now),
    )


def checkpoint(memory: PoolMemory, now: Moment) -> dict[str, Any]:
    """The part of a status that only `restore` needs; None is not known.

    `restore` also reads what people read: the target's uid, `desiredWorkers` and `lastDecision.at` as the last write,
    Ready as "has been read", and the reason of KeepingUp as "is late".
    """
    starts = [move.at for move in memory.moves if move.after > move.before]
    hold = memory.foreign.hold_until
    is_held = hold is not None and hold > now.monotonic
    return {
        "completionsPerSlotPerSecond": memory.last_good_rate,
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
    return (Move(now.to_monotonic(started_at), desired - 1, desired),)


def _last_write(
    status: Mapping[str, Any], scaling: Mapping[str, Any], desired: int | None, now: Moment
) -> ForeignWrites:
    held_until = scaling.get("heldUntil")
    hold = None if held_until is None else now.to_monotonic(held_until)
    decided_at = (status.get("lastDecision") or {}).get("at")
    if desired is None or decided_at is None:
        return ForeignWrites(hold_until=hold)
    return ForeignWrites(written=desired, written_at=now.to_monotonic(decided_at), hold_until=hold)
