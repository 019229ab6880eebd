"""Where pods may run: the parts of a pod's spec that Kubernetes defines, with its own names."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from headroom.api.base import SpecModel
from headroom.api.values import Pattern

LabelKey = Annotated[
    str,
    Pattern(
        r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
        "write a label key such as app or example.com/tier",
        317,
        is_terse=True,
    ),
]
LABEL_VALUE = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
LabelValue = Annotated[
    str,
    Pattern(
        LABEL_VALUE,
        "write a label value: letters, digits, '-', '_' and '.'",
        63,
        min_length=0,
        is_terse=True,
    ),
]
LabelMap = Annotated[dict[str, LabelValue], Field(max_length=64)]
NamespaceName = Annotated[
    str, Pattern("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "write the name of a namespace", 63, is_terse=True)
]
Weight = Annotated[int, Field(ge=1, le=100)]


class Operator(StrEnum):
    """How a key is compared with values."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GT = "Gt"
    LT = "Lt"


class Requirement(SpecModel):
    """One comparison of a label."""

    key: LabelKey
    """Label key."""
    operator: Operator
    """In, NotIn, Exists, DoesNotExist; for nodes also Gt and Lt."""
    values: Annotated[tuple[LabelValue, ...], Field(max_length=64)] = ()
    """Values to compare with; empty for Exists and DoesNotExist."""


class LabelSelector(SpecModel):
    """Objects whose labels match all of this."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    match_labels: LabelMap = Field(default_factory=dict)
    """Labels that must be equal."""
    match_expressions: Annotated[tuple[Requirement, ...], Field(max_length=16)] = ()
    """Comparisons that must all hold."""


class NodeSelectorTerm(SpecModel):
    """Nodes that match all of this."""

    match_expressions: Annotated[tuple[Requirement, ...], Field(max_length=16)] = ()
    """Comparisons of node labels that must all hold."""
    match_fields: Annotated[tuple[Requirement, ...], Field(max_length=4)] = ()
    """Comparisons of node fields, such as metadata.name, that must all hold."""


class NodeSelector(SpecModel):
    """Nodes that match one of the terms."""

    node_selector_terms: Annotated[tuple[NodeSelectorTerm, ...], Field(min_length=1, max_length=16)]
    """Terms of which one must match."""


class PreferredNodes(SpecModel):
    """Nodes that are preferred."""

    weight: Weight
    """Weight of the preference, 1 to 100."""
    preference: NodeSelectorTerm
    """The nodes."""


class NodeAffinity(SpecModel):
    """Rules about nodes."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    """Nodes that a pod must be on."""
    preferred_during_scheduling_ignored_during_execution: Annotated[
        tuple[PreferredNodes, ...], Field(max_length=16)
    ] = ()
    """Nodes that a pod should be on."""


class PodTerm(SpecModel):
    """Pods in the same topology domain."""

    label_selector: LabelSelector | None = None
    """The pods, by label."""
    topology_key: LabelKey
    """Node label whose values are the domains, such as kubernetes.io/hostname."""
    namespaces: Annotated[tuple[NamespaceName, ...], Field(max_length=16)] = ()
    """Namespaces of the pods; empty: this one."""
    namespace_selector: LabelSelector | None = None
    """Further namespaces of the pods, by label."""


class PreferredPods(SpecModel):
    """Pods to be near to or away from, if possible."""

    weight: Weight
    """Weight of the preference, 1 to 100."""
    pod_affinity_term: PodTerm
    """The pods."""


class PodAffinity(SpecModel):
    """Rules about other pods."""

    required_during_scheduling_ignored_during_execution: Annotated[tuple[PodTerm, ...], Field(max_length=16)] = ()
    """Terms that must hold."""
    preferred_during_scheduling_ignored_during_execution: Annotated[
        tuple[PreferredPods, ...], Field(max_length=16)
    ] = ()
    """Terms that should hold."""


class Affinity(SpecModel):
    """Which nodes and neighbours a pod wants or avoids."""

    node_affinity: NodeAffinity | None = None
    """Rules about nodes."""
    pod_affinity: PodAffinity | None = None
    """Pods to be placed near."""
    pod_anti_affinity: PodAffinity | None = None
    """Pods to be placed away from."""


class Toleration(SpecModel):
    """A taint that pods tolerate."""

    key: LabelKey | None = None
    """Taint key; absent with operator Exists: all taints."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """Whether the value must be equal or only the key exist."""
    value: LabelValue | None = None
    """Taint value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Taint effect; absent: all effects."""
    toleration_seconds: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """With NoExecute: how long the pod stays; absent: without limit."""


class TopologySpread(SpecModel):
    """How evenly pods are spread over domains."""

    max_skew: Annotated[int, Field(ge=1, le=64)]
    """The largest allowed difference between two domains."""
    topology_key: LabelKey
    """Node label whose values are the domains, such as topology.kubernetes.io/zone."""
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    """What to do if the spread is not possible."""
    label_selector: LabelSelector | None = None
    """Pods that are counted; absent: the members of this set."""
    min_domains: Annotated[int, Field(ge=1, le=64)] | None = None
    """The least number of domains; with DoNotSchedule only."""
