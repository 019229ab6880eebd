"""A claim for each member, and a pod whose first container fills it, or finds it filled already."""

from headroom.errors import Conflict, Refused
from headroom.manifests.children import build_claim
from headroom.manifests.pod import build_pod
from headroom.model.replica import SET_LABEL
from headroom.policy.replicaset.members import Member
from headroom.ports.kube import CLAIM, POD, Kind, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.children import is_owned
from headroom.reconcilers.replicaset.memory import SetContext
from headroom.reconcilers.replicaset.pod_template import PodTemplate


async def seed(context: SetContext) -> None:
    """Give members that have their slot a claim and a pod; the scheduler waits for the volume."""
    template = context.pod_template
    if template is None:
        return
    for name in context.decision.plan.seed:
        await context.attempt(_seed(context, context.member(name), template))


async def _seed(context: SetContext, member: Member, template: PodTemplate) -> None:
    owner, spec = context.owner, context.spec
    if member.claim is None:
        await create_child(context, CLAIM, build_claim(owner, member.id, spec.storage, slot=member.slot_name))
        context.has_moved = True
    # Before the pod: a pod whose ConfigMap is missing does not start until the kubelet tries again.
    await context.services.kube.apply(dict(template.config))
    pod = build_pod(
        owner, member.id, spec, config=template.config_name, slot=member.slot_name, upstream=template.upstream
    )
    await create_child(context, POD, pod)


async def create_child(context: SetContext, kind: Kind, manifest: Manifest) -> None:
    """Create it; raises Refused (NameConflict) for a name that is taken, Conflict if the next pass will see ours."""
    try:
        await context.services.kube.create(manifest)
    except Conflict:
        metadata = manifest["metadata"]
        live = await context.services.kube.get(ObjectRef(kind, metadata["namespace"], metadata["name"]))
        if live is not None:
            _refuse_unseen(context, kind, live)
        raise


def _refuse_unseen(context: SetContext, kind: Kind, live: Manifest) -> None:
    """Passes find children by owner and label: an object that lacks either is never seen, and must not be touched."""
    metadata = live["metadata"]
    name = f"{kind.name} {metadata['name']}"
    if not is_owned(live, context.uid):
        message = f"{name} exists and does not belong to dbrs/{context.name}; it stays untouched: rename or delete it"
        raise Refused(message, reason=Reason.NAME_CONFLICT)
    if metadata.get("labels", {}).get(SET_LABEL) != context.name:
        message = f"{name} has lost its label {SET_LABEL}={context.name}: put it back, or delete the {kind.name}"
        raise Refused(message, reason=Reason.NAME_CONFLICT)
