"""What the rules need to remember of earlier observations: who led, who answered, who left the Service, since when."""

from dataclasses import dataclass, field

from e2e.invariants.excuses import Excuse, find_excuse
from e2e.invariants.facts import Key, Observation, PodFacts, SetFacts

TAKEOVER_SECONDS = 15.0
"""From the last sign of a leader until another one acts; nothing is held against anybody before that."""
EXCUSED_SECONDS = 3.0
"""A member that leaves is not said to be old any more, while the proxies still lead to it."""
BLIP_SECONDS = 5.0
"""A primary that is silent for no longer pauses what is counted; after that it begins anew. As the operator has it."""
LONGEST_REST = 600.0
"""A standby that did not come into the Service is not tried again for up to so long."""


@dataclass(slots=True)
class Tracks:
    """Changed by `update` alone, once an observation."""

    led_since: float | None = None
    lost_at: float | None = None
    answers_since: dict[Key, float] = field(default_factory=dict)
    left_at: dict[Key, float] = field(default_factory=dict)
    put_back_at: dict[Key, float] = field(default_factory=dict)
    _leader: str = ""
    _renewed_at: float | None = None
    _answered: dict[Key, tuple[float, float]] = field(default_factory=dict)
    _listed: set[Key] = field(default_factory=set)
    _roles: dict[Key, str] = field(default_factory=dict)
    _excused: dict[Key, tuple[Excuse, float]] = field(default_factory=dict)

    def update(self, now: Observation) -> None:
        """Take an observation in."""
        self._follow_leader(now)
        self._follow_servers(now)
        self._follow_service(now)
        self._follow_roles(now)
        self._follow_excuses(now)

    @property
    def settled_at(self) -> float:
        """When the leader of now could be expected to act; never while there is none."""
        if self.led_since is None:
            return float("inf")
        return self.led_since if self.lost_at is None else max(self.led_since, self.lost_at + TAKEOVER_SECONDS)

    @property
    def succeeded_at(self) -> float:
        """When the leader of now came after another one; long ago if it is the first."""
        return self.led_since if self.led_since is not None and self.lost_at is not None else float("-inf")

    @property
    def late_since(self) -> float:
        """The same if nobody led for longer than a takeover: before that nobody could act; else long ago."""
        is_late = self.lost_at is not None and self.succeeded_at - self.lost_at > TAKEOVER_SECONDS
        return self.succeeded_at if is_late else float("-inf")

    def takeover_within(self, at: float, seconds: float) -> float:
        """How much later than usual something may be, because the leader was lost within the last so many seconds."""
        return TAKEOVER_SECONDS if self.lost_at is not None and self.lost_at >= at - seconds else 0.0

    def excuse(self, now: Observation, one: SetFacts, pod: PodFacts | None) -> Excuse:
        """What is said of a pod's data now, or was until a moment ago."""
        before = self._excused.get(pod.key) if pod is not None else None
        return max(find_excuse(now, one, pod), before[0] if before is not None else Excuse.NONE)

    def _follow_leader(self, now: Observation) -> None:
        if now.leader != self._leader:
            if self._leader:
                self.lost_at = self._renewed_at if self._renewed_at is not None else now.at
            self.led_since = now.at if now.leader else None
        self._leader = now.leader
        if now.leader:
            self._renewed_at = now.renewed_at if now.renewed_at is not None else now.at

    def _follow_servers(self, now: Observation) -> None:
        answering = [guard.key for guard in now.guards if now.server(guard.key)]
        self.answers_since = {key: self._find_since(key, now.at) for key in answering}
        self._answered |= {key: (since, now.at) for key, since in self.answers_since.items()}

    def _find_since(self, key: Key, at: float) -> float:
        """Since when a server answers, a short silence left out."""
        if key in self.answers_since:
            return self.answers_since[key]
        since, last = self._answered.get(key, (at, at))
        return since + at - last if at - last <= BLIP_SECONDS else at

    def _follow_service(self, now: Observation) -> None:
        listed = {pod.key for one in now.sets for pod in now.serving(one)}
        for key in self._listed - listed:
            self.left_at[key] = now.at
        for key in listed:
            self.left_at.pop(key, None)
        there = {pod.key for pod in now.pods}
        self.left_at = {key: at for key, at in self.left_at.items() if key in there}
        self._listed = listed

    def _follow_roles(self, now: Observation) -> None:
        """Who goes from serving to standby without draining did not come into the Service."""
        roles = {pod.key: pod.role for pod in now.pods}
        for key, role in roles.items():
            if role == "standby" and self._roles.get(key) == "serving":
                self.put_back_at[key] = now.at
        self.put_back_at = {key: at for key, at in self.put_back_at.items() if now.at - at < LONGEST_REST}
        self._roles = roles

    def _follow_excuses(self, now: Observation) -> None:
        self._excused = {
            key: (excuse, at) for key, (excuse, at) in self._excused.items() if now.at - at <= EXCUSED_SECONDS
        }
        for one in now.sets:
            for pod in now.serving(one):
                excuse = find_excuse(now, one, pod)
                before = self._excused.get(pod.key)
                if excuse and (before is None or excuse >= before[0]):
                    self._excused[pod.key] = (excuse, now.at)
