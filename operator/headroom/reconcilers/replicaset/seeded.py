"""Seeded: a claim and a pod whose first container fills it, or finds it filled."""

from headroom.manifests.pod import build_pod
from headroom.manifests.storage import build_claim
from headroom.model.replica import MemberFacts, PodFacts
from headroom.ports.kube import CLAIM, POD, ObjectRef
from headroom.reasons import ConditionType
from headroom.reconcilers.replicaset.created import create_child
from headroom.reconcilers.replicaset.run import Run

CONDITION = ConditionType.SEEDED


async def ensure_members(run: Run) -> None:
    """Give every member that stays and has a slot its claim and its pod; the scheduler waits for the volume."""
    if run.facts.pod_template is None:
        return
    for member in run.staying:
        if not run.decision.evaluated(member.name).verdict.is_failed:
            await run.attempt(_ensure_member(run, member))


async def _ensure_member(run: Run, member: MemberFacts) -> None:
    facts = run.facts
    if member.slot is None and facts.primary is not None and member.pod is None:
        return
    if member.pod is not None:
        return
    if member.claim is None:
        await create_child(run, CLAIM, build_claim(facts.owner, member.id, facts.spec.storage, slot=member.slot_name))
        run.has_moved = True
    await _create_pod(run, member)


async def _create_pod(run: Run, member: MemberFacts) -> None:
    facts, pod_template = run.facts, run.facts.pod_template
    assert pod_template is not None
    await run.writer.apply(dict(pod_template.config))
    pod = build_pod(
        facts.owner,
        member.id,
        facts.spec,
        config=pod_template.config_name,
        slot=member.slot_name,
        upstream=pod_template.upstream,
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
