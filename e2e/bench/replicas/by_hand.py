"""The same by hand, on a new claim each time: `pg_basebackup` and start, or a start on a volume of a snapshot.

A new claim, as a replica has one: a volume that was written before has its blocks at hand. Claim and pod have the
requests of a replica, and the pod is gone when its time is known.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from e2e.lab import shop as objects
from e2e.lab.kubectl import Manifest
from e2e.lab.opening import Shop
from e2e.lab.prober import STAMPS
from e2e.lab.waiting import wait_until

NAME = "by-hand"
MOST_SECONDS = 900
COPY = """set -eu
started=$(date +%s.%N)
pg_basebackup -D /data/pgdata -X stream --checkpoint=fast -R
echo "local all all reject" > /tmp/pg_hba.conf
options="-c hba_file=/tmp/pg_hba.conf -c listen_addresses= -c unix_socket_directories=/tmp"
pg_ctl -D /data/pgdata -o "$options" -l /tmp/log -w -t 300 start >/dev/null || { cat /tmp/log; exit 1; }
ended=$(date +%s.%N)
pg_ctl -D /data/pgdata -m immediate stop >/dev/null
echo "$started $ended"
"""
FRESH_SECONDS = 2
"""A replica of ours enters the Service with a lag of up to one second, and the row is stamped each second."""
RESTORE = f"""set -eu
started=$(date +%s.%N)
cd /data/pgdata
rm -rf pg_replslot/* postmaster.pid
echo "primary_conninfo = 'host=$PGHOST user=$PGUSER password=$PGPASSWORD'" > postgresql.auto.conf
echo "local all all trust" > /tmp/pg_hba.conf
options="-c hba_file=/tmp/pg_hba.conf -c listen_addresses= -c unix_socket_directories=/tmp"
pg_ctl -D /data/pgdata -o "$options" -l /tmp/log -w -t 300 start >/dev/null || {{ cat /tmp/log; exit 1; }}
fresh="SELECT max(at) > clock_timestamp() - interval '{FRESH_SECONDS} s' FROM {STAMPS}"
until [ "$(psql -h /tmp -U {objects.OWNER} -qXAt -c "$fresh")" = t ]; do sleep 0.05; done
ended=$(date +%s.%N)
pg_ctl -D /data/pgdata -m immediate stop >/dev/null
echo "$started $ended"
"""


@dataclass(frozen=True, slots=True)
class ByHand:
    """Epoch seconds: asked for claim and pod, first command, end of the last one."""

    asked: float
    started: float
    ended: float

    @property
    def bare(self) -> float:
        """Seconds that the commands alone took."""
        return self.ended - self.started

    @property
    def whole(self) -> float:
        """Seconds with claim and pod."""
        return self.ended - self.asked


def copy_by_hand(shop: Shop, volume: str, host: str) -> ByHand:
    """One plain copy and start of the data of `host`: the primary, or a standby's address."""
    return _run(shop, COPY, _claim(volume), objects.login(host, objects.REPLICATION))


def restore_by_hand(shop: Shop, volume: str, snapshot: str) -> ByHand:
    """One plain start as a standby on a volume of a snapshot, up to a read that is fresh."""
    source = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot}
    return _run(shop, RESTORE, _claim(volume, source), objects.login(objects.PRIMARY, objects.REPLICATION))


def _run(shop: Shop, script: str, claim: Manifest, login: dict[str, str]) -> ByHand:
    asked = datetime.now(UTC).timestamp()
    shop.kubectl.apply(claim, _pod(shop.postgres_image, script, login))
    try:
        phase = wait_until("the work by hand to end", lambda: _ended(shop), timeout=MOST_SECONDS, every=1.0)
        said = shop.kubectl("logs", NAME)
        assert phase == "Succeeded", f"the work by hand failed: {said}"
    finally:
        shop.kubectl.delete(f"pod/{NAME}", f"pvc/{NAME}")
    started, ended = map(float, said.split()[-2:])
    return ByHand(asked, started, ended)


def _ended(shop: Shop) -> str | None:
    pod = shop.kubectl.get("pod", NAME)
    assert pod is not None, f"pod {NAME} is gone"
    phase: str = pod["status"].get("phase", "")
    return phase if phase in ("Succeeded", "Failed") else None


def _claim(volume: str, source: Manifest | None = None) -> Manifest:
    spec: Manifest = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": volume}}}
    if source is not None:
        spec["dataSource"] = source
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": NAME}, "spec": spec}


def _pod(image: str, script: str, login: dict[str, str]) -> Manifest:
    container = objects.app_container(NAME, image, ["sh", "-c", script], login)
    container["resources"] = objects.replica_set(image)["spec"]["resources"]
    container["volumeMounts"] = [
        {"name": "data", "mountPath": "/data"},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "securityContext": objects.pod_security(objects.POSTGRES_UID),
        "containers": [container],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": NAME}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME}, "spec": spec}
