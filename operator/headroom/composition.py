"""The three kinds over any adapters: the real ones in `app`, those in memory in tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from headroom.policy.permitted import Permitted
from headroom.ports.clock import Clock
from headroom.ports.kube import DATABASE_GUARD, REPLICA_SET, WORKER_POOL, Kind, Kube, KubeCache, KubeReader
from headroom.ports.postgres import Postgres
from headroom.ports.signals import QueueProbes
from headroom.ports.telemetry import Telemetry
from headroom.reconcilers.context import Services
from headroom.reconcilers.databaseguard import GuardReconciler
from headroom.reconcilers.loop import LevelLoops, Reconciler
from headroom.reconcilers.replicaset import ReplicaSetReconciler
from headroom.reconcilers.reporter import StatusReporter
from headroom.reconcilers.servers import Servers
from headroom.reconcilers.workerpool import WorkerPoolReconciler


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What the application needs from outside.

    `kubes` is the API server on each kind's own bulkhead; `reader` is for teardowns, which must not wait for a kind.
    """

    kubes: Mapping[Kind, Kube]
    reader: KubeReader
    cache: KubeCache
    postgres: Postgres
    probes: QueueProbes
    clock: Clock
    telemetry: Telemetry
    install_id: str
    former_ids: tuple[str, ...] = ()
    watch_namespaces: tuple[str, ...] = ()
    permitted: Permitted = field(default_factory=Permitted)
    unserved: frozenset[Kind] = frozenset()


def build_loops(ports: Ports) -> LevelLoops:
    """The reconcilers of all kinds around one set of servers, and the loops that run them."""
    servers = Servers(ports.clock)
    reconcilers: dict[Kind, Reconciler] = {
        DATABASE_GUARD: GuardReconciler(_build_services(ports, servers, DATABASE_GUARD)),
        REPLICA_SET: ReplicaSetReconciler(_build_services(ports, servers, REPLICA_SET)),
        WORKER_POOL: WorkerPoolReconciler(_build_services(ports, servers, WORKER_POOL)),
    }
    return LevelLoops(reconcilers, ports.reader, ports.cache, ports.clock, ports.telemetry, servers)


def _build_services(ports: Ports, servers: Servers, kind: Kind) -> Services:
    kube = ports.kubes[kind]
    return Services(
        kube=kube,
        cache=ports.cache,
        postgres=ports.postgres,
        probes=ports.probes,
        clock=ports.clock,
        telemetry=ports.telemetry,
        reporter=StatusReporter(kube, ports.clock, kind),
        servers=servers,
        install_id=ports.install_id,
        former_ids=ports.former_ids,
        watch_namespaces=ports.watch_namespaces,
        permitted=ports.permitted,
        unserved=ports.unserved,
    )
