"""What a pass sees of its namespace in addition to its own object, read from the watches without a call."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from headroom.policy.target_conflict import AutoscalerClaim, TargetId
from headroom.policy.workerpool.facts import PoolClaim
from headroom.ports.kube import HORIZONTAL_POD_AUTOSCALER, WORKER_POOL, KubeCache, Manifest


def read_autoscalers(cache: KubeCache, namespace: str, target: str) -> tuple[AutoscalerClaim, ...]:
    """The claims of a namespace's autoscalers on targets of this name."""
    return tuple(map(_autoscaler_claim, cache.list_by_target(HORIZONTAL_POD_AUTOSCALER, namespace, target)))


def read_pools(cache: KubeCache, namespace: str, target: TargetId) -> tuple[PoolClaim, ...]:
    """The claims of a namespace's WorkerPools on targets of this name; a pool that is being deleted claims nothing."""
    # By the index: reading each of a thousand pools, in each pass of a thousand pools, would cost a core.
    return tuple(
        pool_claim(pool)
        for pool in cache.list_by_target(WORKER_POOL, namespace, target.name)
        if not pool["metadata"].get("deletionTimestamp")
    )


def pool_claim(pool: Manifest) -> PoolClaim:
    """What a WorkerPool claims."""
    metadata, ref = pool["metadata"], _target_ref(pool)
    created = datetime.fromisoformat(metadata["creationTimestamp"])
    return PoolClaim(metadata["name"], metadata["uid"], created, None if ref is None else target_id(ref))


def target_id(ref: Mapping[str, str]) -> TargetId:
    """The object a reference means, whichever version of its API it names."""
    group, slash, _ = ref.get("apiVersion", "").rpartition("/")
    return TargetId(group if slash else "", ref["kind"], ref["name"])


def _target_ref(pool: Manifest) -> Mapping[str, str] | None:
    ref: Mapping[str, str] | None = ((pool.get("spec") or {}).get("workers") or {}).get("targetRef")
    return ref


def _autoscaler_claim(item: Manifest) -> AutoscalerClaim:
    owners: Sequence[Mapping[str, Any]] = item["metadata"].get("ownerReferences") or ()
    owner = next((one for one in owners if one.get("controller")), None)
    made_by = None if owner is None else f"the {owner['kind']} {owner['name']}"
    return AutoscalerClaim(item["metadata"]["name"], target_id(item["spec"]["scaleTargetRef"]), made_by)
