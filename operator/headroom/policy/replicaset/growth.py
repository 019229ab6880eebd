"""What passes remember of sessions on serving replicas: who was given another replica, and a count that stays.

Sessions of a pool do not move by themselves. A full replica stays full however many others there are, so it asks once,
until it was at or below its target again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

PLATEAU_SECONDS = 60.0
"""After so long at one count, all of them busy, sessions are taken for those of a pool that is at its limit."""
PLATEAU_BUSY = 0.90
"""A pool at its limit hands each session to the next client at once, so nearly all of them are active at any moment."""
PLATEAU_LEAST = 5
"""Fewer sessions may well stay the same by themselves."""


@dataclass(frozen=True, slots=True)
class Connections:
    """Client sessions of one serving replica: all, those that run a statement, and how many it allows."""

    sessions: int
    active: int
    capacity: int
    name: str = ""

    @property
    def used(self) -> float:
        """Sessions as a share of what it allows."""
        return self.sessions / self.capacity


@dataclass(frozen=True, slots=True)
class Growth:
    """`asked`: when each full replica, by name, was given another one beside it.

    `plateau` is the number of sessions on all replicas and since when it has stood there with nearly all of them
    active; None while it moves or they idle.
    """

    asked: Mapping[str, float] = field(default_factory=dict)
    plateau: tuple[int, float] | None = None

    def observe(
        self, readings: Iterable[Connections | None], names: Iterable[str], target: float, now: float
    ) -> "Growth":
        """Take up one pass; `names` are those of the serving replicas, of which some may not have been read."""
        found, serving = list(readings), set(names)
        known = [reading for reading in found if reading is not None and reading.capacity > 0]
        relieved = {reading.name for reading in known if reading.used <= target}
        asked = {name: at for name, at in self.asked.items() if name in serving - relieved}
        if len(known) < len(found):
            return Growth(asked, self.plateau)
        return Growth(asked, self._observe_plateau(known, now))

    def _observe_plateau(self, known: Iterable[Connections], now: float) -> tuple[int, float] | None:
        readings = list(known)
        sessions, active = sum(reading.sessions for reading in readings), sum(reading.active for reading in readings)
        if sessions < PLATEAU_LEAST or active < PLATEAU_BUSY * sessions:
            return None
        is_same = self.plateau is not None and self.plateau[0] == sessions
        return self.plateau if is_same else (sessions, now)

    def find_plateau(self, now: float) -> int | None:
        """The number of sessions that may be a pool's limit and not the demand; None if nothing points to that."""
        if self.plateau is None or now - self.plateau[1] < PLATEAU_SECONDS:
            return None
        return self.plateau[0]

    def record_asked(self, names: Iterable[str], now: float) -> "Growth":
        """Another replica was given to these."""
        return replace(self, asked={**self.asked, **dict.fromkeys(names, now)})
