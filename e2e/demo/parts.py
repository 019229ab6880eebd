"""From decision to first read, in parts: where the time of a warm replica goes, and that of one that was not there."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from e2e.demo.timeline import Decision, Replica, Timeline

PARTS = {
    "decided": "until the operator has asked for a volume and a pod, or has written the label of the Service",
    "volume": "until the volume is there, from a snapshot with the data",
    "started": "until the server runs: the pod gets its node, and the data is checked, or copied first",
    "replayed": "until the server accepts connections and has caught up with the primary",
    "in the Service": "from the label to the first read",
}
WARM = "the warm standby"


@dataclass(frozen=True, slots=True)
class Activation:
    """A replica that came to serve while the load ran, and the decision that asked for it.

    `begun` is the decision that took the standby before it, so that this one was made; None for one that was there.
    """

    replica: Replica
    decided: Decision
    first_read: float
    load_began: float
    begun: Decision | None = None

    @property
    def decided_at(self) -> float:
        """Seconds since the load began."""
        return self.decided.at - self.load_began

    @property
    def first_read_at(self) -> float:
        """Seconds since the load began."""
        return self.first_read - self.load_began

    @property
    def seconds(self) -> float:
        """From the decision to the first read it answered."""
        return self.first_read - self.decided.at


@dataclass(frozen=True, slots=True)
class Course:
    """A way from a decision to a first read: seconds for each of PARTS, 0 for one that it does not have."""

    name: str
    seconds: tuple[float, ...]

    @property
    def total(self) -> float:
        """All parts together."""
        return sum(self.seconds)


def activations(timeline: Timeline) -> list[Activation]:
    """Replicas that answered their first read during the load, each with the decision that asked for it.

    The decision of the n-th replica is the first one that wanted at least n serving ones.
    """
    joined = sorted(
        (replica for replica in timeline.replicas() if replica.labelled_at and replica.first_read_at),
        key=lambda replica: replica.first_read_at or 0,
    )
    found = []
    for position, replica in enumerate(joined, start=2):
        decided = _decision_for(timeline.decisions, position)
        if decided and replica.first_read_at:
            begun = _decision_before(timeline.decisions, replica)
            found.append(Activation(replica, decided, replica.first_read_at, timeline.started, begun))
    return found


def _decision_for(decisions: Sequence[Decision], serving: int) -> Decision | None:
    ups = (one for one in decisions if one.who == "ReplicaSet" and (one.before or 0) < serving <= one.after)
    return min(ups, key=lambda one: one.at, default=None)


def _decision_before(decisions: Sequence[Decision], replica: Replica) -> Decision | None:
    if not replica.was_seeded_in_load or replica.asked_at is None:
        return None
    moves = (one for one in decisions if one.who == "ReplicaSet" and one.is_move and one.at <= replica.asked_at)
    return max(moves, key=lambda one: one.at, default=None)


def course_of(one: Activation) -> Course | None:
    """Its parts, if all were seen; one that was made in the load stood by until it was needed, which is left out."""
    replica = one.replica
    if not replica.was_seeded_in_load:
        spans = _spans(one.decided.at, replica.labelled_at, one.first_read)
        return Course(WARM, (spans[0], 0.0, 0.0, 0.0, spans[1])) if spans else None
    begun = one.begun.at if one.begun else None
    made = _spans(begun, replica.asked_at, replica.bound_at, replica.started_at, replica.able_at)
    served = _spans(replica.labelled_at, one.first_read)
    name = "a new one, from a snapshot" if replica.is_restored else "a new one, by base backup"
    return Course(name, (*made, *served)) if made and served else None


def _spans(*moments: float | None) -> tuple[float, ...]:
    """Seconds from each moment to the next, if all are known; what a watch told after the last one was then."""
    known = [moment for moment in moments if moment is not None]
    if len(known) < len(moments):
        return ()
    ordered = list(accumulate((min(moment, known[-1]) for moment in known), max))
    return tuple(after - before for before, after in pairwise(ordered))
