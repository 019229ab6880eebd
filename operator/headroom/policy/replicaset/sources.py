"""Which server a new member is copied from: a warm standby, else one that serves and can bear it, else the primary.

A copy from a standby costs the primary only the WAL that it sends anyway.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from headroom.api.v1alpha1.common import GuardState
from headroom.api.v1alpha1.provisioning import Source
from headroom.api.v1alpha1.serving import Readiness
from headroom.model.conditions import Finding
from headroom.model.copies import MOST_OF_WHY, PRIMARY, CopySource
from headroom.model.database import Lsn
from headroom.model.replica import Role, Stage
from headroom.model.text import clean_text
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.ejection import CARRIES
from headroom.policy.replicaset.failover import is_diverged
from headroom.policy.replicaset.members import EvaluatedMember, Member
from headroom.policy.replicaset.replay_lag import describe_lag, is_beyond
from headroom.reasons import Reason

ABOVE_HEALTHY = (GuardState.BROWNOUT, GuardState.OVERLOADED, GuardState.EMERGENCY)
SOURCES_TRIED = 2
"""From so many standbys one member is copied; then something else is wrong, and the primary is asked or the attempt
has failed."""
MOST_AUTHORITIES = 64 * 1024
"""Bytes of certificates: they are handed to the seed step in a variable, which Linux limits to 128 KiB."""


@dataclass(frozen=True, slots=True)
class SourceRules:
    """What the choice follows beside the members; `guard_state` is the primary's, `given_authority` what verifies the
    certificate of the spec's Secret (PEM).
    """

    source: Source
    bounds: Readiness
    max_concurrent: int = 1
    allows_plaintext: bool = False
    given_authority: str = ""
    guard_state: str = GuardState.UNKNOWN


@dataclass(frozen=True, slots=True)
class NewCopy:
    """The member to be copied: its slot keeps WAL from `kept_from` on, and the copies from `failed` failed. One that is
    not begun yet has neither.
    """

    kept_from: Lsn | None = None
    failed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Choice:
    new: NewCopy
    rules: SourceRules
    serving: int
    copies: Counter[str] = field(default_factory=Counter)


def choose_copy_source(
    new: NewCopy, members: Sequence[EvaluatedMember], rules: SourceRules, *, chosen: Collection[str] = ()
) -> CopySource | Finding:
    """The server to copy from and why, else why none may be.

    `members` are all of the set, `chosen` names the sources of other copies that begin in this pass.
    """
    behind = _find_behind(members)
    if behind is not None:
        message = f"no copy is begun until the failover is over: {behind.name} does not follow the new timeline yet"
        return Finding(Reason.COPY_WAITS, message)
    if rules.source is Source.PRIMARY:
        return _choose_primary("provisioning.source is Primary", rules)
    choice = _Choice(new, rules, _count_serving(members, rules.bounds), Counter([*_list_sources(members), *chosen]))
    reasons = {member.name: _find_unfitness(member, choice) for member in members}
    fit = sorted((member for member in members if not reasons[member.name]), key=_rank)
    if fit and len(new.failed) < SOURCES_TRIED:
        return _describe_standby(fit[0].facts, rules)
    return _fall_back(new, {name: why for name, why in reasons.items() if why}, members, rules)


def _fall_back(
    new: NewCopy, reasons: dict[str, str], members: Sequence[EvaluatedMember], rules: SourceRules
) -> CopySource | Finding:
    has_other = any(_has_data(member.facts) for member in members)
    unfit = "; ".join(f"{name} {reasons[name]}" for name in sorted(reasons) if _is_named(members, name))
    if rules.source is not Source.STANDBY:
        why = f"no standby is fit: {unfit}" if has_other and unfit else "no other member has the data yet"
        return _choose_primary(why, rules)
    if new.failed:
        message = f"copies from {', '.join(sorted(new.failed))} failed, and provisioning.source is Standby"
        return Finding(Reason.SEED_FAILED, message)
    remedy = "set it to Auto to copy from the primary"
    if not has_other:
        message = f"provisioning.source is Standby, and no member has the data yet: {remedy}"
        return Finding(Reason.NO_COPY_SOURCE, message)
    return Finding(Reason.COPY_WAITS, f"provisioning.source is Standby, and none is fit: {unfit}; {remedy}")


def _is_named(members: Iterable[EvaluatedMember], name: str) -> bool:
    return any(member.name == name and _has_data(member.facts) for member in members)


def _has_data(member: Member) -> bool:
    """It has been a standby, and will be there."""
    return member.role in (Role.STANDBY, Role.SERVING, Role.DRAINING) and member.is_staying


def _choose_primary(why: str, rules: SourceRules) -> CopySource | Finding:
    if rules.guard_state in ABOVE_HEALTHY:
        message = (
            f"a copy from the primary waits until its guard is Healthy, and it is {rules.guard_state}; {why}; from a "
            "standby that is fit it would begin at once"
        )
        return Finding(Reason.COPY_WAITS, message)
    return CopySource(PRIMARY, clean_text(why, MOST_OF_WHY))


def _describe_standby(member: Member, rules: SourceRules) -> CopySource:
    pod = member.pod
    assert pod is not None
    ca = pod.authority or (rules.given_authority if pod.has_tls else "")
    verified = "verify-full" if pod.authority else "verify-ca"
    why = (
        "it is a warm standby"
        if member.role is Role.STANDBY
        else "no standby is fit, and it is not alone in the Service"
    )
    return CopySource(member.name, f"{why}: the primary is spared", pod.ip, verified if ca else "disable", ca)


def _find_behind(members: Iterable[EvaluatedMember]) -> EvaluatedMember | None:
    """One that may still follow the primary to its new timeline; one that never will is itself to be copied again."""
    limit = timeouts.DIVERGED_LIMIT.total_seconds()
    for member in members:
        seconds = member.facts.behind_seconds
        is_recent = seconds is not None and seconds <= limit
        if is_recent and member.facts.is_staying and not is_diverged(member):
            return member
    return None


def _list_sources(members: Iterable[EvaluatedMember]) -> list[str]:
    pods = [member.facts.pod for member in members if member.facts.is_alive]
    return [pod.copy_source for pod in pods if pod is not None and pod.is_copying]


def _count_serving(members: Iterable[EvaluatedMember], bounds: Readiness) -> int:
    """How many serve well enough to take over what one of them has no time for."""
    serving = (member.facts for member in members if member.facts.role is Role.SERVING and member.facts.is_alive)
    return sum(facts.measured is not None and not is_beyond(facts.lag, bounds) for facts in serving)


def _rank(member: EvaluatedMember) -> tuple[bool, float, int]:
    lag = member.facts.measured
    return member.facts.role is Role.SERVING, lag.seconds if lag is not None else 0.0, member.facts.id.ordinal


def _find_unfitness(member: EvaluatedMember, choice: _Choice) -> str:
    """Why a member cannot be copied from now, as a predicate; empty for one that can."""
    facts, rules, pod = member.facts, choice.rules, member.facts.pod
    if not facts.is_alive or pod is None or member.verdict.is_failed or member.verdict.is_due_for_replacement:
        return "is on its way out"
    if facts.role not in (Role.STANDBY, Role.SERVING):
        return "is not caught up yet" if facts.role is Role.PROVISIONING else "is being drained"
    if not pod.copy_source:
        return "is from before this version, and lets nobody copy"
    if not pod.is_ready or facts.unanswered:
        return "does not answer"
    if facts.measured is None or is_beyond(facts.lag, rules.bounds) or member.verdict.stage is Stage.CAUGHT_UP:
        return f"is not near enough to the primary ({describe_lag(facts.lag)})"
    return _find_reach(facts, choice) or _find_load(facts, choice)


def _find_reach(facts: Member, choice: _Choice) -> str:
    """Why a copy would not be verified, or not lead to where the new slot begins."""
    pod, probe, rules, new = facts.pod, facts.probe, choice.rules, choice.new
    assert pod is not None
    if facts.name in new.failed:
        return "was tried, and the copy failed"
    is_behind = probe is None or probe.replay_lsn is None or (new.kept_from or 0) > probe.replay_lsn
    if new.kept_from is not None and is_behind:
        return "has not replayed up to where the new slot begins"
    if not pod.has_tls:
        return "" if rules.allows_plaintext else "has no TLS, and spec.tls.allowPlaintext is false"
    if not pod.authority and not rules.given_authority:
        return "has a certificate that nothing verifies: add ca.crt to the Secret in spec.tls.certificateSecretRef"
    return "has too many authorities" if len(pod.authority or rules.given_authority) > MOST_AUTHORITIES else ""


def _find_load(facts: Member, choice: _Choice) -> str:
    if choice.copies[facts.name] >= choice.rules.max_concurrent:
        return "is being copied already"
    if facts.role is not Role.SERVING:
        return ""
    if choice.serving < 2:
        return "is the only one that serves"
    is_loaded = facts.is_full or (facts.allowed > 0 and facts.sessions >= CARRIES * facts.allowed)
    return f"has {facts.sessions} of {facts.allowed} connections in use" if is_loaded else ""
