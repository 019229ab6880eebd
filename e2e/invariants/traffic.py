"""The invariants about clients: new connections, sessions that stay, queries that are cut."""

from collections.abc import Iterator

from e2e.invariants.excuses import Excuse
from e2e.invariants.facts import MemberFacts, NewRead, Observation, PodFacts, QueryCut, SetFacts
from e2e.invariants.suspicion import (
    BY_CHOICE,
    PROBE_SECONDS,
    PROPAGATION_SECONDS,
    RECONNECT_SECONDS,
    SESSION_GRACE,
    Invariant,
    Suspicion,
    name,
    patience,
)
from e2e.invariants.tracks import TAKEOVER_SECONDS, Tracks


def no_stale_connection(now: Observation, tracks: Tracks) -> Iterator[Suspicion]:
    """A fresh connection meets no server older than the bound and one probe; a takeover adds to that."""
    for read in now.reads:
        one = now.set_of(read.service)
        if one is None or now.server(one.guard) is None:
            continue
        excuse = tracks.excuse(now, one, now.by_address(one, read.address))
        age, allowed = _judge_age(one, read, excuse, tracks, now.at)
        if age > allowed:
            what = f"a new connection met data at least {read.staleness:.1f} s old, allowed were {allowed:g} s"
            yield Suspicion(Invariant.NO_STALE_CONNECTION, _who(now, one, read.address), what)


def _judge_age(one: SetFacts, read: NewRead, excuse: Excuse, tracks: Tracks, at: float) -> tuple[float, float]:
    """The age that counts, and the most that it may be. No age runs while the primary is away, or nobody leads."""
    allowed = one.eject_lag + PROBE_SECONDS + PROPAGATION_SECONDS
    # It may have begun while nobody led.
    allowed += patience(excuse, one) + tracks.takeover_within(at, read.staleness + TAKEOVER_SECONDS)
    since = max(tracks.answers_since.get(one.guard, at), tracks.late_since)
    if at - since < read.staleness + RECONNECT_SECONDS:
        return max(0.0, at - since - RECONNECT_SECONDS), allowed
    return read.staleness, allowed


def no_session_kept(now: Observation, tracks: Tracks) -> Iterator[Suspicion]:
    """A member that left the Service as stale keeps no session from before for longer than `ejectGrace`."""
    for one in now.sets:
        for pod in now.pods_of(one):
            left, member = tracks.left_at.get(pod.key), now.member(pod)
            if left is None or member is None or not _was_ejected(one, pod, member):
                continue
            gone = now.at - left
            kept = [session for session in member.sessions if session.age > gone + PROPAGATION_SECONDS]
            if kept and gone > one.eject_grace:
                sample = ", ".join(f"pid {session.pid} of {session.user}" for session in kept[:3])
                what = f"{len(kept)} sessions from before it left {gone:.1f} s ago: {sample}"
                # A member that was not to be reached until now, as on a lost node, has the same few seconds.
                yield Suspicion(Invariant.NO_SESSION_KEPT, name(pod.key), what, SESSION_GRACE)


def _was_ejected(one: SetFacts, pod: PodFacts, member: MemberFacts) -> bool:
    is_stale = member.staleness is not None and member.staleness > one.eject_lag
    return is_stale or (bool(pod.why) and pod.why not in BY_CHOICE)


def no_query_cut(now: Observation, tracks: Tracks) -> Iterator[Suspicion]:
    """A scale-in cuts no running query within `drain.timeout`."""
    for cut in now.cuts:
        one = now.set_of(cut.service)
        pod = now.by_address(one, cut.address) if one else None
        if one is None or pod is None or not _is_leaving_by_choice(one, pod, now.member(pod)):
            continue
        left = tracks.left_at.get(pod.key)
        gone = 0.0 if left is None else now.at - left
        if gone < one.drain_timeout:
            what = f"a query of {cut.ran_for:.1f} s was cut {gone:.1f} s after the member left: {_error(cut)}"
            yield Suspicion(Invariant.NO_QUERY_CUT, name(pod.key), what, needs_leader=False)


def _is_leaving_by_choice(one: SetFacts, pod: PodFacts, member: MemberFacts | None) -> bool:
    is_stale = member is not None and member.staleness is not None and member.staleness > one.eject_lag
    return pod.role == "draining" and pod.why in BY_CHOICE and not is_stale


def _error(cut: QueryCut) -> str:
    return f"{cut.code or 'connection lost'} {cut.message}".strip()


def _who(now: Observation, one: SetFacts, address: str) -> str:
    pod = now.by_address(one, address)
    return name(pod.key) if pod else f"{name(one.service)} at {address}"
