"""The process: settings, the real adapters, the loops of `composition` over them, and Kopf around everything.

Order of a life: probes and metrics answer, the Lease is awaited, then Kopf watches and the loops run. Losing the Lease
ends the process at once, without clean-up: whatever it still sent could collide with the next leader's writes. SIGTERM
stops the loops first and then gives the Lease up, so that the next leader need not wait for its end.
"""

import asyncio
import logging
import os
import signal
import uuid
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import kopf

from headroom.adapters.clock import SystemClock
from headroom.adapters.http import Certificate, MetricsServer, ProbeServer, Protection
from headroom.adapters.kube.api import ApiKube
from headroom.adapters.kube.cache import WatchCache
from headroom.adapters.kube.connect import Bulkheads, build_bulkheads, connect
from headroom.adapters.kube.leadership import LeaderLabel, build_holder
from headroom.adapters.kube.lease import LEASE_LIMITS, LeaseElector
from headroom.adapters.kube.review import REVIEW_LIMITS, TokenReviewer
from headroom.adapters.kube.write_through import RelistAudit, WriteThroughKube
from headroom.adapters.network import Network, raise_file_limit
from headroom.adapters.network.api_server import OWN_SERVICE, ApiServer
from headroom.adapters.postgres import PsycopgPostgres, SessionNames
from headroom.adapters.postgres.dialer import Dialer
from headroom.adapters.postgres.queues import PostgresQueueProbes
from headroom.adapters.telemetry import PrometheusTelemetry
from headroom.composition import Ports, build_loops
from headroom.errors import HeadroomError, InvalidSpec
from headroom.handlers import build_kopf_settings, register, register_login
from headroom.model.replica import hash8
from headroom.policy.hosts import HostPolicy, find_api_server, find_cluster_domain, parse_host_rules
from headroom.policy.permitted import Permitted
from headroom.ports.kube import (
    DATABASE_GUARD,
    LEASE,
    NAMESPACE,
    OPTIONAL,
    REPLICA_SET,
    WORKER_POOL,
    Kind,
    KubeReader,
    ObjectRef,
)
from headroom.reconcilers.loop import LevelLoops
from headroom.reconcilers.wakes import Wakes
from headroom.settings import Settings

logger = logging.getLogger(__name__)

LOST_LEASE_STATUS = 3
RESOLVER_SETTINGS = Path("/etc/resolv.conf")
INSTALLATION_DIGITS = 8
KINDS_EVERY_SECONDS = 1.0
LOOPS_END_WITHIN = timedelta(seconds=5)
"""The next leader waits for this process to give the Lease up."""


@dataclass(slots=True)
class Process:
    """What exists once in a process and lives as long as it does."""

    settings: Settings
    clock: SystemClock
    telemetry: PrometheusTelemetry
    kube: ApiKube
    """The API behind the fence: it writes only while the Lease lasts. For calls that are sent once; all others have
    bulkheads."""
    bulkheads: Bulkheads
    reviews: ApiKube
    """Asks who may read the metrics; nothing is written through it."""
    elector: LeaseElector
    stop: asyncio.Event
    is_watching: asyncio.Event = field(default_factory=asyncio.Event)

    def find_unready(self) -> str | None:
        """A leader is ready when it watches; a follower always is."""
        if not self.elector.is_leading or self.is_watching.is_set():
            return None
        return "leading, and not watching yet"


async def run(settings: Settings) -> int:
    """Wait for the Lease, reconcile until SIGTERM; returns the exit status."""
    raise_file_limit()
    process = await _build_process(settings)
    async with (
        ProbeServer(process.telemetry, clock=process.clock, port=settings.probe_port) as server,
        _build_metrics_server(process),
    ):
        server.ready["watch"] = process.find_unready
        try:
            if await _is_first(process.elector.acquire(), process.stop.wait()):
                await _lead(process)
        finally:
            await process.elector.release()
            await process.kube.close()
    return 0


def _build_metrics_server(process: Process) -> MetricsServer:
    """Followers serve metrics too, so that reviews are not behind the fence of the Lease: they change nothing."""
    settings, protection = process.settings, None
    if settings.metrics_certificate:
        reviewer = TokenReviewer(process.reviews, process.clock)
        protection = Protection(Certificate(Path(settings.metrics_certificate)), reviewer)
    return MetricsServer(process.telemetry, clock=process.clock, port=settings.metrics_port, protection=protection)


async def _build_process(settings: Settings) -> Process:
    clock = SystemClock()
    telemetry = PrometheusTelemetry(clock, instance=settings.pod_name)
    client = await connect()
    elector = LeaseElector(
        ApiKube(client, clock=clock, telemetry=telemetry, limits=LEASE_LIMITS),
        clock,
        lease=ObjectRef(LEASE, settings.namespace, settings.lease_name),
        holder=build_holder(settings.pod_name, settings.pod_uid),
        telemetry=telemetry,
        on_lost=_exit_at_once,
    )
    kube = ApiKube(client, clock=clock, fence=elector, telemetry=telemetry)
    reviews = ApiKube(client, clock=clock, telemetry=telemetry, limits=REVIEW_LIMITS)
    return Process(settings, clock, telemetry, kube, build_bulkheads(kube), reviews, elector, _stop_on_signals())


async def _lead(process: Process) -> None:
    """Watch and reconcile while the Lease is ours, until a stop is requested."""
    events = asyncio.create_task(process.telemetry.run_events(process.bulkheads.events))
    await _put_label_on(process)
    namespaces = process.settings.watch_namespaces
    cache = WatchCache(process.clock, namespaces)
    unserved = await _find_unserved(process)
    ports = await build_ports(process, cache, unserved)
    loops = build_loops(ports)
    wakes = Wakes(loops)
    audit = RelistAudit(cache, ports.reader, process.clock, wakes.hear_gone)
    # Before Kopf starts: it would not watch a kind whose definition comes later.
    await _await_kinds(process, loops.reconcilers)
    stop = asyncio.Event()
    ending = asyncio.create_task(_end_in_order(process.stop, loops, stop))
    registry = kopf.OperatorRegistry()
    register_login(registry)
    register(registry, loops, cache, wakes, unserved)
    operator = kopf.operator(
        registry=registry,
        settings=build_kopf_settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
        ready_flag=process.is_watching,
    )
    try:
        # An audit that fails ends the process: without it the cache could be wrong for good.
        await _is_first(operator, audit.run())
    finally:
        events.cancel()
        ending.cancel()


async def _end_in_order(requested: asyncio.Event, loops: LevelLoops, stop: asyncio.Event) -> None:
    """The loops first: Kopf would not wait for a running pass."""
    await requested.wait()
    try:
        await loops.end_all(LOOPS_END_WITHIN)
    finally:
        stop.set()


async def build_ports(process: Process, cache: WatchCache, unserved: frozenset[Kind] = frozenset()) -> Ports:
    """The real adapters: each kind has its own bulkhead, and every answer of the API server goes into the cache."""
    install_id, former_ids = await find_installation(process.settings, process.kube)
    names = SessionNames(lease=install_id, holder=uuid.uuid4().hex[:INSTALLATION_DIGITS])
    bulkheads = process.bulkheads
    return Ports(
        kubes={
            DATABASE_GUARD: WriteThroughKube(bulkheads.guards, cache),
            REPLICA_SET: WriteThroughKube(bulkheads.replicas, cache),
            WORKER_POOL: WriteThroughKube(bulkheads.pools, cache),
        },
        reader=WriteThroughKube(process.kube, cache),
        cache=cache,
        postgres=PsycopgPostgres(names, process.elector, process.clock, Dialer(build_network(process.settings))),
        probes=PostgresQueueProbes(),
        clock=process.clock,
        telemetry=process.telemetry,
        install_id=install_id,
        former_ids=former_ids,
        watch_namespaces=process.settings.watch_namespaces,
        permitted=build_permitted(process.settings),
        unserved=unserved,
    )


def build_network(settings: Settings) -> Network:
    """Connections to the hosts of specs, under the rules of the chart's `policy.hosts`."""
    resolver_settings = RESOLVER_SETTINGS.read_text() if RESOLVER_SETTINGS.is_file() else ""
    policy = HostPolicy(
        allow=parse_host_rules(settings.policy_hosts_allow, "HEADROOM_POLICY_HOSTS_ALLOW"),
        deny=parse_host_rules(settings.policy_hosts_deny, "HEADROOM_POLICY_HOSTS_DENY"),
        api_server=find_api_server(settings.api_server),
        domain=find_cluster_domain(resolver_settings),
    )
    names = (OWN_SERVICE, settings.api_server) if settings.api_server and not policy.api_server else (OWN_SERVICE,)
    return Network(policy, api_server=ApiServer(names if settings.api_server else ()))


def build_permitted(settings: Settings) -> Permitted:
    """The rules for images and Secrets, as the chart's `policy` has them."""
    return Permitted(settings.policy_images, settings.policy_secret_prefix, settings.policy_secret_label)


async def find_installation(settings: Settings, kube: KubeReader) -> tuple[str, tuple[str, ...]]:
    """Eight digits that are the same for all pods of this installation and for no other one on the same primary; and
    those that earlier versions took for it.

    Derived from the cluster's own uid (kube-system's), or, if only listed namespaces may be read, from that of the
    operator's namespace; and from the Lease, since a namespace may have two releases. `HEADROOM_INSTALLATION` wins over
    all. The earlier ones did not include the Lease: two releases of a namespace had the same.
    """
    if settings.installation:
        return hash8(settings.installation), ()
    name = settings.namespace if settings.watch_namespaces else "kube-system"
    found = await kube.get(ObjectRef(NAMESPACE, "", name))
    if found is None:
        raise InvalidSpec("HEADROOM_INSTALLATION", f"namespace {name} was not found", "set any unique text")
    without_release = f"{found['metadata']['uid']}/{settings.namespace}"
    return hash8(f"{without_release}/{settings.lease_name}"), (hash8(without_release),)


async def _await_kinds(process: Process, kinds: Iterable[Kind]) -> None:
    """Wait until every kind is served: Kopf looks for kinds once, at its start."""
    for kind in kinds:
        while not process.stop.is_set() and not await _is_served(process.kube, kind):
            logger.warning("%s %s is not served yet: install the chart's CRDs", kind.api_version, kind.name)
            await process.clock.sleep(KINDS_EVERY_SECONDS)


async def _find_unserved(process: Process) -> frozenset[Kind]:
    """The optional kinds that this cluster does not have; an answer is waited for, since nobody asks again."""
    unserved = set()
    for kind in OPTIONAL:
        while not process.stop.is_set():
            try:
                if not await process.kube.serves(kind):
                    unserved.add(kind)
                break
            except HeadroomError as error:
                logger.warning("It is not known whether %s is served: %s", kind.name, error)
                await process.clock.sleep(KINDS_EVERY_SECONDS)
    return frozenset(unserved)


async def _is_served(kube: ApiKube, kind: Kind) -> bool:
    try:
        return await kube.serves(kind)
    except HeadroomError as error:
        logger.warning("It is not known whether %s is served: %s", kind.name, error)
        return False


async def _put_label_on(process: Process) -> None:
    term = process.elector.term
    holder = build_holder(process.settings.pod_name, process.settings.pod_uid)
    try:
        label = LeaderLabel(process.kube, process.kube, process.settings.namespace)
        await label.put_on(holder, previous_holder=term.previous_holder if term else "")
    except HeadroomError as error:
        logger.warning("The leader's pod is not labelled: %s", error)


async def _is_first(wanted: Coroutine[Any, Any, object], other: Coroutine[Any, Any, object]) -> bool:
    """Wait for either of two; True when the wanted one came. The one that did not is cancelled."""
    tasks = [asyncio.create_task(wanted), asyncio.create_task(other)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    for task in done:
        task.result()
    return tasks[0] in done


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _exit_at_once(because: str) -> NoReturn:
    # Not sys.exit: nothing may run any more, but a `finally` somewhere would.
    logger.error("The process ends at once: %s", because)
    logging.shutdown()
    os._exit(LOST_LEASE_STATUS)
