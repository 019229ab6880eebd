"""From the label to the Service: an activation is begun in one pass and confirmed in a later one, never waited for.

It is confirmed once the watch shows the pod in an endpoint slice and a probe of the same pass was answered. If that
takes too long, another standby takes the place, and the member rests before it is tried again. Without another it keeps
its label: in the pool it would serve nobody either.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from headroom.model.frozen import FrozenMap
from headroom.model.replica import PodFacts, Role
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.facts import Answer, MemberFacts, Reading, Silence
from headroom.policy.replicaset.members import EvaluatedMember
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class Activation:
    """A member with the label of the Service that is not confirmed yet; `since` is when that was decided.

    `is_ours`: this process began it. Of another's it knows only since when it has seen it.
    """

    pod_uid: str
    since: float
    is_ours: bool
    is_reported: bool = False


@dataclass(frozen=True, slots=True)
class Rest:
    """A member that did not come into the Service in time: how often in a row, and until when it is not tried."""

    failures: int
    until: float


@dataclass(frozen=True, slots=True)
class Confirmation:
    """An activation of this process that a pass confirmed, so many seconds after it was decided."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Activations:
    """All of one set: `pending` by name of the member, `served` and `resting` by uid of its pod.

    `served` are the pods that were confirmed, `confirmed` what the last pass added to them. Nothing of it outlives the
    process: what a new one finds listed is confirmed, and the rest gets its time again.
    """

    pending: FrozenMap[str, Activation] = field(default_factory=FrozenMap)
    served: frozenset[str] = frozenset()
    resting: FrozenMap[str, Rest] = field(default_factory=FrozenMap)
    confirmed: tuple[Confirmation, ...] = ()

    def observe(self, found: Iterable[MemberFacts], now: float) -> "Activations":
        """Take up one pass."""
        pending, served, confirmed = {}, set[str](), list[Confirmation]()
        pods = {member.name: (member, member.pod) for member in found if member.pod is not None}
        for name, (member, pod) in pods.items():
            known = self._find(name, pod, now)
            if pod.role is not Role.SERVING or pod.is_deleting:
                if known is not None and pod.role is Role.STANDBY and _is_recent(known, now):
                    # The answer to the patch may be lost, and the watch behind.
                    pending[name] = known
            elif pod.uid in self.served or _is_in_service(member, pod, known):
                served.add(pod.uid)
                if known is not None and known.is_ours:
                    confirmed.append(Confirmation(name, now - known.since))
            else:
                pending[name] = known or Activation(pod.uid, now, is_ours=False)
        alive = {pod.uid for _, pod in pods.values()} - served
        resting = FrozenMap((uid, rest) for uid, rest in self.resting.items() if uid in alive)
        return Activations(FrozenMap(pending), frozenset(served), resting, tuple(confirmed))

    def begin(self, pod: PodFacts, now: float) -> "Activations":
        """A pod is about to get the label; a repeated attempt counts from the first."""
        known = self.pending.get(pod.name)
        if known is not None and known.pod_uid == pod.uid and known.is_ours:
            return self
        return replace(self, pending=FrozenMap({**self.pending, pod.name: Activation(pod.uid, now, is_ours=True)}))

    def fail(self, pod: PodFacts, now: float) -> "Activations":
        """A pod was put back: it rests, longer each time."""
        before = self.resting.get(pod.uid)
        failures = before.failures + 1 if before is not None else 1
        rest = Rest(failures, now + timeouts.retry_after(failures).total_seconds())
        pending = FrozenMap((name, entry) for name, entry in self.pending.items() if name != pod.name)
        return replace(self, pending=pending, resting=FrozenMap({**self.resting, pod.uid: rest}))

    def serve(self, pod: PodFacts) -> "Activations":
        """The API server says that the Service lists a pod, which the watch does not know yet; the next pass confirms
        it.
        """
        return replace(self, served=self.served | {pod.uid})

    def report(self, name: str) -> "Activations":
        """It was reported that a member is late."""
        known = self.pending.get(name)
        if known is None:
            return self
        return replace(self, pending=FrozenMap({**self.pending, name: replace(known, is_reported=True)}))

    def seconds(self, pod: PodFacts | None, now: float) -> float | None:
        """How long a pod has had the label without being confirmed; None if it has none, or is confirmed."""
        known = self.pending.get(pod.name) if pod is not None else None
        is_known = known is not None and pod is not None and pod.role is Role.SERVING and not pod.is_deleting
        return now - known.since if known is not None and is_known else None

    def is_resting(self, pod: PodFacts | None, now: float) -> bool:
        """Whether a pod is not to be tried now."""
        rest = self.resting.get(pod.uid) if pod is not None else None
        return rest is not None and now < rest.until

    def _find(self, name: str, pod: PodFacts, now: float) -> Activation | None:
        known = self.pending.get(name)
        return known if known is not None and known.pod_uid == pod.uid else None


def _is_recent(activation: Activation, now: float) -> bool:
    return now - activation.since < timeouts.IN_SERVICE_LIMIT.total_seconds()


def _is_in_service(member: MemberFacts, pod: PodFacts, known: Activation | None) -> bool:
    """What another process left and the Service lists, or leaves out as not ready, was confirmed before."""
    if known is None:
        return member.is_listed or not pod.is_ready
    return member.is_listed and (has_answered(member.reading) or not known.is_ours)


def has_answered(reading: Reading | None) -> bool:
    """Whether a member answers its clients; one that has no connection left does."""
    is_full = isinstance(reading, Silence) and reading.reason is Reason.NO_CONNECTION_LEFT
    return isinstance(reading, Answer) or is_full


@dataclass(frozen=True, slots=True)
class Places:
    """How many members to put into the Service, and who is to give up its place to one of them.

    Each of `put_back` stands for one place. One that is found in the Service after all keeps its place: then nobody
    else is needed for it.
    """

    needed: int
    put_back: tuple[str, ...] = ()


def is_late(member: EvaluatedMember) -> bool:
    """Whether its activation takes too long."""
    seconds = member.facts.activating_seconds
    return seconds is not None and seconds >= timeouts.IN_SERVICE_LIMIT.total_seconds()


def decide_places(coming: Sequence[EvaluatedMember], *, good: int, candidates: int, desired: int) -> Places:
    """Fill what is missing; `coming` have the label and are not confirmed.

    A late one counts for nothing, and goes back where another takes its place or fewer are wanted.
    """
    late = [member.name for member in coming if is_late(member)]
    held = good + len(coming) - len(late)
    needed = max(desired - held, 0)
    surplus = held + min(needed, candidates) + len(late) - desired
    return Places(needed, tuple(late[: max(surplus, 0)]))
