"""A namespace with one PostgreSQL primary, all in memory: the ports of the application, and what is read of them.

Hand-stepped tests (`tests.unit.reconcilers.stepped`) and tests that run by themselves (`tests.unit.world`) build on it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.inmemory.kube_faults import Killed
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_server import MemoryRole, MemoryServer
from headroom.adapters.inmemory.queues import MemoryQueueProbes
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.composition import Ports, build_loops
from headroom.model.replica import ROLE_LABEL, Role, slot_prefix
from headroom.model.snapshot import ANCHOR
from headroom.policy.permitted import Permitted
from headroom.ports.clock import Clock
from headroom.ports.kube import (
    CLAIM,
    POD,
    SECRET,
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CLASS,
    Kind,
    Kube,
    KubeCache,
    Manifest,
    ObjectRef,
)
from headroom.ports.postgres import Postgres
from headroom.reconcilers.loop import LevelLoops
from tests.controllers import Deployments, Members, Snapshots, find_all
from tests.manifests import NAMESPACE, PRIMARY, encode, make_guard, make_secret

INSTALL = "0123abcd"
LOGINS = {"monitor": "monitor-password", "replication": "replication-password", "queue": "queue-password"}
"""The logins of a guard on its primary."""
LATE = {"lag_seconds": 100.0, "backlog": 6000, "late": 6000}
"""A queue that is behind its target by far."""
OUTSIDE_BUDGET = 13
"""Connections that no budget includes: three for superusers, and the reserve of a guard."""


@dataclass(slots=True)
class CrashFence:
    """Stands at every write, to Kubernetes and PostgreSQL: ends the process at its `nth`, and refuses all later ones.

    The write has not happened then; with `is_after` it has, and its answer is lost. `seen` counts writes that were
    sent, `done` those that took effect. `on_end` is called once the process has ended.
    """

    nth: int | None = None
    is_after: bool = False
    seen: int = 0
    done: int = 0
    on_end: Callable[[], object] = lambda: None

    @property
    def is_shut(self) -> bool:
        """True once the process has ended."""
        return self.nth is not None and (self.done if self.is_after else self.seen) >= self.nth

    def check(self, timeout_seconds: float) -> None:
        """Count a write that is sent."""
        was_shut = self.is_shut
        self.seen += 1
        self._end_if_shut(was_shut=was_shut)

    def finish(self, what: str) -> None:
        """Count a write that took effect."""
        self.done += 1
        self._end_if_shut(was_shut=False)

    def _end_if_shut(self, *, was_shut: bool) -> None:
        if self.is_shut:
            if not was_shut:
                self.on_end()
            raise Killed(f"{'after' if self.is_after else 'before'} write {self.nth}")


class MemoryWorld:
    """All around a process of the operator. Roles: monitor, replication, queue, and jobs for a pool's own login."""

    postgres_class: ClassVar[type[MemoryPostgres]] = MemoryPostgres
    namespaces: tuple[str, ...] = ()
    """What the next process watches; empty is the whole cluster."""
    permitted: Permitted = Permitted()
    """What the administrator of the next process permits."""
    unserved: frozenset[Kind] = frozenset()
    """The optional kinds that the API server of the next process lacks."""
    former_ids: tuple[str, ...] = ()
    """By which the next process knows its installation from before."""

    def __init__(self, clock: Clock, fence: CrashFence | None = None) -> None:
        self.clock = clock
        self.fence = fence or CrashFence()
        self.telemetry = MemoryTelemetry()
        self.kube = MemoryKube(clock=clock, fence=self.fence)
        self.cluster = Cluster(self.kube)
        self.postgres = self.postgres_class(clock, self.fence)
        self.probes = MemoryQueueProbes()
        self.primary = self.add_primary()
        self.members = Members(self.kube, self.postgres, self.primary)
        self.deployments = Deployments(self.kube, clock)
        self.snapshots = Snapshots(self.kube, clock)

    def build_loops(
        self, kubes: Mapping[Kind, Kube], reader: Kube, cache: KubeCache, postgres: Postgres, install_id: str = INSTALL
    ) -> LevelLoops:
        """The application, as one process of it runs."""
        ports = Ports(
            kubes=kubes,
            reader=reader,
            cache=cache,
            postgres=postgres,
            probes=self.probes,
            clock=self.clock,
            telemetry=self.telemetry,
            install_id=install_id,
            former_ids=self.former_ids,
            watch_namespaces=self.namespaces,
            permitted=self.permitted,
            unserved=self.unserved,
        )
        return build_loops(ports)

    def add_primary(self, host: str = f"{PRIMARY}.{NAMESPACE}.svc", **fields: Any) -> MemoryServer:
        roles = {
            "monitor": MemoryRole(LOGINS["monitor"]),
            "replication": MemoryRole(LOGINS["replication"], may_replicate=True),
            "queue": MemoryRole(LOGINS["queue"], rights=frozenset()),
            "jobs": MemoryRole("j"),
        }
        server = self.postgres.add(MemoryServer(host, roles=roles, **fields))
        server.settings |= {"max_connections": "105", "reserved_connections": "5", "max_slot_wal_keep_size": "1024"}
        return server

    def add_guard(self, name: str = "store", namespace: str = NAMESPACE, **spec: Any) -> ObjectRef:
        """A guard, and the Secrets of its logins where they are missing."""
        for login, password in LOGINS.items():
            if self.cluster.read(ObjectRef(SECRET, namespace, f"store-{login}")) is None:
                self.set_secret(f"store-{login}", namespace, username=login, password=password)
        return self.seed(make_guard(name, namespace, **spec))

    def seed(self, manifest: Manifest) -> ObjectRef:
        """Add an object as somebody else would."""
        self.cluster.seed(manifest)
        return self.kube.kinds.ref_of(manifest)

    def set_secret(self, name: str, namespace: str = NAMESPACE, **values: str) -> None:
        ref = ObjectRef(SECRET, namespace, name)
        if self.cluster.read(ref) is None:
            self.cluster.seed(make_secret(name, namespace, **values))
        else:
            self.cluster.edit(ref, lambda secret: secret.update(data=encode(**values)))

    def set_budget(self, connections: int) -> None:
        """Size the server so that a guard with the whole share gives so many connections to workers."""
        self.primary.settings["max_connections"] = str(connections + OUTSIDE_BUDGET)

    def queue(self, **numbers: Any) -> None:
        """What every queue's probe reports from now on."""
        self.probes.numbers = replace(self.probes.numbers, **numbers)

    def play(self) -> None:
        """One step of everybody else."""
        if not self.primary.is_down:
            self.primary.write(1000)
        self.members.play()
        self.deployments.play()
        self.snapshots.play()

    def read(self, ref: ObjectRef) -> Manifest:
        found = self.cluster.read(ref)
        assert found is not None, ref
        return found

    def find_condition(self, ref: ObjectRef, type_: str) -> dict[str, Any]:
        """A condition in status; empty when there is none."""
        entries = (self.read(ref).get("status") or {}).get("conditions") or ()
        return next((entry for entry in entries if entry["type"] == type_), {})

    def children(self, kind: Kind) -> list[Manifest]:
        return list(find_all(self.kube, kind))

    def names(self, kind: Kind) -> list[str]:
        return sorted(item["metadata"]["name"] for item in find_all(self.kube, kind))

    def roles(self) -> list[str]:
        """Role labels of all members, sorted."""
        found = (pod["metadata"].get("labels", {}).get(ROLE_LABEL) for pod in find_all(self.kube, POD))
        return sorted(role for role in found if role)

    def serving(self) -> list[str]:
        """Names of the pods that the Service selects."""
        pods = (pod["metadata"] for pod in find_all(self.kube, POD))
        return [pod["name"] for pod in pods if pod.get("labels", {}).get(ROLE_LABEL) == Role.SERVING]

    def slots(self) -> list[str]:
        """Slots of members of this installation on the primary."""
        return sorted(name for name in self._our_slots() if "_s_" not in name)

    def anchors(self) -> list[str]:
        """Slots that keep the WAL of snapshots."""
        return sorted(name for name in self._our_slots() if "_s_" in name)

    def _our_slots(self) -> list[str]:
        return [name for name in self.primary.slots if name.startswith(slot_prefix(INSTALL))]

    def add_snapshot_class(self, name: str = "csi-snap", driver: str = "csi.example.com") -> ObjectRef:
        """A class of snapshots, and nothing that says of which driver the volumes are."""
        return self.seed(
            {
                "apiVersion": VOLUME_SNAPSHOT_CLASS.api_version,
                "kind": VOLUME_SNAPSHOT_CLASS.name,
                "metadata": {"name": name},
                "driver": driver,
                "deletionPolicy": "Delete",
            }
        )

    def check_anchors(self) -> None:
        """Each anchor has its snapshot, and each snapshot its anchor."""
        stamps = [item["metadata"]["annotations"][ANCHOR] for item in self.children(VOLUME_SNAPSHOT)]
        assert sorted(stamps) == self.anchors()

    def replica(self, pod: str) -> MemoryServer:
        """The server inside a pod."""
        return self.postgres.servers[self.members.ips[pod], 5432]

    def check_no_orphan(self, set_ref: ObjectRef) -> None:
        """Slots, claims and pods are those of the same members, one each; but for the anchors of snapshots."""
        uid = self.read(set_ref)["metadata"]["uid"]
        prefix = slot_prefix(INSTALL, uid)
        names = sorted(f"{set_ref.name}-{slot.removeprefix(prefix).replace('_', '-')}" for slot in self.slots())
        assert self.names(CLAIM) == names
        members = [pod for pod in self.children(POD) if ROLE_LABEL in pod["metadata"].get("labels", {})]
        assert sorted(pod["metadata"]["name"] for pod in members) == names
