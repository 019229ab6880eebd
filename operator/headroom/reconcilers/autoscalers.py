"""What HorizontalPodAutoscalers claim, KEDA's included, since KEDA makes one for each ScaledObject."""

from collections.abc import Mapping, Sequence
from typing import Any

from headroom.policy.workers.conflict import AutoscalerClaim, TargetId
from headroom.ports.kube import HORIZONTAL_POD_AUTOSCALER, KubeReader, Manifest


async def list_autoscalers(reader: KubeReader, namespace: str) -> tuple[AutoscalerClaim, ...]:
    """The claims of a namespace's autoscalers."""
    return tuple(_claim_of(item) for item in await reader.list(HORIZONTAL_POD_AUTOSCALER, namespace))


def target_id(ref: Mapping[str, str]) -> TargetId:
    """The object a reference means, whichever version of its API it names."""
    group, slash, _ = ref.get("apiVersion", "").rpartition("/")
    return TargetId(group if slash else "", ref["kind"], ref["name"])


def _claim_of(item: Manifest) -> AutoscalerClaim:
    owners: Sequence[Mapping[str, Any]] = item["metadata"].get("ownerReferences") or ()
    owner = next((one for one in owners if one.get("controller")), None)
    made_by = None if owner is None else f"the {owner['kind']} {owner['name']}"
    return AutoscalerClaim(item["metadata"]["name"], target_id(item["spec"]["scaleTargetRef"]), made_by)
