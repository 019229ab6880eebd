"""Which copies of a set may begin now and from where, which wait and why, and which have lost their source."""

from collections.abc import Iterable, Sequence

from headroom.api.v1alpha1.provisioning import Method
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.model.conditions import Finding
from headroom.model.copies import FROM_NONE, NONE, CopySource
from headroom.model.frozen import FrozenMap
from headroom.policy.replicaset.admission import decide_wal_cap
from headroom.policy.replicaset.copies import SEED_WITHOUT_SOURCE, Copies, CopyMemory
from headroom.policy.replicaset.copy_estimate import CopyEstimate, find_excess
from headroom.policy.replicaset.facts import MemberFacts, PrimaryFacts, SetFacts
from headroom.policy.replicaset.members import EvaluatedMember, Member
from headroom.policy.replicaset.restores import ANY_COPY, Choice
from headroom.policy.replicaset.sources import NewCopy, SourceRules, choose_copy_source


def plan_copies(
    spec: ReplicaSetSpec, facts: SetFacts, memory: CopyMemory, members: Sequence[EvaluatedMember], begin: Choice
) -> Copies:
    """The copies of one pass. None is planned while the primary does not answer: no member is begun then, and no lag is
    known.
    """
    if facts.primary is None:
        return Copies(begin=begin)
    rules = SourceRules(
        source=spec.provisioning.source,
        bounds=spec.readiness,
        max_concurrent=spec.provisioning.max_concurrent,
        allows_plaintext=spec.tls.allow_plaintext,
        given_authority=facts.given_authority,
        guard_state=facts.primary.view.state,
    )
    excess = find_excess(_estimate(spec, facts.primary, facts.members, memory))
    return decide_copies(members, memory, rules, excess, begin=begin)


def _estimate(
    spec: ReplicaSetSpec, primary: PrimaryFacts, found: Iterable[MemberFacts], memory: CopyMemory
) -> CopyEstimate:
    server, flush = primary.view.server, primary.position.lsn
    # Without the anchors of snapshots: they go before a member that copies has to.
    kept = [member.slot.restart_lsn for member in found if member.slot is not None]
    return CopyEstimate(
        wal_rate=memory.wal.rate,
        size=primary.data_bytes,
        copy_rate=memory.rate,
        max_rate=spec.provisioning.max_rate,
        kept=max(flush - min((lsn for lsn in kept if lsn is not None), default=flush), 0),
        cap=decide_wal_cap(server, spec.provisioning.max_slot_wal) if server is not None else None,
    )


def decide_copies(
    members: Sequence[EvaluatedMember],
    memory: CopyMemory,
    rules: SourceRules,
    excess: Finding | None,
    *,
    begin: Choice = ANY_COPY,
) -> Copies:
    """The sources of this pass; `excess` says why no copy may begin whatever its source. What is made from a snapshot
    needs no source, and never waits for one.
    """
    sources: dict[str, CopySource] = {}
    waits: dict[str, Finding] = {}
    choices: dict[str, Choice] = {}
    for member in members:
        if member.facts.pod is not None or not member.facts.is_staying:
            continue
        if member.name not in memory.unfilled or _is_restored(member.facts):
            sources[member.name] = FROM_NONE
            continue
        chosen = excess or _choose(member, members, memory, rules, [source.name for source in sources.values()])
        choice = member.facts.choice
        if isinstance(chosen, CopySource):
            sources[member.name] = chosen
        elif choice is not None and choice.spare is not None:
            choices[member.name], sources[member.name] = choice.avoid(chosen), FROM_NONE
        else:
            waits[member.name] = chosen
    begun = [source.name for source in sources.values()]
    new = excess or choose_copy_source(NewCopy(), members, rules, chosen=begun)
    refusal = new if isinstance(new, Finding) else None
    begin = begin.avoid(refusal) if refusal is not None else begin
    return Copies(
        sources=FrozenMap(sources),
        waits=FrozenMap(waits),
        choices=FrozenMap(choices),
        begin=begin,
        refusal=refusal if begin.method is Method.BASE_BACKUP else None,
        lost=frozenset(member.name for member in members if _has_lost_source(member, memory)),
    )


def _is_restored(member: Member) -> bool:
    """Its volume is created from a snapshot, or is to be, or no member is created now."""
    if member.claim is not None:
        return bool(member.claim.restored_from)
    return member.choice is not None and member.choice.method is Method.VOLUME_SNAPSHOT


def _choose(
    member: EvaluatedMember,
    members: Sequence[EvaluatedMember],
    memory: CopyMemory,
    rules: SourceRules,
    begun: Sequence[str],
) -> CopySource | Finding:
    slot = member.facts.slot
    new = NewCopy(slot.restart_lsn if slot is not None else None, memory.failed.get(member.name, frozenset()))
    return choose_copy_source(new, members, rules, chosen=begun)


def _has_lost_source(member: EvaluatedMember, memory: CopyMemory) -> bool:
    pod = member.facts.pod
    if pod is None or not pod.is_copying or not member.facts.is_alive or _is_restored(member.facts):
        return False
    if pod.copy_source == NONE:
        return pod.seed.exit_code == SEED_WITHOUT_SOURCE
    return pod.copy_source in memory.failed.get(member.name, ())
