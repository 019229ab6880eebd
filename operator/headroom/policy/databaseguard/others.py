"""Connections that no pool of ours holds, as they were in the last hour; those of a pool that comes are taken out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from headroom.model.frozen import FrozenMap

OTHERS_SECONDS = 3600.0
OTHERS_EVERY_SECONDS = 10.0
BRIEF_COUNTS = round(0.05 * OTHERS_SECONDS / OTHERS_EVERY_SECONDS)
"""Counts of an hour that are above its 95th percentile. In a shorter history as many are passed over: a peak of a
minute must not become the rule for an hour because a process has just started."""


@dataclass(frozen=True, slots=True)
class WorkloadConnections:
    """Connections of one workload now: the server certainly counts `connected`, and `possible` at most.

    `possible` is None before its pods were counted.
    """

    connected: int
    possible: int | None


@dataclass(frozen=True, slots=True)
class TakenConnections:
    """What was taken out for a workload that came, and the most that may be: what it possibly held when it came."""

    connections: int = 0
    most: int | None = None

    def add(self, workload: WorkloadConnections) -> "TakenConnections":
        """Take out what is certain by now."""
        most = workload.possible if self.most is None else self.most
        connected = workload.connected if most is None else min(workload.connected, most)
        return TakenConnections(max(self.connections, connected), most)

    @property
    def is_complete(self) -> bool:
        """True when nothing more may be taken: all that comes later is the growth of the workload."""
        return self.most is not None and self.connections >= self.most


@dataclass(frozen=True, slots=True)
class OthersCount:
    """Connections of others at `at`, in monotonic seconds; those of the workloads in `ours` are not among them."""

    at: float
    others: int
    ours: frozenset[str]

    def without(self, found: Mapping[str, int], measured: int) -> "OthersCount":
        """The count as if so many more connections of these workloads had been ours, and never below what others hold
        now. What a workload held at that time is not known. A count that knows it already had its connections apart.
        """
        taken = sum(connections for workload, connections in found.items() if workload not in self.ours)
        return replace(self, others=max(self.others - taken, min(self.others, measured)))


@dataclass(frozen=True, slots=True)
class OthersHistory:
    """Connections that no pool of ours holds, counted every 10 s for an hour, oldest first.

    `taken` is by workload, for those whose connections are not all certain yet: a pool may come, or return, while its
    pods are not Ready and hold connections all the same.
    """

    counts: tuple[OthersCount, ...] = ()
    taken: FrozenMap[str, TakenConnections] = field(default_factory=FrozenMap)

    def observe(self, now: float, others: int, ours: Iterable[str] = ()) -> "OthersHistory":
        """The history with one more count, unless the last one is younger than 10 s; `ours` are all workloads now."""
        if self.counts and now - self.counts[-1].at < OTHERS_EVERY_SECONDS:
            return self
        kept = tuple(count for count in self.counts if now - count.at < OTHERS_SECONDS)
        known = frozenset(ours)
        # One set for all counts while pools stay: there may be hundreds of both.
        known = kept[-1].ours if kept and kept[-1].ours == known else known
        return replace(self, counts=(*kept, OthersCount(now, others, known)))

    def without(self, workloads: Mapping[str, WorkloadConnections], measured: int) -> "OthersHistory":
        """The history without the connections of workloads that counted as others', each taken out of a count once.

        `workloads` are all that are ours now, `measured` is what others hold now.
        """
        sets = {count.ours for count in self.counts}
        missing = {name for ours in sets for name in workloads if name not in ours}
        after = {name: self.taken.get(name, TakenConnections()).add(workloads[name]) for name in missing}
        # One that goes again before all was certain is not taken out a second time if it returns.
        settled = {name for name, taken in after.items() if taken.is_complete} | (self.taken.keys() - workloads.keys())
        taken = FrozenMap((name, entry) for name, entry in after.items() if name not in settled)
        found = {name: entry.connections - self._taken_of(name) for name, entry in after.items()}
        if not settled and not any(found.values()):
            return self if taken == self.taken else replace(self, taken=taken)
        known = {ours: ours | settled for ours in sets}
        counts = tuple(replace(count.without(found, measured), ours=known[count.ours]) for count in self.counts)
        return OthersHistory(counts, taken)

    def high(self) -> int | None:
        """The count that was exceeded for 3 min at most, which is the 95th percentile of a whole hour; None before the
        first count.
        """
        ordered = sorted((count.others for count in self.counts), reverse=True)
        return ordered[min(BRIEF_COUNTS, len(ordered) - 1)] if ordered else None

    def _taken_of(self, workload: str) -> int:
        return self.taken[workload].connections if workload in self.taken else 0
