"""Seeded: a claim and a pod whose first container fills it, or finds it filled."""

from datetime import timedelta

from headroom.manifests.pod import build_pod
from headroom.manifests.storage import build_claim
from headroom.model.replica import MemberFacts, PodFacts
from headroom.ports.kube import CLAIM, POD, ObjectRef
from headroom.reasons import ConditionType
from headroom.reconcilers.replicaset.created import create_child
from headroom.reconcilers.replicaset.run import Run

CONDITION = ConditionType.SEEDED
BIND_PATIENCE = timedelta(seconds=2)
"""A pod that meets its claim unbound may wait 13 s for the kubelet's retry; with late binding it must come first."""


async def ensure_members(run: Run) -> None:
    """Give every member that stays and has a slot its claim and its pod."""
    if run.facts.blueprint is None:
        return
    for member in run.staying:
        if not run.decision.judged(member.name).verdict.is_failed:
            await run.attempt(_ensure_member(run, member))


async def _ensure_member(run: Run, member: MemberFacts) -> None:
    facts = run.facts
    if member.slot is None and facts.primary is not None and member.pod is None:
        return
    claim = member.claim
    if claim is None:
        if member.pod is None:
            claim_manifest = build_claim(facts.owner, member.id, facts.spec.storage, slot=member.slot_name)
            await create_child(run, CLAIM, claim_manifest)
            run.has_moved = True
        return
    if member.pod is None and (claim.is_bound or facts.now - claim.created_at >= BIND_PATIENCE):
        await _create_pod(run, member)


async def _create_pod(run: Run, member: MemberFacts) -> None:
    facts, blueprint = run.facts, run.facts.blueprint
    assert blueprint is not None
    await run.writer.apply(dict(blueprint.config))
    pod = build_pod(
        facts.owner,
        member.id,
        facts.spec,
        config=blueprint.config_name,
        slot=member.slot_name,
        upstream=blueprint.upstream,
    )
    await create_child(run, POD, pod)


async def ensure_remade(run: Run) -> None:
    """Delete pods that ended, or are of an older template; the next pass makes them again on their claim."""
    for name in run.decision.plan.remake:
        pod = run.facts.member(name).pod
        assert pod is not None
        await run.attempt(_delete_pod(run, pod))


async def _delete_pod(run: Run, pod: PodFacts) -> None:
    ref = ObjectRef(POD, run.facts.owner.namespace, pod.name)
    await run.writer.delete(ref, uid=pod.uid, resource_version=pod.resource_version)
    run.has_moved = True
