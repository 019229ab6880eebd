"""The series of one size: from a snapshot, copied from a standby, copied from the primary; each beside by hand.

Before each replica there is a calm time, in which nothing is made. Ours and the one by hand take turns at going first,
so that neither always finds what the other left in the page cache.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from e2e.bench.replicas.bench import BASE_BACKUP, SNAPSHOT, Bench, Joined
from e2e.bench.replicas.by_hand import ByHand, copy_by_hand, restore_by_hand
from e2e.bench.replicas.cost import PRIMARY_POD, Cost, Window, count_cost, list_uids
from e2e.bench.replicas.meter import Meter
from e2e.bench.replicas.scene import SERVING, VOLUME, provide
from e2e.bench.replicas.writer import Writer
from e2e.lab import shop as objects
from e2e.lab.kubectl import Manifest

SHORT_SECONDS, MANY, FEW = 60.0, 10, 3
"""What takes less than a minute is measured ten times, what takes longer three times."""
CALM_SECONDS, MOST_CALM_SECONDS = 10.0, 30.0
"""A calm time is as long as the last work by hand, within these bounds: a p99 needs some thousand commits in all."""


class Kind(StrEnum):
    """How a cold replica is made."""

    SNAPSHOT = "snapshot"
    STANDBY = "basebackup_standby"
    PRIMARY = "basebackup_primary"


WANTED = {
    Kind.SNAPSHOT: {"method": SNAPSHOT, "source": "Auto"},
    Kind.STANDBY: {"method": BASE_BACKUP, "source": "Standby"},
    Kind.PRIMARY: {"method": BASE_BACKUP, "source": "Primary"},
}


@dataclass(frozen=True, slots=True)
class Windows:
    """One turn: the calm time, ours, and the one by hand; `ours` is None if it was not made as it was asked for."""

    calm: Window
    ours: Window | None
    hand: Window
    bare_seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """The same with what each cost."""

    calm: Cost
    ours: Cost | None
    hand: Cost
    bare_seconds: float


@dataclass(slots=True)
class Series:
    """The instruments of one size."""

    bench: Bench
    writer: Writer
    meter: Meter
    times: int | None = None
    calm_seconds: float = CALM_SECONDS
    is_tight: bool = False

    def run(self, kind: Kind, gib: int) -> list[Sample]:
        """All turns of one kind."""
        provide(self.bench.shop, **WANTED[kind])
        turns: list[Windows] = []
        while len(turns) < self._count_turns(turns):
            turns.append(self._turn(kind, turns))
            self.bench.say(f"{kind} {gib} GiB {len(turns)}/{self._count_turns(turns)}: {describe(turns[-1])}")
        self.writer.catch_up(max(turn.hand.end for turn in turns))
        return [self._price(turn) for turn in turns]

    def _count_turns(self, turns: list[Windows]) -> int:
        return wanted_turns(turns) if self.times is None else self.times

    def _turn(self, kind: Kind, turns: list[Windows]) -> Windows:
        self.watch()
        calm = self.stay_calm(turns[-1].hand.seconds if turns else 0.0, self._first_serving())
        if len(turns) % 2:
            hand = self._by_hand(kind)
            ours = self._ours(kind)
        else:
            ours = self._ours(kind)
            hand = self._by_hand(kind)
        made, source = hand
        return Windows(calm, ours, Window(made.asked, made.ended, source), made.bare)

    def stay_calm(self, seconds: float, source: str) -> Window:
        """Let time pass in which nothing is made."""
        start = time.time()
        time.sleep(min(max(seconds, self.calm_seconds), MOST_CALM_SECONDS))
        return Window(start, time.time(), source)

    def watch(self, *others: Manifest) -> None:
        """Meter the primary, all who serve now, and others."""
        primary = self.bench.shop.kubectl.get("pod", PRIMARY_POD)
        self.meter.watch(list_uids([*([primary] if primary else []), *self.bench.serving(), *others]))

    def _ours(self, kind: Kind) -> Window | None:
        self.watch()
        joined = self.bench.join()
        problem = find_problem(kind, joined)
        if problem:
            self.bench.say(f"no sample: {joined.name} {problem}")
        self.bench.leave(SERVING)
        if self.is_tight:
            self.bench.exchange_copies(SERVING)
            provide(self.bench.shop, **WANTED[kind])
        if problem:
            return None
        return Window(joined.decided, joined.answered, joined.source if kind is Kind.STANDBY else "")

    def _by_hand(self, kind: Kind) -> tuple[ByHand, str]:
        shop = self.bench.shop
        self.watch()
        if kind is Kind.SNAPSHOT:
            made, source = restore_by_hand(shop, VOLUME, self.bench.newest_snapshot()), ""
        elif kind is Kind.STANDBY:
            pod = self.bench.serving()[0]
            source = pod["metadata"]["name"]
            made = copy_by_hand(shop, VOLUME, pod["status"]["podIP"])
        else:
            made, source = copy_by_hand(shop, VOLUME, objects.PRIMARY), ""
        self.bench.settle(SERVING)
        return made, source

    def _first_serving(self) -> str:
        name: str = self.bench.serving()[0]["metadata"]["name"]
        return name

    def _price(self, turn: Windows) -> Sample:
        calm, hand = (count_cost(each, self.meter, self.writer.writes) for each in (turn.calm, turn.hand))
        ours = count_cost(turn.ours, self.meter, self.writer.writes) if turn.ours is not None else None
        return Sample(calm, ours, hand, turn.bare_seconds)


def wanted_turns(turns: Sequence[Windows]) -> int:
    """How many are measured, by how long the first one took by hand."""
    return FEW if turns and turns[0].hand.seconds >= SHORT_SECONDS else MANY


def find_problem(kind: Kind, joined: Joined) -> str:
    """Why a replica was not made in the way that is measured, as a predicate; empty if it was."""
    method = WANTED[kind]["method"]
    if joined.method != method:
        return f"was made by {joined.method or 'nobody knows what'}, not by {method}"
    is_primary = joined.source == "primary"
    if kind is not Kind.SNAPSHOT and is_primary is not (kind is Kind.PRIMARY):
        return f"was copied from {joined.source}"
    return "" if joined.source else "has no source in status"


def describe(turn: Windows) -> str:
    """One turn as a line."""
    ours = f"{turn.ours.seconds:.1f} s" if turn.ours is not None else "no sample"
    return f"{ours}, bare {turn.bare_seconds:.1f} s, by hand {turn.hand.seconds:.1f} s"
