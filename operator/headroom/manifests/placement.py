"""Where a member's pod may run, and how members are kept apart."""

from collections.abc import Mapping
from typing import Any

from headroom.api.v1alpha1.template import PodTemplate
from headroom.manifests.ownership import Owner
from headroom.model.replica import SET_LABEL

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def build_placement(owner: Owner, template: PodTemplate) -> dict[str, Any]:
    """Placement fields of a pod spec: the user's, else members apart over hosts and zones as far as possible."""
    members = {"matchLabels": {SET_LABEL: owner.name}}
    spread = [_dump(constraint) for constraint in template.topology_spread_constraints]
    placement: dict[str, Any] = {
        "topologySpreadConstraints": [{"labelSelector": members, **constraint} for constraint in spread or [_BY_HOST]]
    }
    if template.affinity is not None:
        placement["affinity"] = _dump(template.affinity)
    elif not spread:
        placement["affinity"] = _apart_by_zone(members)
    if template.tolerations:
        placement["tolerations"] = [_dump(toleration) for toleration in template.tolerations]
    if template.priority_class_name is not None:
        placement["priorityClassName"] = template.priority_class_name
    return placement


_BY_HOST = {"maxSkew": 1, "topologyKey": HOST, "whenUnsatisfiable": "ScheduleAnyway"}


def _apart_by_zone(members: Mapping[str, Any]) -> dict[str, Any]:
    # Not a second spread constraint: where nodes have no zone, the scheduler would then weigh none of the constraints.
    term = {"weight": 100, "podAffinityTerm": {"labelSelector": members, "topologyKey": ZONE}}
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}


def _dump(model: Any) -> Mapping[str, Any]:
    dumped: Mapping[str, Any] = model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return dumped
