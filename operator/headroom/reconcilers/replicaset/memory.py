"""What a process remembers of a set between passes: hints and measurements, never what a decision's safety rests on."""

import asyncio
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.manifests.pod import Upstream
from headroom.model.database import ConnectionTarget, ReplicaProbe
from headroom.model.replica import Lag
from headroom.policy.replicaset.autoscaling import Recommendation
from headroom.policy.replicaset.replay_lag import LagVerdict
from headroom.ports.postgres import ReplicaLink
from headroom.reasons import Reason

SAMPLES = 20
LONGEST_WINDOW_SECONDS = 3600.0


@dataclass(slots=True)
class MemberMemory:
    """One pod's link, and what its last readings were; times are monotonic seconds."""

    pod_uid: str
    seen_since: float
    link: ReplicaLink | None = None
    link_target: ConnectionTarget | None = None
    pending: asyncio.Task[ReplicaProbe] | None = None
    probe: ReplicaProbe | None = None
    verdict: LagVerdict | None = None
    lag: Lag | None = None
    answered_at: float | None = None
    unanswered: int = 0
    silence: str = ""
    counted_at: float = 0.0
    within: int = 0
    beyond: int = 0
    refusal: Reason | None = None
    refused_since: float = 0.0
    position: int | None = None
    broken_seconds: float = 0.0
    streams_since: float | None = None
    noted_at: float | None = None


@dataclass(slots=True)
class LeadTimes:
    """The last measured times of one way to add capacity, in seconds."""

    samples: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))

    def add(self, seconds: float) -> None:
        """Keep a measurement."""
        self.samples.append(seconds)

    @property
    def p90(self) -> float | None:
        """90th percentile (nearest rank) of what is kept; None of nothing."""
        if not self.samples:
            return None
        ordered = sorted(self.samples)
        return ordered[math.ceil(0.9 * len(ordered)) - 1]


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """What a pod made now would be made from; known only while the primary is."""

    config: Mapping[str, Any]
    upstream: Upstream
    template: str

    @property
    def config_name(self) -> str:
        """Name of the ConfigMap."""
        return str(self.config["metadata"]["name"])


@dataclass(slots=True)
class SetMemory:
    """All of one set; rebuilt from status where it matters when a process starts."""

    members: dict[str, MemberMemory] = field(default_factory=dict)
    target: ConnectionTarget | None = None
    replication_secret: str = ""
    client_certificate_secret: str = ""
    guard_read_at: float | None = None
    has_guard: bool = False
    copies: dict[str, tuple[tuple[str, int], float]] = field(default_factory=dict)
    peaceful_restarts: dict[str, int] = field(default_factory=dict)
    idle_slots: dict[str, float] = field(default_factory=dict)
    outage_since: float | None = None
    has_seen_primary: bool = False
    desired: int | None = None
    history: deque[Recommendation] = field(default_factory=deque)
    warm: LeadTimes = field(default_factory=LeadTimes)
    base_backup: LeadTimes = field(default_factory=LeadTimes)
    attempts: int = 0
    failed_at: float | None = None
    failure: tuple[Reason, str] | None = None
    generation: int | None = None
    spec: ReplicaSetSpec | None = None
    pod_template: tuple[object, PodTemplate] | None = None
    routing_digest: str = ""
    routing_checked_at: float | None = None
    is_service_refused: bool = False
    slot_names: set[str] = field(default_factory=set)
    """Slots as last seen on the primary, and those asked for since."""
    measured: set[str] = field(default_factory=set)
    is_restored: bool = False

    def recommend(self, at: float, count: int) -> None:
        """Remember what was wanted, as far back as the longest stabilization window reaches."""
        self.history.append(Recommendation(at, count))
        while at - self.history[0].at > LONGEST_WINDOW_SECONDS:
            self.history.popleft()

    def fail(self, at: float, reason: Reason, message: str) -> None:
        """Count an attempt that was given up."""
        self.attempts += 1
        self.failed_at, self.failure = at, (reason, message)

    def succeed(self) -> None:
        """Forget failed attempts."""
        self.attempts, self.failed_at, self.failure = 0, None, None
