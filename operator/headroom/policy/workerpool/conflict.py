"""Who else scales the same target: another autoscaler, an older pool, or somebody's hand or Git again and again."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from headroom.policy.workerpool.constants import (
    FOREIGN_HOLD_SECONDS,
    FOREIGN_WRITES,
    FOREIGN_WRITES_WITHIN_SECONDS,
)
from headroom.policy.workerpool.history import ForeignWrites


@dataclass(frozen=True, slots=True)
class TargetId:
    """A scale target within a namespace; the version of its API does not make it another object."""

    group: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


@dataclass(frozen=True, slots=True)
class PoolClaim:
    """A WorkerPool's claim on a target; None where the pool scales nothing."""

    name: str
    uid: str
    created: datetime
    target: TargetId | None


@dataclass(frozen=True, slots=True)
class AutoscalerClaim:
    """A HorizontalPodAutoscaler's claim on a target; `made_by` is the kind and name of its controller, if any."""

    name: str
    target: TargetId
    made_by: str | None = None


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why we must not scale, in words that say what to remove."""

    message: str


def find_conflict(
    own: PoolClaim,
    pools: Iterable[PoolClaim],
    autoscalers: Iterable[AutoscalerClaim],
    foreign: ForeignWrites,
    now: float,
    *,
    wall: datetime,
) -> Conflict | None:
    """The first reason to keep our hands off: an HPA, an older pool, then foreign writes not long ago.

    `now` is monotonic seconds, `wall` the same moment in UTC.
    """
    if own.target is None:
        return None
    for autoscaler in autoscalers:
        if autoscaler.target == own.target:
            return Conflict(_say_autoscaler(autoscaler, own.target))
    for pool in pools:
        if pool.target == own.target and pool.uid != own.uid and (pool.created, pool.uid) < (own.created, own.uid):
            return Conflict(
                f"the older WorkerPool {pool.name} scales {own.target} already: delete one of the two, or give this "
                "one another targetRef"
            )
    return _held(own.target, foreign, now, wall)


def watch_writes(foreign: ForeignWrites, present: int, now: float) -> ForeignWrites:
    """Note the count that is there: another one than we wrote is a foreign write, two in a while are a rival."""
    if foreign.written is None or present == foreign.written:
        return replace(foreign, written=present if foreign.written is None else foreign.written)
    if now - foreign.written_at > FOREIGN_WRITES_WITHIN_SECONDS:
        return replace(foreign, written=present)
    since = now - FOREIGN_WRITES_WITHIN_SECONDS
    seen = (*(at for at in foreign.seen_at if at > since), now)
    if len(seen) < FOREIGN_WRITES:
        return replace(foreign, written=present, seen_at=seen)
    return replace(foreign, written=present, seen_at=(), hold_until=now + FOREIGN_HOLD_SECONDS)


def _held(target: TargetId, foreign: ForeignWrites, now: float, wall: datetime) -> Conflict | None:
    if foreign.hold_until is None or now >= foreign.hold_until:
        return None
    until = wall + timedelta(seconds=foreign.hold_until - now)
    return Conflict(
        f"something else set spec.replicas of {target} twice within {FOREIGN_WRITES_WITHIN_SECONDS / 60:.0f} minutes "
        f"of our writes: held until {until:%H:%M:%S} UTC; remove `replicas` from the manifest in Git, or end the other "
        "scaler; a change by hand counts too: set spec.mode to Paused to scale by hand"
    )


def _say_autoscaler(autoscaler: AutoscalerClaim, target: TargetId) -> str:
    owner = autoscaler.made_by or f"the HorizontalPodAutoscaler {autoscaler.name}"
    return f"{owner} scales {target} too: delete it, or delete this WorkerPool"
