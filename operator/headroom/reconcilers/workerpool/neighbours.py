"""Who shares a namespace with a pool: autoscalers, other pools, guards; read at most every ten seconds for all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from headroom.policy.workerpool.conflict import AutoscalerClaim, PoolClaim
from headroom.ports.clock import Clock
from headroom.ports.kube import DATABASE_GUARD, WORKER_POOL, KubeReader, Manifest
from headroom.reconcilers.autoscalers import list_autoscalers, target_id

FRESH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Neighbours:
    """One look at a namespace; `guards` are the specs of the DatabaseGuards by name."""

    autoscalers: tuple[AutoscalerClaim, ...]
    pools: tuple[Manifest, ...]
    guards: Mapping[str, Mapping[str, Any]]
    read_at: float

    def claims(self) -> tuple[PoolClaim, ...]:
        """What the pools that stay claim."""
        staying = (pool for pool in self.pools if not pool["metadata"].get("deletionTimestamp"))
        return tuple(claim_of(pool) for pool in staying)

    def connections_of_others(self, own_uid: str, guard: str) -> int:
        """Connections that the workers of the other pools on a guard's database may hold."""
        others = (pool for pool in self.pools if pool["metadata"]["uid"] != own_uid)
        return sum(_connections_of(pool) for pool in others if _guard_of(pool) == guard)


@dataclass(slots=True)
class Neighbourhood:
    """Remembers the last look at each namespace."""

    reader: KubeReader
    clock: Clock
    _looks: dict[str, Neighbours] = field(default_factory=dict)

    async def read(self, namespace: str) -> Neighbours:
        """A look not older than ten seconds; raises KubeUnavailable or Refused."""
        known, now = self._looks.get(namespace), self.clock.monotonic()
        if known is not None and now - known.read_at < FRESH_SECONDS:
            return known
        autoscalers = await list_autoscalers(self.reader, namespace)
        pools = await self.reader.list(WORKER_POOL, namespace)
        guards = await self.reader.list(DATABASE_GUARD, namespace)
        look = Neighbours(
            autoscalers=autoscalers,
            pools=tuple(pools),
            guards={guard["metadata"]["name"]: guard.get("spec") or {} for guard in guards},
            read_at=now,
        )
        self._looks[namespace] = look
        return look


def claim_of(pool: Manifest) -> PoolClaim:
    """What a WorkerPool claims."""
    metadata = pool["metadata"]
    ref = ((pool.get("spec") or {}).get("workers") or {}).get("targetRef")
    created = datetime.fromisoformat(metadata["creationTimestamp"])
    return PoolClaim(metadata["name"], metadata["uid"], created, None if ref is None else target_id(ref))


def _guard_of(pool: Manifest) -> str | None:
    name: str | None = ((pool.get("spec") or {}).get("databaseRef") or {}).get("name")
    return name


def _connections_of(pool: Manifest) -> int:
    status = pool.get("status") or {}
    workers = max(status.get("workers") or 0, status.get("desiredWorkers") or 0)
    return int(workers) * int((pool.get("spec") or {}).get("connectionsPerWorker", 1))
