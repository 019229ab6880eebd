"""One more replica for a full one: who asks for it, what became of it, and what a row of passes shows of the sessions.

Sessions of a pool do not move by themselves. A full replica stays full however many others there are, so it asks once,
and not again before the one that was added has taken sessions. While any replica stands empty nobody asks: another one
would stay as empty.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from headroom.model.frozen import FrozenMap
from headroom.model.numbers import count_of
from headroom.policy.replicaset.read_rate import Counter

FULL = 0.90
"""One replica this full asks for another, however low the average: kube-proxy spreads connections at random."""
EMPTY = 0.10
"""With no more sessions than this, a replica is taken for one that sessions do not find."""
GAIN_SECONDS = 60.0
"""Time for sessions to spread to a new replica, before it is reported that they do not."""
RETRY_SECONDS = 3600.0
"""After one that was added has left again without sessions, nobody asks for so long: the pools may change meanwhile."""
PLATEAU_SECONDS = 60.0
"""After so long at one count, all of them busy, sessions are taken for those of a pool that is at its limit."""
PLATEAU_BUSY = 0.90
"""A pool at its limit hands each session to the next client at once, so nearly all of them are active at any moment."""
PLATEAU_LEAST = 5
"""Fewer sessions may well stay the same by themselves."""


@dataclass(frozen=True, slots=True)
class Connections:
    """Client sessions of one serving replica: all, those that run a statement, and how many it allows.

    `takes_new`: the Service sends it new ones. A replica that is not ready may be empty for that reason alone.
    `is_estimate`: it has no connection left, so that nobody could count. `counter` has its transactions, if known.
    """

    sessions: int
    active: int
    capacity: int
    name: str = ""
    takes_new: bool = True
    is_estimate: bool = False
    counter: Counter | None = None

    @property
    def used(self) -> float:
        """Sessions as a share of what it allows."""
        return self.sessions / self.capacity


@dataclass(frozen=True, slots=True)
class Addition:
    """Another replica for a full one, decided on at `at`; with it there are to be `count` that serve.

    `count` is None where an earlier process decided. `came_at`: since when so many serve. `has_share`: since then all
    others beside the full one have had sessions.
    """

    at: float
    count: int | None = None
    came_at: float | None = None
    has_share: bool = False

    def observe(self, count: int, desired: int, now: float) -> "Addition":
        """Take up one pass, in which `count` serve and `desired` are to."""
        wanted = desired if self.count is None else self.count
        if self.came_at is not None or count < wanted:
            return replace(self, count=wanted)
        # When it came was seen by an earlier process only: a change of leader alone is not news.
        return replace(self, count=wanted, came_at=self.at if self.count is None else now)

    def is_there(self, desired: int) -> bool:
        """Whether it serves, as far as it was not decided to take it away again."""
        return self.came_at is not None and not self.has_left(desired)

    def has_left(self, desired: int) -> bool:
        """Whether it was decided since that so many are not needed."""
        return self.count is not None and desired < self.count

    def is_over(self, desired: int, now: float, *, is_relieved: bool) -> bool:
        """Whether its full replica may ask again; `is_relieved`: that one is at or below its target."""
        if self.came_at is None:
            return self.has_left(desired)
        is_late = self.has_left(desired) and now - self.at >= RETRY_SECONDS
        return is_relieved and (self.has_share or is_late)

    def was_in_vain(self, desired: int, now: float) -> bool:
        """Whether it served, took no sessions and left, not long ago."""
        came_and_left = self.came_at is not None and self.has_left(desired)
        return came_and_left and not self.has_share and now - self.at < RETRY_SECONDS


@dataclass(frozen=True, slots=True)
class Growth:
    """`asked`: what each full replica, by name, was given; `full`: since when each of those that are full has been.

    `plateau` is the number of sessions on all replicas and since when it has stood there with nearly all of them
    active; None while it moves or they idle.
    """

    asked: FrozenMap[str, Addition] = field(default_factory=FrozenMap)
    plateau: tuple[int, float] | None = None
    full: FrozenMap[str, float] = field(default_factory=FrozenMap)

    def observe(
        self,
        readings: Iterable[Connections | None],
        names: Iterable[str],
        target: float,
        now: float,
        *,
        count: int,
        desired: int,
    ) -> "Growth":
        """Take up one pass; `names` are those of the serving replicas, of which some may not have been read. `count` of
        them are confirmed, and `desired` are to serve.
        """
        found, serving = list(readings), set(names)
        known = [reading for reading in found if reading is not None and reading.capacity > 0]
        is_whole = len(known) == len(found)
        relieved = {reading.name for reading in known if reading.used <= target}
        asked = {}
        for name, before in self.asked.items():
            addition = before.observe(count, desired, now)
            if is_whole and addition.is_there(desired) and _share_sessions(known, name):
                addition = replace(addition, has_share=True)
            if name in serving and not addition.is_over(desired, now, is_relieved=name in relieved):
                asked[name] = addition
        plateau = self._observe_plateau(known, now) if is_whole else self.plateau
        return Growth(FrozenMap(asked), plateau, self._observe_full(known, serving, now))

    def _observe_full(self, known: Sequence[Connections], serving: set[str], now: float) -> FrozenMap[str, float]:
        """One that could not be read is as full as it was."""
        unread = serving - {reading.name for reading in known}
        full = {reading.name for reading in known if reading.used >= FULL} | (unread & self.full.keys())
        return FrozenMap((name, self.full.get(name, now)) for name in full)

    def _observe_plateau(self, known: Sequence[Connections], now: float) -> tuple[int, float] | None:
        sessions, active = sum(reading.sessions for reading in known), sum(reading.active for reading in known)
        if sessions < PLATEAU_LEAST or active < PLATEAU_BUSY * sessions or any(each.is_estimate for each in known):
            return None
        is_same = self.plateau is not None and self.plateau[0] == sessions
        return self.plateau if is_same else (sessions, now)

    def find_plateau(self, now: float) -> int | None:
        """The number of sessions that may be a pool's limit and not the demand; None if nothing points to that."""
        if self.plateau is None or now - self.plateau[1] < PLATEAU_SECONDS:
            return None
        return self.plateau[0]

    def record_asked(self, names: Iterable[str], count: int, now: float) -> "Growth":
        """Another replica was decided on for these; with it `count` are to serve."""
        return replace(self, asked=FrozenMap({**self.asked, **dict.fromkeys(names, Addition(now, count))}))

    def find_new(self, known: Iterable[Connections]) -> list[Connections]:
        """Full replicas that no other was added for yet, the fullest first."""
        return [reading for reading in _sort_full(known) if reading.name not in self.asked]

    def find_asking(self, known: Sequence[Connections], desired: int, now: float) -> Connections | None:
        """The full replica that asks for another one; None while another would not help."""
        if _find_empty(known) is not None or any(each.was_in_vain(desired, now) for each in self.asked.values()):
            return None
        return next(iter(self.find_new(known)), None)

    def count_promised(self, known: Sequence[Connections]) -> int:
        """How many are to serve once what was decided on for replicas that are still full has come; 0 without any."""
        if _find_empty(known) is not None:
            return 0
        additions = (self.asked.get(reading.name) for reading in _sort_full(known))
        return max((each.count or 0 for each in additions if each is not None and each.came_at is None), default=0)

    def describe_stuck(self, known: Sequence[Connections], now: float) -> str:
        """Names the full replica whose sessions do not move, although others have room; empty if there is none."""
        empty = _find_empty(known)
        for reading in _sort_full(known):
            addition = self.asked.get(reading.name)
            came_at = addition.came_at if addition is not None else None
            since = max(self.full.get(reading.name, now), came_at or 0.0)
            if came_at is not None:
                although = "another replica was added for it"
            elif empty is not None:
                although = f"{empty.name} beside it has {count_of(empty.sessions, 'session', 'sessions')}"
            else:
                continue
            if now - since < GAIN_SECONDS:
                continue
            return (
                f"{reading.name} stays at {reading.used:.0%} although {although}: pooled sessions do not move by "
                "themselves; shorten the lifetime of the connections in the clients' pools, so that they connect again"
            )
        return ""


def _sort_full(known: Iterable[Connections]) -> list[Connections]:
    return sorted((reading for reading in known if reading.used >= FULL), key=lambda reading: -reading.used)


def _find_empty(known: Iterable[Connections]) -> Connections | None:
    """The emptiest replica if sessions could go there and do not."""
    empty = [reading for reading in known if reading.takes_new and reading.used <= EMPTY]
    return min(empty, key=lambda reading: reading.used, default=None)


def _share_sessions(known: Iterable[Connections], name: str) -> bool:
    """Whether all others beside this one have sessions."""
    others = [reading for reading in known if reading.name != name and reading.takes_new]
    return bool(others) and all(reading.used > EMPTY for reading in others)
