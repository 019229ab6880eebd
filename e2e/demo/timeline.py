"""What was seen, by whom, when; seconds since the load began."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from e2e.lab.kubectl import Manifest, condition_of

ROLES = ("provisioning", "standby", "serving", "draining")
SERVER = "postgresql"
"""The container of a replica that runs its server, after those that fill or check its volume."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision the operator published: `at` in epoch seconds; `before` is None where nothing was seen before it."""

    who: str
    at: float
    before: int | None
    after: int
    words: str

    @property
    def is_move(self) -> bool:
        """Something was changed by it."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class Replica:
    """What is known of one replica: its address, when it was labelled as serving, and when it first answered.

    `labelled_at` is None for one that served before the load began. It was provisioned from `asked_at`, when its
    claim was made, to `able_at`; in between its volume was there at `bound_at`, and its server ran from `started_at`.
    """

    name: str
    address: str = ""
    was_seeded_in_load: bool = False
    is_restored: bool = False
    asked_at: float | None = None
    bound_at: float | None = None
    started_at: float | None = None
    able_at: float | None = None
    labelled_at: float | None = None
    first_read_at: float | None = None


@dataclass(frozen=True, slots=True)
class GuardSample:
    """What the guard published of the primary: `at` in seconds since the load began, a small commit, and why."""

    at: float
    state: str
    commit_ms: float | None = None
    words: str = ""


@dataclass(slots=True)
class Timeline:
    """Samples from the apps and the API server, written by many threads, read by the view and the report.

    `has_snapshots` says whether new replicas are to come from snapshots here.
    `load_before` is the machine's load average of a minute as the demo began, `loads` that since the load began.
    """

    started: float = field(default_factory=time.time)
    has_snapshots: bool = True
    queue: list[dict[str, float]] = field(default_factory=list)
    reads: list[dict[str, Any]] = field(default_factory=list)
    pods: dict[str, Manifest] = field(default_factory=dict)
    counts: list[dict[str, float]] = field(default_factory=list)
    workers: list[tuple[float, int]] = field(default_factory=list)
    guard: list[GuardSample] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    commits: list[tuple[float, float]] = field(default_factory=list)
    restored: set[str] = field(default_factory=set)
    asked: dict[str, float] = field(default_factory=dict)
    bound: dict[str, float] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    able: dict[str, float] = field(default_factory=dict)
    labelled: dict[str, float] = field(default_factory=dict)
    first_reads: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    load_before: float | None = None
    loads: list[tuple[float, float]] = field(default_factory=list)
    status: dict[str, Manifest] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def on_queue(self, line: Manifest) -> None:
        """A line of the producer: `{t, rate, deferred, backlog, lag_seconds, commits}`."""
        self.commits += [(at - self.started, took) for at, took in line.pop("commits", [])]
        self.queue.append({**line, "at": line["t"] - self.started})

    def on_reads(self, line: Manifest) -> None:
        """A line of the readers: `{t, connections, reads, errors, p50_ms, p99_ms, first}`, or `{problem}`.

        A latency is None while no read is answered.
        """
        if "problem" in line:
            self.problems.append(line["problem"])
            return
        self.reads.append({**line, "at": line["t"] - self.started})
        for address, moment in line.get("first", {}).items():
            self.first_reads.setdefault(address, moment)

    def on_pod(self, event: Manifest) -> None:
        """A change of one of the set's pods."""
        pod, now = event["object"], time.time()
        name, role = pod["metadata"]["name"], role_of(pod)
        with self._lock:
            self.asked.setdefault(name, now)
            if is_server_running(pod):
                self.running.setdefault(name, now)
            if role in ("standby", "serving"):
                self.able.setdefault(name, now)
            if role == "serving" and name in self.pods and role_of(self.pods[name]) != "serving":
                self.labelled[name] = now
            if event["type"] == "DELETED":
                self.pods.pop(name, None)
            else:
                self.pods[name] = pod
            roles = [role_of(known) for known in self.pods.values()]
            self.counts.append({"at": now - self.started, **{role: roles.count(role) for role in ROLES}})

    def on_claim(self, event: Manifest) -> None:
        """A change of one of the claims of the set, which have the names of their pods."""
        claim, now = event["object"], time.time()
        name = claim["metadata"]["name"]
        with self._lock:
            self.asked.setdefault(name, now)
            if (claim["spec"].get("dataSource") or {}).get("kind") == "VolumeSnapshot":
                self.restored.add(name)
            if (claim.get("status") or {}).get("phase") == "Bound":
                self.bound.setdefault(name, now)

    def on_workers(self, event: Manifest) -> None:
        """A change of the workers' Deployment."""
        ready = (event["object"].get("status") or {}).get("readyReplicas", 0)
        self.workers.append((time.time() - self.started, ready))

    def on_guard(self, event: Manifest) -> None:
        """A change of the DatabaseGuard's status."""
        status = event["object"].get("status") or {}
        commit_ms = status.get("commitLatencyMilliseconds")
        words = condition_of(event["object"], "SignalAvailable").get("message", "")
        self.guard.append(GuardSample(time.time() - self.started, status.get("state", "Unknown"), commit_ms, words))

    def on_resource(self, event: Manifest) -> None:
        """A change of a resource of ours: keep its status and note new decisions."""
        body = event["object"]
        who, status = f"{body['kind']}", body.get("status") or {}
        self.status[who] = status
        decision = status.get("lastDecision")
        if decision:
            last = next((one for one in reversed(self.decisions) if one.who == who), None)
            found = parse_decision(who, decision, last.after if last else None)
            if last is None or (found.at, found.words) != (last.at, last.words):
                self.decisions.append(found)

    def moves(self) -> list[Decision]:
        """The decisions of the load that changed something; what was decided before it is part of the scene."""
        return [one for one in list(self.decisions) if one.is_move and one.at >= self.started]

    def replicas(self) -> list[Replica]:
        """Every replica seen, in the order of their names."""
        with self._lock:
            pods = sorted(self.pods.items())
        return [
            Replica(
                name=name,
                address=(address := pod.get("status", {}).get("podIP", "")),
                was_seeded_in_load=parse_time(pod["metadata"]["creationTimestamp"]) >= self.started,
                is_restored=name in self.restored,
                asked_at=self.asked.get(name),
                bound_at=self.bound.get(name),
                started_at=self.running.get(name),
                able_at=self.able.get(name),
                labelled_at=self.labelled.get(name),
                first_read_at=self.first_reads.get(address),
            )
            for name, pod in pods
        ]


def role_of(pod: Manifest | None) -> str:
    """The routing role a pod carries."""
    labels: dict[str, str] = ((pod or {}).get("metadata") or {}).get("labels") or {}
    return labels.get("headroom.dev/role", "")


def is_server_running(pod: Manifest) -> bool:
    """The container of its server runs."""
    found = (pod.get("status") or {}).get("containerStatuses", [])
    return any(one["name"] == SERVER and "running" in one.get("state", {}) for one in found)


def parse_decision(who: str, entry: Manifest, last: int | None) -> Decision:
    """A `lastDecision` of either kind; a WorkerPool's does not name the size before it, the one before that does."""
    return Decision(
        who=who,
        at=parse_time(entry["at"]),
        before=entry.get("from", last),
        after=int(entry["to"] if "to" in entry else entry["allowed"]),
        words=f"{entry.get('rule', '')} {entry.get('reason', '')}: {entry.get('message', '')}",
    )


def parse_time(text: str) -> float:
    """RFC 3339 to epoch seconds."""
    return datetime.fromisoformat(text).timestamp()


def crossing(samples: Iterable[tuple[float, float]], bound: float) -> float | None:
    """When a series first exceeds a bound, by linear interpolation between its samples; None if it never does."""
    before: tuple[float, float] | None = None
    for at, value in samples:
        if value > bound:
            if before is None or before[1] >= bound:
                return at
            share = (bound - before[1]) / (value - before[1])
            return before[0] + share * (at - before[0])
        before = at, value
    return None
