"""The witness: a pod beside the servers, spoken to through one `kubectl exec`; its samples as facts."""

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from e2e.invariants.facts import (
    Key,
    MemberFacts,
    NewRead,
    Observation,
    PodFacts,
    QueryCut,
    ServerFacts,
    SessionFacts,
    SlotFacts,
)
from e2e.lab import shop as objects

Sample = Mapping[str, Any]
Targets = dict[str, Any]
LOGINS = {
    "owner": {"user": objects.OWNER, "password": objects.PASSWORD},
    "monitor": {"user": objects.MONITOR, "password": objects.PASSWORD},
    "reader": {"user": objects.READER, "password": objects.PASSWORD},
}
ROLES = ("serving", "standby", "draining", "provisioning")
RESTART_SECONDS = 2.0
MOST_EVENTS = 200
MOST_ERRORS = 40
FORGET_SECONDS = 60.0


def build_targets(now: Observation, linger_seconds: float) -> Targets:
    """What the witness should look at: primaries of guards, members that have an address, read Services."""
    guards = {guard.key: guard for guard in now.guards}
    primaries = {
        text(key): {"host": guard.host, "port": guard.port, "database": guard.database} for key, guard in guards.items()
    }
    members, services = {}, {}
    for one in now.sets:
        guard = guards.get(one.guard)
        if guard is None:
            continue
        common = {"port": 5432, "database": guard.database, "primary": text(one.guard)}
        services[text(one.service)] = {"host": ".".join(reversed(one.service)), **common}
        for pod in filter(_is_answering, now.pods_of(one)):
            members[text(pod.key)] = {"host": pod.ip, **common}
    return {
        "logins": LOGINS,
        "linger": linger_seconds,
        "primaries": primaries,
        "members": members,
        "services": services,
    }


def _is_answering(pod: PodFacts) -> bool:
    return bool(pod.ip) and pod.role in ROLES


def text(key: Key) -> str:
    """A key as the witness writes it."""
    return "/".join(key)


def parse_key(found: str) -> Key:
    """A key as it was before."""
    namespace, name = found.split("/")
    return namespace, name


def parse_server(sample: Sample, seen_at: float) -> ServerFacts:
    """A sample of a primary."""
    limit = sample["slot_wal_limit"]
    return ServerFacts(
        guard=parse_key(sample["key"]),
        seen_at=seen_at,
        is_primary=not sample["in_recovery"],
        system_id=sample["system_id"],
        timeline=sample["timeline"] or 0,
        slots=tuple(
            SlotFacts(slot["name"], slot["active"], None if slot["kept"] is None else int(slot["kept"]))
            for slot in sample["slots"]
        ),
        synchronous=tuple(sample["synchronous"]),
        slot_wal_limit=limit if limit is not None and limit >= 0 else None,
        forks={int(timeline): position for timeline, position in sample["forks"].items()},
    )


def parse_member(sample: Sample, seen_at: float) -> MemberFacts:
    """A sample of a member."""
    return MemberFacts(
        pod=parse_key(sample["key"]),
        seen_at=seen_at,
        in_recovery=sample["in_recovery"],
        system_id=sample["system_id"],
        timeline=sample["timeline"],
        is_streaming=sample["streaming"],
        position=int(sample["position"] or 0),
        staleness=sample["staleness"],
        sessions=tuple(
            SessionFacts(session["pid"], float(session["age"]), session["user"]) for session in sample["sessions"]
        ),
    )


@dataclass(slots=True)
class Samples:
    """What the witness has said: the last of each server, the events since they were taken; a thread writes."""

    servers: dict[Key, ServerFacts] = field(default_factory=dict)
    members: dict[Key, MemberFacts] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    _reads: list[NewRead] = field(default_factory=list)
    _cuts: list[QueryCut] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, sample: Sample, at: float) -> None:
        """Take a line of the witness."""
        with self._lock:
            match sample["kind"]:
                case "primary":
                    server = parse_server(sample, at)
                    self.servers[server.guard] = server
                case "member":
                    member = parse_member(sample, at)
                    self.members[member.pod] = member
                case "read" if sample["staleness"] is not None:
                    found = NewRead(parse_key(sample["key"]), sample["address"], sample["staleness"])
                    self._reads = [*self._reads[-MOST_EVENTS:], found]
                case "cut":
                    cut = QueryCut(
                        parse_key(sample["key"]), sample["address"], sample["code"], sample["message"], sample["ran"]
                    )
                    self._cuts = [*self._cuts[-MOST_EVENTS:], cut]
                case "error":
                    self.complain(f"{sample['key']}: {sample['message']}")

    def complain(self, message: str) -> None:
        """Keep what went wrong, for the report of a failed test."""
        self.errors = [*self.errors[-MOST_ERRORS:], message]

    def collect(self) -> dict[str, Any]:
        """The parts of an observation that the witness tells; each event once."""
        with self._lock:
            reads, self._reads = tuple(self._reads), []
            cuts, self._cuts = tuple(self._cuts), []
            oldest = time.monotonic() - FORGET_SECONDS
            self.servers = {key: server for key, server in self.servers.items() if server.seen_at > oldest}
            self.members = {key: member for key, member in self.members.items() if member.seen_at > oldest}
            return {"servers": dict(self.servers), "members": dict(self.members), "reads": reads, "cuts": cuts}


@dataclass(slots=True)
class Witness:
    """The process that runs `witness.py`, begun again when it ends by itself."""

    command: Sequence[str]
    samples: Samples = field(default_factory=Samples)
    _process: "subprocess.Popen[str] | None" = None
    _aimed: str = ""
    _tried_at: float = float("-inf")

    def aim(self, targets: Targets) -> None:
        """Tell it what to look at, if that has changed; start it if it is not running."""
        if self._process is None or self._process.poll() is not None:
            if time.monotonic() - self._tried_at < RESTART_SECONDS:
                return
            self._start()
        line = json.dumps(targets, sort_keys=True)
        if line != self._aimed:
            with contextlib.suppress(OSError):
                self._send(line)
                self._aimed = line

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
            self._process.terminate()
            self._process.wait(timeout=10)

    def _start(self) -> None:
        self.stop()
        self._tried_at, self._aimed = time.monotonic(), ""
        self._process = subprocess.Popen(
            list(self.command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        threading.Thread(target=self._read, args=(self._process,), name="witness", daemon=True).start()

    def _send(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                try:
                    self.samples.take(json.loads(line), time.monotonic())
                except (ValueError, KeyError, TypeError) as error:
                    self.samples.complain(f"{error!r} in {line[:200]}")
