"""A claim for each member, and a pod whose first container fills it, or finds it filled already."""

from dataclasses import replace

from headroom.api.v1alpha1.provisioning import Method
from headroom.errors import Conflict, Refused
from headroom.manifests.children import VolumeSource, build_claim
from headroom.manifests.pod import build_pod
from headroom.model.copies import FROM_NONE, NONE, CopySource
from headroom.model.replica import SET_LABEL
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.restores import ANY_COPY, Choice
from headroom.ports.kube import CLAIM, POD, Kind, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.replicaset import metrics
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
    restored, method_why = member.restored, member.claim.why if member.claim is not None else ""
    if member.claim is None:
        choice = member.choice or ANY_COPY
        snapshot = _find_source(choice)
        if snapshot is None and choice.method is Method.VOLUME_SNAPSHOT:
            return
        restored, method_why = snapshot.stamps if snapshot is not None else None, choice.why
        await _create_claim(context, member, snapshot, method_why)
    source = context.decision.copies.sources.get(member.name, FROM_NONE)
    if source.name == NONE:
        source = replace(source, restored=restored)
    elif context.spec.provisioning.snapshots is not None:
        source = source.add_reason(method_why)
    # Before the pod: a pod whose ConfigMap is missing does not start until the kubelet tries again.
    await context.services.kube.apply(dict(template.config))
    pod = build_pod(
        context.owner,
        member.id,
        context.spec,
        config=template.config_name,
        slot=member.slot_name,
        upstream=template.upstream,
        source=source,
    )
    await create_child(context, POD, pod)
    if source.name != NONE:
        _report_copy(context, member, source)


def _report_copy(context: SetContext, member: Member, source: CopySource) -> None:
    where = "standby" if source.is_standby else "primary"
    context.services.telemetry.record(metrics.COPIES, 1, **context.labels, source=where)
    name = source.name if source.is_standby else "the primary"
    context.emit(Reason.SEEDING, f"{member.name} is copied from {name}, since {source.why}")


async def _create_claim(context: SetContext, member: Member, source: VolumeSource | None, why: str) -> None:
    storage = context.spec.storage
    claim = build_claim(context.owner, member.id, storage, slot=member.slot_name, source=source, why=why)
    try:
        await create_child(context, CLAIM, claim)
    except Refused:
        # A quota may have room for what the spec asks for, and not for what the snapshot needs.
        if source is not None and source.size > storage.size:
            present = [snapshot.name for snapshot in context.facts.snapshots or ()]
            now = context.now.monotonic
            context.memory = context.memory.record_restore_failure(source.name, present, now)
        raise
    context.has_moved = True
    if source is not None:
        context.emit(Reason.SEEDING, f"{member.name} is restored from snapshot {source.name}, since {why}")


def _find_source(choice: Choice) -> VolumeSource | None:
    snapshot = choice.snapshot
    if snapshot is None or snapshot.stamps is None:
        return None
    return VolumeSource(snapshot.name, snapshot.size or 0, snapshot.stamps)


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
