"""What is there once per set: the read Service, the disruption budget, and no ConfigMap that nobody reads."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from headroom.errors import Refused
from headroom.manifests.routing import build_disruption_budget, build_read_service
from headroom.model.replica import SET_LABEL, Role
from headroom.ports.kube import CONFIG_MAP, DISRUPTION_BUDGET, SERVICE, Kind, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.children import is_owned
from headroom.reconcilers.replicaset.run import Run

LOOK_EVERY_SECONDS = 30.0


async def ensure_routing(run: Run) -> None:
    """Write Service and budget when they should differ, and look from time to time whether somebody changed them."""
    facts, memory = run.facts, run.facts.memory
    wanted = build_routing(run)
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
    is_due = memory.routing_checked_at is None or facts.gathered_at - memory.routing_checked_at > LOOK_EVERY_SECONDS
    is_cut_off = any(member.role is Role.SERVING and not member.is_listed for member in facts.members)
    if digest == memory.routing_digest and not is_due and not is_cut_off:
        return
    service, budget = wanted
    try:
        await _ensure(run, service, SERVICE)
    except Refused as error:
        memory.is_service_refused = error.reason is Reason.NAME_CONFLICT
        raise
    memory.is_service_refused = False
    await _ensure(run, budget, DISRUPTION_BUDGET)
    await _sweep_configs(run)
    memory.routing_digest, memory.routing_checked_at = digest, facts.gathered_at


def build_routing(run: Run) -> tuple[Manifest, Manifest]:
    """The manifests, Service first: traffic matters more than evictions."""
    facts = run.facts
    minimum = facts.spec.readiness.min_serving
    budget = build_disruption_budget(facts.owner, desired=run.decision.goal.desired, min_serving=minimum)
    return build_read_service(facts.owner, facts.service_name), budget


async def _ensure(run: Run, manifest: Manifest, kind: Kind) -> None:
    metadata = manifest["metadata"]
    live = await run.reader.get(ObjectRef(kind, metadata["namespace"], metadata["name"]))
    if live is None or not covers(live, manifest):
        await run.writer.apply(manifest)


async def _sweep_configs(run: Run) -> None:
    """ConfigMaps of older templates go once no pod reads them."""
    facts = run.facts
    if facts.pod_template is None:
        return
    used = {facts.pod_template.config_name, *(member.pod.config for member in facts.members if member.pod)}
    found = await run.reader.list(CONFIG_MAP, facts.owner.namespace, labels={SET_LABEL: facts.owner.name})
    for item in found:
        metadata = item["metadata"]
        if is_owned(item, facts.owner.uid) and metadata["name"] not in used:
            ref = ObjectRef(CONFIG_MAP, metadata["namespace"], metadata["name"])
            await run.writer.delete(ref, uid=metadata["uid"])


def covers(live: Any, wanted: Any) -> bool:
    """Whether everything that is wanted is so; what others added beside it does not count."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(covers(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        is_list = isinstance(live, Sequence) and not isinstance(live, str) and len(live) == len(wanted)
        return is_list and all(covers(one, other) for one, other in zip(live, wanted, strict=True))
    return bool(live == wanted)
