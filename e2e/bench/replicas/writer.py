"""A light writer on the primary, by pgbench, and the WAL that slots keep there, both as they happen.

The rate is fixed. A commit counts from when its transaction was due, so that a stall counts for all that waited.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from e2e.lab import shop as objects
from e2e.lab.kubectl import Manifest, Stream, follow_logs
from e2e.lab.opening import Shop
from e2e.lab.waiting import wait_until

NAME = "writer"
PER_SECOND, CLIENTS, LONGEST_SECONDS = 25, 2, 14400
"""What is written since the snapshot has to be replayed, which is not what a restore is measured for."""
KEPT = """SELECT json_build_object('at', extract(epoch FROM clock_timestamp()),
 'members', coalesce(max(kept) FILTER (WHERE NOT is_anchor), 0),
 'anchors', coalesce(max(kept) FILTER (WHERE is_anchor), 0))
 FROM (SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) AS kept, slot_name ~ '_s_' AS is_anchor
 FROM pg_replication_slots WHERE slot_name ~ '^hr_') AS slots"""
"""The most WAL that a slot of a member keeps, and the most that the anchor of a snapshot does."""
SCRIPT = f"""set -eu
cd /tmp
pgbench -n -N -R {PER_SECOND} -c {CLIENTS} -T {LONGEST_SECONDS} -l --log-prefix=/tmp/commits >/dev/null &
echo "{" ".join(KEPT.split())} \\watch 1" | psql -qXAt &
until ls /tmp/commits.* >/dev/null 2>&1; do sleep 0.1; done
exec tail -n +1 -F /tmp/commits.* |
  sed -u -E 's/^[0-9]+ [0-9]+ ([0-9]+) [0-9]+ ([0-9]+) ([0-9]+).*/{{"us":\\1,"second":\\2,"fraction":\\3}}/'
"""
"""A line of pgbench's log: client, number, microseconds since it was due, script, and when it ended."""
FLUSHED_SECONDS = 30.0
"""pgbench writes its log in blocks of 4 KiB, which are some seconds at this rate."""


@dataclass(slots=True)
class Writes:
    """What was written when. Commits as (end in epoch seconds, milliseconds); kept WAL as (epoch seconds, bytes that
    slots of members keep, bytes that anchors of snapshots keep).
    """

    commits: list[tuple[float, float]] = field(default_factory=list)
    kept: list[tuple[float, int, int]] = field(default_factory=list)

    def take(self, line: Manifest) -> None:
        """Note one line of the writer's."""
        if "members" in line:
            self.kept.append((line["at"], int(line["members"]), int(line["anchors"])))
        else:
            self.commits.append((line["second"] + line["fraction"] / 1e6, line["us"] / 1e3))

    def milliseconds(self, start: float, end: float) -> list[float]:
        """How long the commits that ended in a window took."""
        ranked = sorted(self.commits)
        first, last = bisect_left(ranked, (start, 0.0)), bisect_right(ranked, (end, float("inf")))
        return [took for _, took in ranked[first:last]]

    def kept_bytes(self, start: float, end: float) -> tuple[int, int] | None:
        """The most WAL that slots of members and anchors kept in a window, which may be shorter than a second."""
        found = [kept for at, *kept in self.kept if start - 1 <= at <= end + 1]
        return (max(members for members, _ in found), max(anchors for _, anchors in found)) if found else None


@dataclass(slots=True)
class Writer:
    """A pod that writes while the block lasts."""

    shop: Shop
    writes: Writes = field(default_factory=Writes)
    _logs: Stream | None = None

    def __enter__(self) -> Self:
        self.shop.kubectl.apply(pod(self.shop))
        wait_until("the writer to run", self._is_running, timeout=60)
        self._logs = follow_logs(self.shop.kubectl.namespace, NAME, self.writes.take)
        wait_until("the writer's first commits", lambda: self.writes.commits, timeout=60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._logs is not None:
            self._logs.stop()
        self.shop.kubectl.delete("pod", NAME)

    def catch_up(self, moment: float) -> None:
        """Wait until everything up to a moment was reported."""
        wait_until(
            "the writer's report", lambda: max(at for at, _ in self.writes.commits) > moment, timeout=FLUSHED_SECONDS
        )

    def _is_running(self) -> bool:
        found = self.shop.kubectl.get("pod", NAME) or {}
        phase = (found.get("status") or {}).get("phase")
        assert phase != "Failed", self.shop.kubectl("logs", NAME)
        return bool(phase == "Running")


def pod(shop: Shop) -> Manifest:
    """The writer's pod, with a folder for its log."""
    login = objects.login(objects.PRIMARY)
    made = objects.app_pod(NAME, shop.worker_image, ["bash", "-c", SCRIPT], login, node=shop.node)
    made["spec"]["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    made["spec"]["containers"][0]["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}]
    return made
