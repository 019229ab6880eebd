"""How reads reach the serving replicas, and how many of those may be evicted at once."""

from typing import Any

from headroom.manifests.ownership import Owner, build_metadata
from headroom.model.replica import ROLE_LABEL, SET_LABEL, Role

POSTGRES_PORT = 5432


def read_service_name(set_name: str, wanted: str | None) -> str:
    """Name of the read Service: what the spec says, else the set's name with -read."""
    return wanted or f"{set_name}-read"


def build_serving_labels(owner: Owner) -> dict[str, str]:
    """What tells a serving pod of this set from all others; also `status.selector`."""
    return {SET_LABEL: owner.name, ROLE_LABEL: Role.SERVING.value}


def build_read_service(owner: Owner, service_name: str) -> dict[str, Any]:
    """The read Service: it selects by our label, so nothing but the operator adds an endpoint."""
    port = {"name": "postgresql", "port": POSTGRES_PORT, "protocol": "TCP", "targetPort": POSTGRES_PORT}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": build_metadata(owner, service_name),
        "spec": {"type": "ClusterIP", "selector": build_serving_labels(owner), "ports": [port]},
    }


def build_disruption_budget(owner: Owner, *, desired: int, min_serving: int) -> dict[str, Any]:
    """One serving replica may be evicted at a time, never below `min_serving`; none is kept where there is only one.

    With a single replica a budget would only block the drain of its node: a standby takes over first.
    """
    at_least = max(desired - 1, min_serving) if desired > 1 else 0
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": build_metadata(owner, f"{owner.name}-serving"),
        "spec": {
            "minAvailable": at_least,
            "selector": {"matchLabels": build_serving_labels(owner)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
