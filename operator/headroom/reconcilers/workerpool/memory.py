"""What a process remembers of a pool between passes; what must outlive the process is taken up from status."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from headroom.api.v1alpha1.common import Mode
from headroom.api.v1alpha1.connection import PostgresConnection
from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.errors import Unavailable
from headroom.model.conditions import Truth
from headroom.model.database import ConnectionTarget
from headroom.policy.workerpool.constants import OTHERS_WINDOW_SECONDS
from headroom.policy.workerpool.history import ForeignWrites, Move, PoolHistory, Wants
from headroom.ports.postgres import QueueLink
from headroom.ports.signals import QueueProbe, SqlRunner
from headroom.reasons import ConditionType

OTHERS_EVERY_SECONDS = 10.0


@dataclass(slots=True)
class QueueMemory:
    """The probe, what it was made for, and the link of a queue with a login of its own; times are monotonic seconds."""

    probe: QueueProbe | None = None
    runner: SqlRunner | None = None
    source: PostgresQueue | None = None
    link: QueueLink | None = None
    connection: PostgresConnection | None = None
    target: ConnectionTarget | None = None
    target_read_at: float = 0.0
    must_read_target: bool = False
    refusal: Unavailable | None = None
    refused_at: float = 0.0
    has_answered: bool = False
    """True once a sample was taken, by this process or, as its status says, by one before."""
    blind_since: float | None = None

    async def close(self) -> None:
        """End the link; the next sample opens a new one."""
        link, self.link, self.probe, self.target = self.link, None, None, None
        if link is not None:
            await link.close()


@dataclass(slots=True)
class PoolMemory:
    """All of one pool; times are monotonic seconds."""

    namespace: str
    name: str
    history: PoolHistory = field(default_factory=PoolHistory)
    queue: QueueMemory = field(default_factory=QueueMemory)
    target_uid: str | None = None
    lead_seconds: float | None = None
    next_due: float = 0.0
    others: deque[tuple[float, int]] = field(default_factory=deque)
    is_restored: bool = False
    seen_at: float = 0.0
    """When this process first saw the pool."""

    def follow_target(self, uid: str) -> None:
        """Forget what was written to another target, and for how long another one was watched."""
        if self.target_uid not in (None, uid):
            self.history = replace(self.history, wants=Wants(), moves=(), foreign=ForeignWrites())
        self.target_uid = uid

    def see_others(self, now: float, connections: int) -> None:
        """Remember the connections that belong to no pool, one count every ten seconds for an hour."""
        if not self.others or now - self.others[-1][0] >= OTHERS_EVERY_SECONDS:
            self.others.append((now, connections))
        while now - self.others[0][0] > OTHERS_WINDOW_SECONDS:
            self.others.popleft()

    def restore(self, body: Mapping[str, Any], now: float, wall: datetime) -> None:
        """Take up what an earlier process left in status, once."""
        if self.is_restored:
            return
        self.is_restored, self.seen_at = True, now
        status = body.get("status") or {}
        self.queue.has_answered = _was_ready(status)
        scaling, desired = status.get("scaling") or {}, status.get("desiredWorkers")
        self.target_uid = (status.get("target") or {}).get("uid")
        self.history = replace(
            self.history,
            last_good_rate=scaling.get("completionsPerSlotPerSecond"),
            moves=_last_start(scaling, desired, now, wall),
            foreign=_last_write(body, scaling, desired, now, wall),
        )


def _was_ready(status: Mapping[str, Any]) -> bool:
    conditions = status.get("conditions") or ()
    return any(entry["type"] == ConditionType.READY and entry["status"] == Truth.TRUE for entry in conditions)


def _last_start(scaling: Mapping[str, Any], desired: int | None, now: float, wall: datetime) -> tuple[Move, ...]:
    """The last start, of at least one worker: how many there were is not kept."""
    started_at = scaling.get("startedAt")
    if started_at is None or not desired:
        return ()
    return (Move(_to_monotonic(started_at, now, wall), desired - 1, desired),)


def _last_write(
    body: Mapping[str, Any], scaling: Mapping[str, Any], desired: int | None, now: float, wall: datetime
) -> ForeignWrites:
    held_until = scaling.get("heldUntil")
    hold = None if held_until is None else _to_monotonic(held_until, now, wall)
    decided_at = ((body.get("status") or {}).get("lastDecision") or {}).get("at")
    if desired is None or decided_at is None or (body.get("spec") or {}).get("mode", Mode.ACTIVE) != Mode.ACTIVE:
        return ForeignWrites(hold_until=hold)
    return ForeignWrites(written=desired, written_at=_to_monotonic(decided_at, now, wall), hold_until=hold)


def _to_monotonic(text: str, now: float, wall: datetime) -> float:
    return now + (datetime.fromisoformat(text) - wall).total_seconds()
