"""What the rules need to remember of earlier observations: who led, who answered, who left the Service, since when."""

from dataclasses import dataclass, field

from e2e.invariants.facts import Key, Observation

TAKEOVER_SECONDS = 15.0
"""From the last sign of a leader until another one acts; nothing is held against anybody before that."""


@dataclass(slots=True)
class Tracks:
    """Changed by `update` alone, once an observation."""

    led_since: float | None = None
    lost_at: float | None = None
    answers_since: dict[Key, float] = field(default_factory=dict)
    left_at: dict[Key, float] = field(default_factory=dict)
    _leader: str = ""
    _renewed_at: float | None = None
    _listed: set[Key] = field(default_factory=set)

    def update(self, now: Observation) -> None:
        """Take an observation in."""
        self._follow_leader(now)
        self._follow_servers(now)
        self._follow_service(now)

    @property
    def settled_at(self) -> float:
        """When the leader of now could be expected to act; never while there is none."""
        if self.led_since is None:
            return float("inf")
        return self.led_since if self.lost_at is None else max(self.led_since, self.lost_at + TAKEOVER_SECONDS)

    def takeover_within(self, at: float, seconds: float) -> float:
        """How much later than usual something may be, because the leader was lost within the last so many seconds."""
        return TAKEOVER_SECONDS if self.lost_at is not None and self.lost_at >= at - seconds else 0.0

    def _follow_leader(self, now: Observation) -> None:
        if now.leader != self._leader:
            if self._leader:
                self.lost_at = self._renewed_at if self._renewed_at is not None else now.at
            self.led_since = now.at if now.leader else None
        self._leader = now.leader
        if now.leader:
            self._renewed_at = now.renewed_at if now.renewed_at is not None else now.at

    def _follow_servers(self, now: Observation) -> None:
        known = self.answers_since
        answering = [guard.key for guard in now.guards if now.server(guard.key)]
        self.answers_since = {key: known.get(key, now.at) for key in answering}

    def _follow_service(self, now: Observation) -> None:
        listed = {pod.key for one in now.sets for pod in now.serving(one)}
        for key in self._listed - listed:
            self.left_at[key] = now.at
        for key in listed:
            self.left_at.pop(key, None)
        there = {pod.key for pod in now.pods}
        self.left_at = {key: at for key, at in self.left_at.items() if key in there}
        self._listed = listed
