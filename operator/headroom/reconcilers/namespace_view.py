"""What a pass sees of its namespace beside its own object; read from the watches, so that it costs no call."""

from collections.abc import Mapping, Sequence
from typing import Any

from headroom.policy.target_conflict import AutoscalerClaim, TargetId
from headroom.ports.kube import HORIZONTAL_POD_AUTOSCALER, KubeCache, Manifest


def read_autoscalers(cache: KubeCache, namespace: str) -> tuple[AutoscalerClaim, ...]:
    """The claims of a namespace's autoscalers."""
    return tuple(_claim_of(item) for item in cache.list(HORIZONTAL_POD_AUTOSCALER, namespace))


def target_id(ref: Mapping[str, str]) -> TargetId:
    """The object a reference means, whichever version of its API it names."""
    group, slash, _ = ref.get("apiVersion", "").rpartition("/")
    return TargetId(group if slash else "", ref["kind"], ref["name"])


def _claim_of(item: Manifest) -> AutoscalerClaim:
    owners: Sequence[Mapping[str, Any]] = item["metadata"].get("ownerReferences") or ()
    owner = next((one for one in owners if one.get("controller")), None)
    made_by = None if owner is None else f"the {owner['kind']} {owner['name']}"
    return AutoscalerClaim(item["metadata"]["name"], target_id(item["spec"]["scaleTargetRef"]), made_by)
