"""The invariant about who serves: a replica of the primary, and not older than its set promises or says."""

from collections.abc import Iterator
from dataclasses import dataclass

from e2e.invariants.excuses import Excuse, find_excuse, may_route
from e2e.invariants.facts import MemberFacts, Observation, PodFacts, ServerFacts, SetFacts, first
from e2e.invariants.suspicion import (
    DISOWN_GRACE,
    KEPT_GRACE,
    PROBE_SECONDS,
    PROPAGATION_SECONDS,
    RELEARN_SECONDS,
    SHARE_SECONDS,
    Invariant,
    Suspicion,
    name,
    patience,
)
from e2e.invariants.tracks import Tracks

SLACK = PROBE_SECONDS + PROPAGATION_SECONDS


@dataclass(frozen=True, slots=True)
class _Served:
    """A member in the Service, and what it is judged by."""

    now: Observation
    tracks: Tracks
    one: SetFacts
    server: ServerFacts
    pod: PodFacts
    member: MemberFacts

    def suspect(self, aspect: str, what: str, grace: float, *, may_flicker: bool = False) -> Suspicion:
        """It looks wrong."""
        return Suspicion(
            Invariant.SERVING_IS_FIT,
            name(self.pod.key),
            what,
            grace,
            aspect=aspect,
            may_flicker=may_flicker,
            guard=self.one.guard,
            pod=self.pod.key,
        )

    @property
    def is_beyond(self) -> bool:
        """Its data are older than the bound."""
        return self.member.staleness is not None and self.member.staleness > self.one.eject_lag

    @property
    def is_clearly_beyond(self) -> bool:
        """An age grows by a second each second, so that it was beyond the bound in every reading of some seconds."""
        return self.member.staleness is not None and self.member.staleness > self.one.eject_lag + SLACK


def serving_is_fit(now: Observation, tracks: Tracks) -> Iterator[Suspicion]:
    """Who serves streams on the primary's timeline with its system id, within the bound or said to be beyond it.

    It is said of those alone that the set names, and helps nobody while a standby could take the place.
    """
    for one in now.sets:
        server = now.server(one.guard)
        for pod in now.serving(one):
            member = now.member(pod)
            if server is not None and member is not None:
                yield from _find_unfit(_Served(now, tracks, one, server, pod, member))


def _find_unfit(served: _Served) -> Iterator[Suspicion]:
    """What must not be. To be said helps only against age: a diverged member never serves."""
    server, member = served.server, served.member
    if not member.in_recovery:
        yield served.suspect("promoted", "it serves and is not in recovery", DISOWN_GRACE)
    elif member.system_id != server.system_id:
        what = f"it serves with system id {member.system_id}, the primary has {server.system_id}"
        yield served.suspect("foreign", what, DISOWN_GRACE)
    elif _is_diverged(server, member):
        what = f"it serves and replayed past the fork of timeline {member.timeline}"
        yield served.suspect("diverged", what, DISOWN_GRACE)
    else:
        yield from _find_unsaid(served)
        yield from _find_kept(served)


def _find_unsaid(served: _Served) -> Iterator[Suspicion]:
    """Old data of which too little is said. Each degree of it counts apart: when a member leaves, nothing is said of it
    any more, and the proxies need a moment.
    """
    one, server, member = served.one, served.server, served.member
    excuse = find_excuse(served.now, one, served.pod)
    if excuse is Excuse.LASTING:
        return
    said = _describe_excuse(excuse, one)
    late = SLACK + patience(excuse, one) + _relearning(served)
    if member.timeline is not None and member.timeline != server.timeline:
        what = f"it serves on timeline {member.timeline}, the primary is on {server.timeline}; {said}"
        yield served.suspect(f"timeline, {excuse.name}", what, one.eject_lag + late)
    elif not member.is_streaming:
        yield served.suspect(f"stream, {excuse.name}", f"it serves and does not stream; {said}", one.eject_lag + late)
    if served.is_beyond:
        is_frequent = excuse is not Excuse.PASSING and served.is_clearly_beyond
        yield served.suspect(f"age, {excuse.name}", f"{_describe_age(served)}; {said}", late, may_flicker=is_frequent)


def _relearning(served: _Served) -> float:
    """A new leader begins with lags that are not known."""
    seconds = max(served.member.staleness or 0.0, SHARE_SECONDS)
    return RELEARN_SECONDS if served.tracks.succeeded_at >= served.now.at - seconds else 0.0


def _find_kept(served: _Served) -> Iterator[Suspicion]:
    """Old data although a standby could take the place: then it does not matter what is said."""
    now, one = served.now, served.one
    guard = now.guard(one.guard)
    if not served.is_beyond or not may_route(one) or guard is None or not guard.is_ready:
        return
    substitutes = [pod.key[1] for pod in now.pods_of(one) if _is_substitute(served, pod)]
    if substitutes:
        what = f"{_describe_age(served)}; fit to take its place: {first(substitutes)}"
        yield served.suspect("kept", what, KEPT_GRACE)


def _is_substitute(served: _Served, pod: PodFacts) -> bool:
    now, one = served.now, served.one
    if pod.role != "standby" or now.is_listed(one, pod) or pod.key in served.tracks.put_back_at:
        return False
    return pod.key[1] not in one.mismatched and is_eligible(now, one, served.server, pod)


def is_eligible(now: Observation, one: SetFacts, server: ServerFacts, pod: PodFacts) -> bool:
    """Whether a pod serves or could, as seen from outside."""
    member = now.member(pod)
    if member is None or not pod.is_ready or pod.is_deleting or pod.role not in ("serving", "standby"):
        return False
    is_follower = member.in_recovery and member.is_streaming and member.timeline == server.timeline
    is_current = member.staleness is not None and member.staleness <= one.max_lag
    return is_follower and is_current and member.system_id == server.system_id


def _is_diverged(server: ServerFacts, member: MemberFacts) -> bool:
    fork = server.forks.get(member.timeline) if member.timeline is not None else None
    return fork is not None and member.position > fork


def _describe_age(served: _Served) -> str:
    bound = served.one.eject_lag
    return f"it serves data at least {served.member.staleness:.1f} s old, the bound is {bound:g} s"


def _describe_excuse(excuse: Excuse, one: SetFacts) -> str:
    if excuse is Excuse.NONE:
        return "nothing says so"
    whom = "of others only" if excuse is Excuse.OTHERS else "of it"
    return f"{one.stale_reason} is said {whom}: {one.stale_message}"
