"""One more replica and one less, again and again: times from the decision to the first read, and how it was made."""

import os
import time
from dataclasses import dataclass

from e2e.bench.replicas.scene import SET, Say, ask, is_snapshot_fresh, provide
from e2e.demo.timeline import parse_time
from e2e.lab.kubectl import Kubectl, Manifest
from e2e.lab.opening import Shop
from e2e.lab.prober import Prober
from e2e.lab.waiting import wait_until

MEMBERS = f"headroom.dev/replica-set={SET}"
LOOK_SECONDS = 1.0
"""Seldom: each look costs a process on the cores that copy; the times come from the clients and the pods."""
SILENCE_SECONDS = 1.5
"""The prober calls a server new after a second of silence."""
JOIN_SECONDS = 900.0
MOST_EXCHANGES = 10
SNAPSHOT, BASE_BACKUP = "VolumeSnapshot", "BaseBackup"


@dataclass(frozen=True, slots=True)
class Joined:
    """A replica that serves: when that was decided and when it first answered, and how status says it was made."""

    name: str
    decided: float
    answered: float
    method: str = ""
    source: str = ""

    @property
    def seconds(self) -> float:
        """From the decision to the first read."""
        return self.answered - self.decided


@dataclass(slots=True)
class Bench:
    """One set of replicas, measured again and again."""

    shop: Shop
    prober: Prober
    say: Say

    def join(self, standbys: int = 0) -> Joined:
        """Make one more replica serve, and leave so many standbys."""
        known, before = {pod["metadata"]["name"] for pod in self.shop.replicas("serving")}, self._decided()
        ask(self.shop, len(known) + 1, standbys)
        decided = wait_until("a decision", lambda: (at := self._decided()) != before and at, timeout=30, every=0.2)
        pod = wait_until("one more to serve", lambda: self._newcomer(known), timeout=JOIN_SECONDS, every=LOOK_SECONDS)
        name, address = pod["metadata"]["name"], pod["status"]["podIP"]
        answered = wait_until(
            f"the first read of {address}", lambda: self.prober.first_after(address, decided), timeout=30
        )
        member = wait_until(f"status of {name}", lambda: self._find_member(name), timeout=15)
        return Joined(name, decided, answered, member.get("method", ""), member.get("source", ""))

    def leave(self, serving: int, standbys: int = 0) -> None:
        """Back to so many, and nobody on the way out."""
        ask(self.shop, serving, standbys)
        self.shop.wait_counts(serving=serving, standbys=standbys, timeout=200)
        self.settle(serving + standbys)
        time.sleep(SILENCE_SECONDS)

    def settle(self, members: int) -> None:
        """What one measurement left to be freed and written is not the next one's to wait for."""
        wait_until("only the members asked for", lambda: self._is_settled(members), timeout=300, every=LOOK_SECONDS)
        wait_until("a snapshot that is fresh", lambda: is_snapshot_fresh(self.shop), timeout=60, every=LOOK_SECONDS)
        os.sync()

    def exchange_copies(self, serving: int) -> None:
        """Until all that serve share the snapshot's data: one more is restored, and one of them leaves."""
        for _ in range(MOST_EXCHANGES):
            if not any(member.get("method") == BASE_BACKUP for member in self.members()):
                return
            provide(self.shop, method=SNAPSHOT)
            self.join()
            self.leave(serving)
        message = f"a copy still serves after {MOST_EXCHANGES} exchanges, and the disk has no room for another"
        raise AssertionError(message)

    def members(self) -> list[Manifest]:
        """The members as status lists them."""
        members: list[Manifest] = self._status().get("members") or []
        return members

    def serving(self) -> list[Manifest]:
        """The pods that serve, by name."""
        return sorted(self.shop.replicas("serving"), key=lambda pod: str(pod["metadata"]["name"]))

    def newest_snapshot(self) -> str:
        """The snapshot that a replica would be restored from."""
        names = [each["name"] for each in self._status().get("snapshots") or [] if each.get("ready")]
        assert names, "the set has no snapshot that is ready"
        name: str = names[0]
        return name

    def _find_member(self, name: str) -> Manifest | None:
        return next((member for member in self.members() if member["name"] == name and member.get("method")), None)

    def _newcomer(self, known: set[str]) -> Manifest | None:
        return next((pod for pod in self.shop.replicas("serving") if pod["metadata"]["name"] not in known), None)

    def _is_settled(self, members: int) -> bool:
        pods, claims = (len(self.shop.kubectl.list(kind, MEMBERS)) for kind in ("pods", "pvc"))
        unbound = [volume for volume in Kubectl("default").list("pv") if volume["status"].get("phase") != "Bound"]
        assert (pods, claims, len(unbound)) == (members, members, 0), (
            f"{pods} pods, {claims} claims, {len(unbound)} volumes on their way out"
        )
        return True

    def _status(self) -> Manifest:
        return (self.shop.kubectl.get("dbrs", SET) or {}).get("status") or {}

    def _decided(self) -> float:
        decision = self._status().get("lastDecision")
        return parse_time(decision["at"]) if decision else 0.0
