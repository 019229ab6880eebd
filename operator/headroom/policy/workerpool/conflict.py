"""Who else scales the same target: another autoscaler, an older pool, or repeated writes by a person or by Git."""

from collections.abc import Iterable
from dataclasses import replace

from headroom.model.conditions import Finding
from headroom.model.moments import Moment
from headroom.policy.target_conflict import AutoscalerClaim, TargetId, find_autoscaler
from headroom.policy.workerpool.constants import (
    FOREIGN_HOLD_SECONDS,
    FOREIGN_WRITES,
    FOREIGN_WRITES_WITHIN_SECONDS,
)
from headroom.policy.workerpool.facts import PoolClaim
from headroom.policy.workerpool.memory import ForeignWrites
from headroom.reasons import Reason


def find_conflict(
    own: PoolClaim,
    pools: Iterable[PoolClaim],
    autoscalers: Iterable[AutoscalerClaim],
    foreign: ForeignWrites,
    now: Moment,
) -> Finding | None:
    """The first reason not to scale: an autoscaler, an older pool, then recent foreign writes."""
    target = own.target
    if target is None:
        return None
    autoscaler = find_autoscaler(target, autoscalers)
    if autoscaler is not None:
        return _conflict(f"{autoscaler.owner} scales {target} too: delete it, or delete this WorkerPool")
    older = next((pool for pool in pools if _goes_first(pool, own)), None)
    if older is not None:
        return _conflict(
            f"the older WorkerPool {older.name} scales {target} already: delete one of the two, or give this one "
            "another targetRef"
        )
    return _find_hold(target, foreign, now)


def watch_writes(foreign: ForeignWrites, present: int, now: float) -> ForeignWrites:
    """Compare the present count with what we wrote: another one is a foreign write, two in a while are a conflict."""
    if foreign.written is None or present == foreign.written:
        return replace(foreign, written=present if foreign.written is None else foreign.written)
    if now - foreign.written_at > FOREIGN_WRITES_WITHIN_SECONDS:
        return replace(foreign, written=present)
    since = now - FOREIGN_WRITES_WITHIN_SECONDS
    seen = (*(at for at in foreign.seen_at if at > since), now)
    if len(seen) < FOREIGN_WRITES:
        return replace(foreign, written=present, seen_at=seen)
    return replace(foreign, written=present, seen_at=(), hold_until=now + FOREIGN_HOLD_SECONDS)


def _goes_first(pool: PoolClaim, own: PoolClaim) -> bool:
    """Whether this pool has priority: the older one scales; of two from one second, the one with the smaller uid."""
    is_on_target = pool.target == own.target and pool.uid != own.uid
    return is_on_target and (pool.created, pool.uid) < (own.created, own.uid)


def _find_hold(target: TargetId, foreign: ForeignWrites, now: Moment) -> Finding | None:
    if foreign.hold_until is None or now.monotonic >= foreign.hold_until:
        return None
    return _conflict(
        f"something else set spec.replicas of {target} twice within {FOREIGN_WRITES_WITHIN_SECONDS / 60:.0f} minutes "
        f"of our writes: held until {now.to_wall(foreign.hold_until):%H:%M:%S} UTC. Remove `replicas` from the "
        "manifest in Git, or end the other scaler; a change by hand counts too: set spec.mode to Paused to scale by "
        "hand"
    )


def _conflict(message: str) -> Finding:
    return Finding(Reason.TARGET_CONFLICT, message)
