"""Timelines: where one forked off from another, and how far a copy of a server got on which of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from headroom.model.database import Lsn, ReplicaProbe

FIRST_TIMELINE = 1
"""The one that a server begins with: it forked off from nothing, and has no history file."""
_LINE = re.compile(r"^\s*(\d+)\s+([0-9A-Fa-f]+/[0-9A-Fa-f]+)")


@dataclass(frozen=True, slots=True)
class TimelineHistory:
    """The timelines that led to `timeline`; `ends` has, by timeline, where the next one forked off from it."""

    timeline: int
    ends: tuple[tuple[int, Lsn], ...] = ()

    @classmethod
    def parse(cls, timeline: int, text: str) -> Self:
        """Read a history file, one line for each earlier timeline; raises ValueError if none can be read."""
        found = (_LINE.match(line) for line in text.splitlines())
        ends = tuple((int(match[1]), Lsn.parse(match[2])) for match in found if match is not None)
        if not ends:
            raise ValueError(f"the history of timeline {timeline} names no earlier timeline")
        return cls(timeline, ends)

    def find_end(self, timeline: int) -> Lsn | None:
        """Where the next timeline forked off from this one; None if this one is not an ancestor."""
        return next((end for ancestor, end in self.ends if ancestor == timeline), None)


@dataclass(frozen=True, slots=True)
class WalPosition:
    """The newest timeline of which a member has WAL, and the highest position that it received or replayed on it."""

    timeline: int
    lsn: Lsn

    def advance(self, other: "WalPosition") -> "WalPosition":
        """The further of two. A restarted server begins to receive below what it has, on the old timeline perhaps."""
        if other.timeline == self.timeline:
            return other if other.lsn > self.lsn else self
        return max(self, other, key=lambda position: position.timeline)


def find_position(probe: ReplicaProbe | None) -> Lsn | None:
    """Where the WAL that a replica holds ends: after a restart it replays before it receives."""
    known = [lsn for lsn in (probe.receive_lsn, probe.replay_lsn) if lsn is not None] if probe else []
    return max(known, default=None)


def read_position(probe: ReplicaProbe) -> WalPosition | None:
    """How far a replica got; None if it is none, or if that cannot be told."""
    timeline = probe.timeline if probe.timeline is not None else probe.wal_timeline
    lsn = find_position(probe)
    if timeline is None or lsn is None or not probe.is_in_recovery:
        return None
    return WalPosition(timeline, lsn)


def advance_all(before: Mapping[str, WalPosition], found: Mapping[str, WalPosition | None]) -> dict[str, WalPosition]:
    """The positions by name, of all that are in `found`; where nothing new is known the old one stays."""
    after = {}
    for name, position in found.items():
        known = before.get(name)
        if position is not None:
            after[name] = position if known is None else known.advance(position)
        elif known is not None:
            after[name] = known
    return after
