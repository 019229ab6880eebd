"""What a set has once: the read Service, the disruption budget, the certificates for clients; and the end of unused
ConfigMaps.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from headroom.errors import Refused
from headroom.manifests.children import build_bundle, build_disruption_budget, build_read_service, bundle_name
from headroom.model.replica import SET_LABEL, Role
from headroom.ports.kube import CONFIG_MAP, DISRUPTION_BUDGET, SERVICE, Kind, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.certificates import read_bundle
from headroom.reconcilers.replicaset.children import is_owned
from headroom.reconcilers.replicaset.memory import SetContext

WRITE_AGAIN_SECONDS = 30.0
"""How often an object is written if something else keeps changing it, as a policy of the cluster may."""


async def ensure_routing(context: SetContext) -> None:
    """Write the Service and the budget if they differ from what is wanted; traffic matters more than evictions."""
    service = build_read_service(context.owner, context.service_name)
    try:
        await _ensure(context, SERVICE, service)
    except Refused as error:
        context.handles.is_service_refused = error.reason is Reason.NAME_CONFLICT
        raise
    context.handles.is_service_refused = False
    desired, minimum = context.decision.goal.desired, context.spec.readiness.min_serving
    await _ensure(
        context, DISRUPTION_BUDGET, build_disruption_budget(context.owner, desired=desired, min_serving=minimum)
    )
    await _sweep_configs(context)


async def ensure_bundle(context: SetContext) -> None:
    """Publish by what clients verify the members; a new one does not serve before."""
    published = read_bundle(context.services.cache, context.owner)
    authorities = {}
    for member in (each.facts for each in context.decision.members if not each.facts.is_going):
        pod = member.pod
        # A pod that is being recreated has its authority on its volume, and will report it again.
        is_told = pod is not None and pod.seed.is_done
        authority = pod.authority if pod is not None and is_told else published.get(member.name)
        if authority:
            authorities[member.name] = authority
    given = context.facts.given_authority
    if authorities or given or published:
        await _ensure(context, CONFIG_MAP, build_bundle(context.owner, authorities, given))


async def _ensure(context: SetContext, kind: Kind, manifest: Manifest) -> None:
    metadata = manifest["metadata"]
    ref = ObjectRef(kind, metadata["namespace"], metadata["name"])
    if covers(context.services.cache.get(ref), manifest):
        return
    now = context.services.clock.monotonic()
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    written, written_at = context.handles.applied.get(ref, ("", now))
    is_cut_off = any(m.facts.role is Role.SERVING and not m.facts.is_listed for m in context.decision.members)
    if written == digest and now - written_at < WRITE_AGAIN_SECONDS and not is_cut_off:
        return
    await context.services.kube.apply(manifest)
    # Only after the answer: a refused write is tried again in the next pass.
    context.handles.applied[ref] = digest, now


async def _sweep_configs(context: SetContext) -> None:
    """ConfigMaps of older templates go once no pod reads them."""
    template = context.pod_template
    if template is None:
        return
    pods = [member.facts.pod for member in context.decision.members]
    used = {template.config_name, bundle_name(context.name), *(pod.config for pod in pods if pod is not None)}
    for item in context.services.cache.list(CONFIG_MAP, context.namespace, labels={SET_LABEL: context.name}):
        metadata = item["metadata"]
        if not is_owned(item, context.uid) or metadata["name"] in used:
            continue
        ref = ObjectRef(CONFIG_MAP, metadata["namespace"], metadata["name"])
        live = await context.services.kube.get(ref)
        if live is not None and live["metadata"]["uid"] == metadata["uid"]:
            version = live["metadata"]["resourceVersion"]
            await context.services.kube.delete(ref, uid=metadata["uid"], resource_version=version)


def covers(live: Any, wanted: Any) -> bool:
    """Whether the live object has everything that is wanted; what others added does not count."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(covers(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        is_list = isinstance(live, Sequence) and not isinstance(live, str) and len(live) == len(wanted)
        return is_list and all(covers(one, other) for one, other in zip(live, wanted, strict=True))
    return bool(live == wanted)
