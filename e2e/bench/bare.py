"""The floor of a cold replica: `pg_basebackup` and start, timed inside a pod that already runs."""

from e2e.lab import shop as objects
from e2e.lab.kubectl import Manifest, condition_of
from e2e.lab.opening import Shop
from e2e.lab.waiting import wait_until

NAME = "bare"
SCRIPT = """set -eu
rm -rf /data/pgdata
sync
started=$(date +%s.%N)
pg_basebackup -D /data/pgdata -X stream --checkpoint=fast -R
echo "local all all reject" > /tmp/pg_hba.conf
options="-c hba_file=/tmp/pg_hba.conf -c listen_addresses= -c unix_socket_directories=/tmp"
pg_ctl -D /data/pgdata -o "$options" -l /tmp/log -w -t 300 start >/dev/null || { cat /tmp/log; exit 1; }
ended=$(date +%s.%N)
pg_ctl -D /data/pgdata -m immediate stop >/dev/null
echo "$started $ended"
"""


def bare_base_backup(shop: Shop) -> float:
    """Seconds that a plain copy and start of the primary's data takes on a volume of the same kind."""
    if not shop.kubectl.get("pod", NAME):
        shop.kubectl.apply(*_objects(shop.postgres_image))
        wait_until(
            "the bare pod to be Ready",
            lambda: condition_of(shop.kubectl.get("pod", NAME), "Ready").get("status") == "True",
            timeout=60,
        )
    text = shop.kubectl("exec", NAME, "--", "sh", "-c", SCRIPT, timeout=900)
    started, ended = text.split()[-2:]
    return float(ended) - float(started)


def _objects(image: str) -> list[Manifest]:
    login = objects.login(objects.PRIMARY, objects.REPLICATION)
    container = objects.app_container(NAME, image, ["sleep", "7200"], login)
    container["volumeMounts"] = [
        {"name": "data", "mountPath": "/data"},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    spec = {
        "terminationGracePeriodSeconds": 1,
        "securityContext": objects.pod_security(objects.POSTGRES_UID),
        "containers": [container],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": NAME}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "30Gi"}}}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": NAME}, "spec": claim},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME}, "spec": spec},
    ]
