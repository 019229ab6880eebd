"""The floors of a cold replica: `pg_basebackup` and start alone, and the same in a pod made by hand for it.

Both on a new claim each time, as a replica has it: a volume that was written before has its blocks at hand.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from e2e.lab import shop as objects
from e2e.lab.kubectl import Manifest
from e2e.lab.opening import Shop
from e2e.lab.waiting import wait_until

NAME = "bare"
SCRIPT = """set -eu
started=$(date +%s.%N)
pg_basebackup -D /data/pgdata -X stream --checkpoint=fast -R
echo "local all all reject" > /tmp/pg_hba.conf
options="-c hba_file=/tmp/pg_hba.conf -c listen_addresses= -c unix_socket_directories=/tmp"
pg_ctl -D /data/pgdata -o "$options" -l /tmp/log -w -t 300 start >/dev/null || { cat /tmp/log; exit 1; }
ended=$(date +%s.%N)
pg_ctl -D /data/pgdata -m immediate stop >/dev/null
echo "$started $ended"
"""


@dataclass(frozen=True, slots=True)
class Bare:
    """Seconds: `copy` is what the two commands took, `by_hand` runs from asking for claim and pod to their end."""

    copy: float
    by_hand: float


def bare_base_backup(shop: Shop, volume: str) -> Bare:
    """One plain copy and start of the primary's data on a new volume; claim and pod are gone when it returns."""
    asked = datetime.now(UTC).timestamp()
    shop.kubectl.apply(*_objects(shop.postgres_image, volume))
    try:
        phase = wait_until("the bare copy to end", lambda: _ended(shop), timeout=900, every=1.0)
        said = shop.kubectl("logs", NAME)
        assert phase == "Succeeded", f"the bare copy failed: {said}"
    finally:
        shop.kubectl.delete(f"pod/{NAME}", f"pvc/{NAME}")
    started, ended = map(float, said.split()[-2:])
    return Bare(ended - started, ended - asked)


def _ended(shop: Shop) -> str | None:
    pod = shop.kubectl.get("pod", NAME)
    assert pod is not None, f"pod {NAME} is gone"
    phase: str = pod["status"].get("phase", "")
    return phase if phase in ("Succeeded", "Failed") else None


def _objects(image: str, volume: str) -> list[Manifest]:
    login = objects.login(objects.PRIMARY, objects.REPLICATION)
    container = objects.app_container(NAME, image, ["sh", "-c", SCRIPT], login)
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
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": volume}}}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": NAME}, "spec": claim},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME}, "spec": spec},
    ]
