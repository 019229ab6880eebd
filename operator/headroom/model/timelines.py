"""Timelines: where one forked off from another, and how far a copy of a server got on which of them."""

import re
from dataclasses import dataclass, replace
from typing import Self

from headroom.model.database import Lsn, ReplicaProbe

FIRST_TIMELINE = 1
"""The one that a server begins with: it forked off from nothing, and has no history file."""
NOWHERE = Lsn(0)
"""A position that is not known."""
_LINE = re.compile(r"^\s*([0-9]{1,10})\s+([0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})")
MOST_EARLIER = 1000
"""Timelines of a history that are kept: each is a failover or a recovery to a point in time."""


@dataclass(frozen=True, slots=True)
class TimelineHistory:
    """The timelines that led to `timeline`; `ends` has, by timeline, where the next one forked off from it."""

    timeline: int
    ends: tuple[tuple[int, Lsn], ...] = ()

    @classmethod
    def parse(cls, timeline: int, text: str) -> Self:
        """Read a history file, one line for each earlier timeline; raises ValueError if none can be read."""
        found = (_LINE.match(line) for line in text.splitlines()[-MOST_EARLIER:])
        ends = tuple((int(match[1]), Lsn.parse(match[2])) for match in found if match is not None)
        if not ends:
            raise ValueError(f"the history of timeline {timeline} names no earlier timeline")
        return cls(timeline, ends)

    def find_end(self, timeline: int) -> Lsn | None:
        """Where the next timeline forked off from this one; None if this one is not an ancestor."""
        return next((end for ancestor, end in self.ends if ancestor == timeline), None)


@dataclass(frozen=True, slots=True)
class WalPosition:
    """How far a member got on `timeline`, the newest of which it is known to have WAL.

    `replayed` is the highest that it was seen to replay on that timeline: what was replayed stays in its data. `held`
    is the highest that it received or replayed, also while nothing named the timeline: WAL that was received may end
    in the middle of a record, which is never replayed.
    """

    timeline: int
    replayed: Lsn = NOWHERE
    held: Lsn = NOWHERE

    def observe(self, probe: ReplicaProbe) -> "WalPosition":
        """Take up an answer. A restarted server begins to receive below what it has, on the old timeline perhaps."""
        found = read_position(probe)
        if found is None:
            return replace(self, held=max(self.held, find_position(probe) or self.held))
        if found.timeline != self.timeline:
            return max(self, found, key=lambda position: position.timeline)
        return WalPosition(self.timeline, max(self.replayed, found.replayed), max(self.held, found.held))


def find_position(probe: ReplicaProbe | None) -> Lsn | None:
    """Where the WAL that a replica holds ends: after a restart it replays before it receives."""
    known = [lsn for lsn in (probe.receive_lsn, probe.replay_lsn) if lsn is not None] if probe else []
    return max(known, default=None)


def read_position(probe: ReplicaProbe) -> WalPosition | None:
    """How far a replica got; None if the answer does not tell on which timeline."""
    timeline = probe.timeline if probe.timeline is not None else probe.wal_timeline
    held = find_position(probe)
    if timeline is None or held is None:
        return None
    return WalPosition(timeline, probe.replay_lsn or NOWHERE, held)
