"""What the user may set on the pods of the replicas."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from headroom.api.base import SpecModel, cel_text, rule
from headroom.api.quantities import AMOUNT_PATTERN, QUANTITY_MAX_LENGTH, parse_quantity
from headroom.api.v1alpha1.common import GROUP, ObjectName
from headroom.api.v1alpha1.scheduling import LABEL_VALUE, Affinity, LabelMap, Toleration, TopologySpread

COMPARED = ("cpu", "memory")
AMOUNT_REMEDY = "write amounts of zero or more, such as 500m or 2Gi"
_PREFIX = "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_NAME = "[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
KEY_LENGTHS = "^([^/]{1,253}/)?[^/]{1,63}$"
LABEL_KEY = f"^({_PREFIX}/)?{_NAME}$"
ANNOTATION_KEY = f"^({_PREFIX.replace('a-z', 'A-Za-z')}/)?{_NAME}$"
"""Kubernetes takes upper case in the prefix of an annotation, and of a label not."""
KEY_REMEDY = "keys such as tier or example.com/tier: at most 63 letters, digits, '-', '_' and '.', after"
LABEL_KEY_REMEDY = f"write label {KEY_REMEDY} a lower-case host name and '/' if you like"
ANNOTATION_KEY_REMEDY = f"write annotation {KEY_REMEDY} a host name and '/' if you like"
UserId = Annotated[int, Field(ge=1, le=2_147_483_647)]


class ResourceAmount:
    """Annotates an amount of a resource: a quantity, or a whole number as Kubernetes allows it; kept as text."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "minimum": 0,
            "pattern": AMOUNT_PATTERN,
            "maxLength": QUANTITY_MAX_LENGTH,
        }

    def _parse(self, value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise PydanticCustomError("amount", AMOUNT_REMEDY)
        text = str(value)
        if len(text) > QUANTITY_MAX_LENGTH or not re.fullmatch(AMOUNT_PATTERN, text):
            raise PydanticCustomError("amount", AMOUNT_REMEDY)
        return text


Amounts = Annotated[dict[str, Annotated[str, ResourceAmount()]], Field(max_length=8)]


def _is_amount(field: str) -> str:
    """CEL: CPU and memory are quantities. Each is named: the cost of `string()` in a loop is beyond the budget."""
    amounts = {key: f"string(self.{field}['{key}'])" for key in COMPARED}
    return " && ".join(
        f"(!('{key}' in self.{field}) || (isQuantity({amount}) && sign(quantity({amount})) >= 0))"
        for key, amount in amounts.items()
    )


def _fits(key: str) -> str:
    """CEL: the request of a resource is at most its limit."""
    request, limit = (f"quantity(string(self.{field}['{key}']))" for field in ("requests", "limits"))
    return f"(!('{key}' in self.requests) || !('{key}' in self.limits) || {request}.compareTo({limit}) <= 0)"


def _are_amounts(amounts: Mapping[str, str]) -> bool:
    try:
        return all(parse_quantity(amounts[key]) >= 0 for key in COMPARED if key in amounts)
    except ValueError:
        return False


class Resources(SpecModel):
    """CPU and memory of each replica's container."""

    requests: Amounts = Field(default_factory=dict)
    """What the scheduler reserves, such as {cpu: 500m, memory: 1Gi}. The CPU signal is relative to the CPU request."""
    limits: Amounts = Field(default_factory=dict)
    """What the container may use at most."""

    @rule(f"!has(self.requests) || ({_is_amount('requests')})", AMOUNT_REMEDY, field=".requests")
    def _requests_are_amounts(self) -> bool:
        return _are_amounts(self.requests)

    @rule(f"!has(self.limits) || ({_is_amount('limits')})", AMOUNT_REMEDY, field=".limits")
    def _limits_are_amounts(self) -> bool:
        return _are_amounts(self.limits)

    @rule(
        f"!has(self.requests) || !has(self.limits) || ({' && '.join(_fits(key) for key in COMPARED)})",
        "a request is above its limit: lower the request or raise the limit",
        field=".requests",
    )
    def _requests_fit_limits(self) -> bool:
        shared = [key for key in COMPARED if key in self.requests and key in self.limits]
        return all(self.amount("requests", key) <= self.amount("limits", key) for key in shared)

    def amount(self, kind: str, resource: str) -> Decimal:
        """The amount of a resource in base units (cores, bytes); 0 where it is not set."""
        amounts: dict[str, str] = self.requests if kind == "requests" else self.limits
        return parse_quantity(amounts.get(resource, "0"))


def _are_keys(field: str, pattern: str) -> str:
    """CEL: the keys of a map are valid keys of labels or annotations."""
    is_key = f"k.matches({cel_text(KEY_LENGTHS)}) && k.matches({cel_text(pattern)})"
    return f"!has(self.{field}) || self.{field}.all(k, {is_key})"


def _is_key(key: str, pattern: str) -> bool:
    return all(re.fullmatch(expression, key) for expression in (KEY_LENGTHS, pattern))


class TemplateMetadata(SpecModel):
    """Labels and annotations that pods get in addition to our own."""

    labels: LabelMap = Field(default_factory=dict)
    """Labels of the pods."""
    annotations: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)] = Field(
        default_factory=dict
    )
    """Annotations of the pods."""

    @rule(
        f"(!has(self.labels) || !self.labels.exists(k, k.contains('{GROUP}/')))"
        f" && (!has(self.annotations) || !self.annotations.exists(k, k.contains('{GROUP}/')))",
        f"keys of {GROUP}/ are written by Headroom alone: remove them",
    )
    def _keeps_our_keys_free(self) -> bool:
        return not any(f"{GROUP}/" in key for key in (*self.labels, *self.annotations))

    @rule(_are_keys("labels", LABEL_KEY), LABEL_KEY_REMEDY, field=".labels")
    def _labels_have_keys(self) -> bool:
        return all(_is_key(key, LABEL_KEY) for key in self.labels)

    @rule(_are_keys("annotations", ANNOTATION_KEY), ANNOTATION_KEY_REMEDY, field=".annotations")
    def _annotations_have_keys(self) -> bool:
        return all(_is_key(key, ANNOTATION_KEY) for key in self.annotations)

    @rule(
        f"!has(self.labels) || self.labels.all(k, self.labels[k].matches({cel_text(LABEL_VALUE)}))",
        "write label values of letters, digits, '-', '_' and '.', with a letter or digit at either end",
        field=".labels",
    )
    def _labels_have_values(self) -> bool:
        return all(re.fullmatch(LABEL_VALUE, value) for value in self.labels.values())


class PodSecurity(SpecModel):
    """The user the containers run as. The restricted Pod Security Standard fixes the rest."""

    run_as_user: UserId = 999
    """User id: the one of `postgres` in the image."""
    run_as_group: UserId = 999
    """Group id."""
    fs_group: UserId = 999
    """Group that owns the volume."""
    supplemental_groups: Annotated[tuple[UserId, ...], Field(max_length=16)] = ()
    """Further groups."""


class PodTemplate(SpecModel):
    """What the user may set on the pods of the replicas."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Additional labels and annotations."""
    affinity: Affinity | None = None
    """Which nodes and neighbours the pods want or avoid."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = ()
    """Taints that the pods tolerate."""
    topology_spread_constraints: Annotated[tuple[TopologySpread, ...], Field(max_length=8)] = ()
    """How pods are spread. Empty: over hosts and zones, if possible."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods."""
    security_context: PodSecurity = PodSecurity()
    """The user the containers run as."""
