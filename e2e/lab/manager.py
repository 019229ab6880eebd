"""A second server of the shop, and a failover to it behind the same name, as a manager of PostgreSQL makes one.

Managers move a Service by its selector, to the pod that carries the label of the primary. They also drop, or do not
carry over, slots that they do not know. The old primary comes back with what it wrote last.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from e2e.lab import shop as objects
from e2e.lab.kubectl import Manifest
from e2e.lab.opening import Shop
from e2e.lab.waiting import wait_until

PRIMARY_LABEL = "lab.headroom.dev/primary"
FIRST, SECOND = f"{objects.PRIMARY}-0", "store-second"
SLOT = "second"
AHEAD_BYTES = 1 << 20
"""What a member has received that the second server has not: more than any buffer on the way holds."""
WRITE = "INSERT INTO load SELECT generate_series(1, 2000)"
START = """
set -e
test -s "$PGDATA/PG_VERSION" || \
  pg_basebackup -D "$PGDATA" -d "host=$SOURCE user=$LOGIN password=$PGPASSWORD" -X stream -c fast -R -C -S "$SLOT"
chmod 0700 "$PGDATA"
exec postgres -c hba_file=/etc/postgresql/pg_hba.conf -c listen_addresses='*' -c wal_keep_size=512MB
"""


@dataclass(slots=True)
class Manager:
    """Two servers; `drops_slots` lets it drop all slots that it does not know, as long as it runs.

    `moments` has when each step of a failover took place, in seconds of the wall clock.
    """

    shop: Shop
    drops_slots: bool = False
    moments: dict[str, float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def open(self) -> None:
        """Make the Service follow the label, start the second server, and write without a pause."""
        self.shop.sql("CREATE TABLE IF NOT EXISTS load (n int)")
        self.point_at(FIRST)
        patch = {"spec": {"selector": {"app": None, PRIMARY_LABEL: "true"}}}
        self.shop.kubectl.merge("service", objects.PRIMARY, patch)
        self.shop.kubectl.apply(_second_pod(self.shop.postgres_image))
        wait_until("the second server to stream", lambda: self.is_streaming(SECOND), timeout=120)
        self._spawn(self._write)

    def close(self) -> None:
        """End what runs beside the test."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def mark(self, what: str) -> float:
        """Record a step."""
        return self.moments.setdefault(what, time.time())

    def point_at(self, pod: str) -> None:
        """The name leads to this pod from now on."""
        for each in (FIRST, SECOND):
            if self.shop.kubectl.get("pod", each):
                value = "true" if each == pod else "false"
                self.shop.kubectl("label", "--overwrite", "pod", each, f"{PRIMARY_LABEL}={value}")

    def fail_over(self, behind: list[str], ahead: str) -> None:
        """Crash the primary: the second server has all that the members `behind` have, and lacks what `ahead` has."""
        frozen = [self._freeze(pod) for pod in (*behind, SECOND)]
        wait_until(
            "a member to be ahead", lambda: self.position(ahead) > self.position(SECOND) + AHEAD_BYTES, timeout=60
        )
        self.mark("crash")
        self.shop.kubectl.scale(f"statefulset/{objects.PRIMARY}", 0)
        self.shop.kubectl("delete", "pod", FIRST, "--grace-period=0", "--force", "--ignore-not-found")
        wait_until("the primary to be gone", lambda: self.shop.kubectl.get("pod", FIRST) is None, timeout=60)
        for pod, receiver in frozen:
            # What waits in its socket is not read any more: the signal comes first.
            self._signal(pod, "TERM", receiver)
            self._signal(pod, "CONT", receiver)
        self.shop.sql("SELECT pg_promote()", pod=SECOND)
        self.mark("promoted")
        self.point_at(SECOND)
        self.mark("name moved")
        if self.drops_slots:
            self._spawn(self._drop_slots)

    def bring_back(self) -> None:
        """Start the old primary again, on its own volume; the name does not lead to it."""
        self.shop.kubectl.scale(f"statefulset/{objects.PRIMARY}", 1)
        wait_until("the old primary to be back", self.shop.is_primary_ready, timeout=120)

    def position(self, pod: str) -> int:
        """How far a standby got, in bytes."""
        query = "SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'::pg_lsn"
        return int(self.shop.sql(query, pod=pod))

    def is_streaming(self, pod: str) -> bool:
        """True while its receiver is connected."""
        return self.shop.sql("SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'", pod=pod) == "1"

    def timeline(self, pod: str) -> int:
        """The timeline that a member receives; 0 without a receiver."""
        return int(self.shop.sql("SELECT coalesce(max(received_tli), 0) FROM pg_stat_wal_receiver", pod=pod))

    def _freeze(self, pod: str) -> tuple[str, str]:
        receiver = self.shop.sql("SELECT pid FROM pg_stat_wal_receiver", pod=pod)
        self._signal(pod, "STOP", receiver)
        return pod, receiver

    def _signal(self, pod: str, name: str, pid: str) -> None:
        self.shop.kubectl("exec", pod, "--", "sh", "-c", f"kill -{name} {pid}")

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _write(self) -> None:
        """Rows through the name, by a client inside the cluster; a failover costs it errors, and it goes on."""
        command = f"while true; do psql -qX -c '{WRITE}' >/dev/null 2>&1 || sleep 0.2; done"
        pod = objects.app_pod(
            "writer", self.shop.worker_image, ["sh", "-c", command], objects.login(objects.PRIMARY), node=self.shop.node
        )
        self.shop.kubectl.apply(pod)
        self._stop.wait()
        self.shop.kubectl.delete("pod", "writer")

    def _drop_slots(self) -> None:
        query = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active"
        end = time.monotonic() + 15
        while time.monotonic() < end and not self._stop.wait(1):
            try:
                self.shop.sql(query, pod=SECOND)
            except AssertionError:
                continue  # one of them is in use by now
        self.mark("manager drops no more")


def _second_pod(image: str) -> Manifest:
    """A standby of the primary, made by a base backup when it starts."""
    variables = {
        "PGDATA": "/var/lib/postgresql/data/pgdata",
        "SOURCE": objects.PRIMARY,
        "LOGIN": objects.REPLICATION,
        "PGPASSWORD": objects.PASSWORD,
        "SLOT": SLOT,
    }
    mounts = {"data": "/var/lib/postgresql/data", "hba": "/etc/postgresql", "run": "/var/run/postgresql", "tmp": "/tmp"}
    container = {
        "name": "postgres",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", START],
        "env": objects.environment(**variables),
        "ports": [{"containerPort": 5432, "name": "postgres"}],
        "readinessProbe": {"exec": {"command": ["pg_isready", "-h", "127.0.0.1"]}, "periodSeconds": 1},
        "securityContext": objects.container_security(),
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
    }
    volumes: list[Manifest] = [{"name": name, "emptyDir": {}} for name in ("data", "run", "tmp")]
    spec = {
        "securityContext": objects.pod_security(objects.POSTGRES_UID),
        "terminationGracePeriodSeconds": 5,
        "containers": [container],
        "volumes": [*volumes, {"name": "hba", "configMap": {"name": objects.PRIMARY}}],
    }
    metadata = {"name": SECOND, "labels": {"app": SECOND}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
