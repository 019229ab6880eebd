"""What the passes of one kind may use: ports, and the few facts of this installation."""

from dataclasses import dataclass

from headroom.ports.clock import Clock
from headroom.ports.kube import Kube, KubeCache
from headroom.ports.postgres import Postgres
from headroom.ports.signals import QueueProbes
from headroom.ports.telemetry import Telemetry
from headroom.reconcilers.reporter import StatusReporter
from headroom.reconcilers.servers import Servers


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The same for every kind, but for `kube` and `reporter`, which are on the kind's own bulkhead.

    `install_id` is this installation's part of slot names; `watch_namespaces` are those it watches, none means all.
    """

    kube: Kube
    cache: KubeCache
    postgres: Postgres
    probes: QueueProbes
    clock: Clock
    telemetry: Telemetry
    reporter: StatusReporter
    servers: Servers
    install_id: str
    watch_namespaces: tuple[str, ...] = ()
