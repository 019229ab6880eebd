"""What the three kinds share: modes, names, references, conditions, and the metadata of a stored object."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from headroom.api.base import MapBy, SpecModel, StatusModel
from headroom.api.values import Pattern

GROUP = "headroom.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
MAX_NAME = 40
MAX_QUERY = 8192
MAX_SERVING = 48
MAX_STANDBYS = 16
MAX_MEMBERS = MAX_SERVING + MAX_STANDBYS

DNS_LABEL = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

ObjectName = Annotated[
    str,
    Pattern(
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "write the name of an object: lower-case letters, digits, '-' and '.'",
        253,
    ),
]
OwnName = Annotated[
    str, Pattern(DNS_LABEL, f"write a name of at most {MAX_NAME} lower-case letters, digits and '-'", MAX_NAME)
]
EntryName = Annotated[str, Pattern(DNS_LABEL, "write a name of lower-case letters, digits and '-'", 63)]
ServiceName = Annotated[
    str,
    Pattern("^[a-z]([-a-z0-9]*[a-z0-9])?$", "write a Service name: it begins with a letter; then a-z, 0-9, '-'", 63),
]
SecretKey = Annotated[
    str, Pattern("^[-._a-zA-Z0-9]+$", "write a key of the Secret: letters, digits, '-', '_' and '.'", 253)
]
RoleName = Annotated[str, Pattern(r"^[^\x00-\x1f]+$", "write the name of a PostgreSQL role", 63)]
SqlName = Annotated[str, Pattern(r"^[^\x00-\x1f]+$", "write the name as PostgreSQL knows it, without quotes", 63)]
Host = Annotated[
    str,
    Pattern(
        "^[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9.])?$",
        "write one host name or IP address: no scheme, port, path or list",
        253,
    ),
]
Url = Annotated[
    str,
    Pattern(
        r"^https?://[A-Za-z0-9\[][^\s@?#]*$",
        "write an http:// or https:// address without login, '?' or '#'",
        1024,
    ),
]
ImageName = Annotated[
    str,
    Pattern(
        r"^[A-Za-z0-9][A-Za-z0-9._:/-]*(@sha256:[a-f0-9]{64})?$",
        "write an image such as postgres:17 or registry.example.com/postgres@sha256:<digest>",
        512,
    ),
]
Query = Annotated[str, Field(min_length=1, max_length=MAX_QUERY)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Mode(StrEnum):
    """How far Headroom acts on a resource."""

    ACTIVE = "Active"
    DRY_RUN = "DryRun"
    PAUSED = "Paused"


class GuardState(StrEnum):
    """The state of the database."""

    HEALTHY = "Healthy"
    BROWNOUT = "Brownout"
    OVERLOADED = "Overloaded"
    EMERGENCY = "Emergency"
    UNKNOWN = "Unknown"


class LocalRef(SpecModel):
    """An object of the same namespace, by name."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    name: ObjectName
    """Name of the object."""


class SecretKeyRef(SpecModel):
    """One key of a Secret of the same namespace."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    name: ObjectName
    """Name of the Secret."""
    key: SecretKey
    """Key within the Secret."""


class PrometheusEndpoint(SpecModel):
    """A Prometheus HTTP API."""

    url: Url
    """Base address of the Prometheus API, such as http://prometheus.monitoring:9090. Redirects are not followed."""


class Condition(StatusModel):
    """One verdict about the object; `kubectl wait --for=condition=…` reads it."""

    type: Annotated[str, Field(max_length=316)]
    """What the verdict is about."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Why, as one CamelCase word; docs/reference/reasons.md explains each."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """Details, with what to do about it."""
    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """The generation of the spec this verdict is about."""
    last_transition_time: datetime
    """When `status` last changed."""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=32), MapBy("type")]


class CommonStatus(StatusModel):
    """The common part of every status."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """The generation of the spec that the last full pass read."""
    conditions: Conditions = ()
    """Verdicts about the object; Ready says whether Headroom acts on it."""
