"""A member's pod: a seed step, then the server, within the restricted Pod Security Standard; and where it may run."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.api.v1alpha1.template import PodTemplate
from headroom.manifests.children import (
    POSTGRES_PORT,
    Owner,
    build_member_labels,
    build_metadata,
    read_service_name,
)
from headroom.manifests.configuration import (
    CA_FILE,
    CERTIFICATE_FOLDER,
    CONFIG_FOLDER,
    PASSFILE,
    RUN_FOLDER,
    build_conninfo,
)
from headroom.manifests.copy_source import build_source_environment
from headroom.model.copies import FROM_PRIMARY, CopySource
from headroom.model.database import ConnectionTarget
from headroom.model.replica import (
    CONFIG_ANNOTATION,
    COPY_SOURCE_ANNOTATION,
    COPY_WHY_ANNOTATION,
    ROLE_LABEL,
    SET_LABEL,
    TEMPLATE_ANNOTATION,
    MemberId,
    Role,
)

DATA_FOLDER = "/data"
PGDATA = f"{DATA_FOLDER}/pgdata"
CREDENTIALS_FOLDER = "/etc/headroom/replication"
CLIENT_CERTIFICATE_FOLDER = "/etc/headroom/client-tls"
HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
SEED = "seed"
SERVER = "postgresql"
SERVER_TLS_VOLUME = "server-tls"
"""Only a pod whose server speaks TLS has it: `spec.tls` may have changed since the pod was built."""

STARTUP_FAILURES = 2**31 - 1
"""Never give up: the replay of a long backlog may take hours, and a restart would not shorten it."""
STARTUP_PERIOD_SECONDS = 1
"""Each probe waits for up to two seconds, and the next follows at once, so that a new member is seen quickly."""
READY_PERIOD_SECONDS = 5
"""Seldom on purpose: each probe starts a process in the pod. If a server ends, so does its container, and the probe of
the operator finds one that hangs within seconds."""
PROBE_SECONDS = 10
"""Two more than the scripts wait for an answer. All replicas of a set are busy at the same time: if busy ones counted
as not ready, the read Service would lose all of them at once."""
READY_FAILURES = 3
LIVE_PERIOD_SECONDS = 10
LIVE_FAILURES = 6
REFRESH_SECONDS = 10
"""How soon a server uses what the kubelet has refreshed, which itself takes up to a minute or two."""
AUTHORITY_DAYS = 3650
"""How long the authority of a member lasts, which lives as long as the member."""
CERTIFICATE_DAYS = 90
"""How long a certificate of it lasts; its server gets another one when a third of that is left."""
REPORT_FILE = "/dev/termination-log"
"""Where the kubelet finds what a container reports; at most 4096 bytes."""
LOCK_SECONDS = 60
"""How long a container waits for a volume that another pod's server still uses; then the kubelet starts it again."""
LAME_DUCK_SECONDS = 5
"""How long a server that is to stop still accepts connections: the time in which a standby takes over, the endpoints
change, and each node's proxy learns of it. These take about a second together; a busy API server or proxy takes longer.
Until then a server without a statement may still get new clients."""
STOP_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Upstream:
    """The primary, which a member streams from, and as whom; what it copies from is a `CopySource`.

    `credentials_secret` holds username and password, `client_certificate_secret` the client certificate of `target`.
    Their content does not change the pod's template: the pod reads what the kubelet refreshes.
    """

    target: ConnectionTarget
    user: str
    credentials_secret: str
    system_identifier: str
    major: int
    monitor_role: str
    client_certificate_secret: str | None = None


def build_pod(
    owner: Owner,
    member: MemberId,
    spec: ReplicaSetSpec,
    *,
    config: str,
    slot: str,
    upstream: Upstream,
    source: CopySource = FROM_PRIMARY,
) -> dict[str, Any]:
    """The pod of one member, not yet in the read Service; `config` names the ConfigMap that it reads all its life."""
    template = spec.template
    name = member.object_name(owner.name)
    labels = {**template.metadata.labels, **build_member_labels(member), ROLE_LABEL: Role.PROVISIONING.value}

    annotations = {
        **template.metadata.annotations,
        CONFIG_ANNOTATION: config,
        TEMPLATE_ANNOTATION: build_template_hash(owner, spec, config=config, upstream=upstream),
        COPY_SOURCE_ANNOTATION: source.name,
        COPY_WHY_ANNOTATION: source.why,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": build_metadata(owner, name, labels=labels, annotations=annotations),
        "spec": _build_pod_spec(owner, spec, name, config=config, slot=slot, upstream=upstream, source=source),
    }


def build_template_hash(owner: Owner, spec: ReplicaSetSpec, *, config: str, upstream: Upstream) -> str:
    """A text that changes when a new pod would run differently from an older one, the same for all members. The rate
    and the source of a copy are left out: they do not matter to a pod that has its copy.
    """
    unhurried = spec.provisioning.model_copy(update={"max_rate": None})
    spec = spec.model_copy(update={"provisioning": unhurried})
    pod_spec = _build_pod_spec(
        owner, spec, "member", config=config, slot="slot", upstream=upstream, source=FROM_PRIMARY
    )
    metadata = spec.template.metadata.model_dump(mode="json")
    content = json.dumps([pod_spec, metadata], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def _build_pod_spec(
    owner: Owner, spec: ReplicaSetSpec, name: str, *, config: str, slot: str, upstream: Upstream, source: CopySource
) -> dict[str, Any]:
    values = _list_variables(owner, spec, name, slot, upstream)
    copying = {**values, **_list_source(values, source, slot, upstream)}
    environment = _write_variables(values)
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # As first process the server would adopt the children of killed probes. If one of them exits with 2, the server
        # takes it for a crashed backend, ends all sessions and starts again.
        "shareProcessNamespace": True,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": _count_grace_seconds(spec),
        "securityContext": _pod_security(spec),
        "initContainers": [_container(spec, SEED, "seed.sh", _write_variables(copying), upstream)],
        "containers": [_server_container(spec, environment, upstream)],
        "volumes": _volumes(spec, name, config, upstream),
        **_build_placement(owner, spec.template),
    }


def _count_grace_seconds(spec: ReplicaSetSpec) -> int:
    """All that the stop script may take; the kubelet counts from the deletion and kills what is left then."""
    return LAME_DUCK_SECONDS + int(spec.drain.timeout.total_seconds()) + STOP_SECONDS


def _list_variables(owner: Owner, spec: ReplicaSetSpec, name: str, slot: str, upstream: Upstream) -> dict[str, str]:
    ca_file = f"{CONFIG_FOLDER}/{CA_FILE}" if upstream.target.ca_pem is not None else None
    rate = spec.provisioning.max_rate
    return {
        "PGDATA": PGDATA,
        "CONFIG": CONFIG_FOLDER,
        "NAME": name,
        "SLOT": slot,
        "SYSTEM_IDENTIFIER": upstream.system_identifier,
        "MAJOR": str(upstream.major),
        "PRIMARY_CONNINFO": build_conninfo(upstream.target, upstream.user, slot, ca_file, upstream.major),
        "PASSFILE": PASSFILE,
        "CREDENTIALS": CREDENTIALS_FOLDER,
        "REPLICATION_USER": upstream.user,
        "CLIENT_TLS": CLIENT_CERTIFICATE_FOLDER if upstream.client_certificate_secret is not None else "",
        "SERVER_TLS": CERTIFICATE_FOLDER if spec.tls.certificate_secret_ref is not None else "",
        "SERVER_NAMES": " ".join(_list_names(owner, spec, name)),
        "AUTHORITY_DAYS": str(AUTHORITY_DAYS),
        "CERTIFICATE_DAYS": str(CERTIFICATE_DAYS),
        "REPORT": REPORT_FILE,
        "DATABASE": upstream.target.database,
        "MAX_RATE_KIB": str(rate // 1024) if rate is not None else "",
        "LOCK_SECONDS": str(LOCK_SECONDS),
        "REFRESH_SECONDS": str(REFRESH_SECONDS),
        "LAME_DUCK_SECONDS": str(LAME_DUCK_SECONDS),
        "DRAIN_SECONDS": str(int(spec.drain.timeout.total_seconds())),
        "MONITOR_ROLE": upstream.monitor_role,
    }


def _list_source(values: Mapping[str, str], source: CopySource, slot: str, upstream: Upstream) -> dict[str, str]:
    return build_source_environment(
        source,
        upstream.target,
        user=upstream.user,
        slot=slot,
        major=upstream.major,
        primary_conninfo=values["PRIMARY_CONNINFO"],
    )


def _write_variables(values: Mapping[str, str]) -> list[dict[str, Any]]:
    # A role's name may contain a `$`, which the kubelet would read as the start of a reference.
    return [{"name": key, "value": value.replace("$", "$$")} for key, value in values.items()]


def _list_names(owner: Owner, spec: ReplicaSetSpec, name: str) -> tuple[str, ...]:
    """The names by which clients know a member: those of the read Service, without the cluster's own domain, and its
    own.
    """
    service = read_service_name(owner.name, spec.routing.service_name)
    in_namespace = f"{service}.{owner.namespace}"
    return service, in_namespace, f"{in_namespace}.svc", name


def _server_container(spec: ReplicaSetSpec, environment: list[dict[str, Any]], upstream: Upstream) -> dict[str, Any]:
    return {
        **_container(spec, SERVER, "start.sh", environment, upstream),
        "ports": [{"name": "postgresql", "containerPort": POSTGRES_PORT, "protocol": "TCP"}],
        "startupProbe": {
            **_probe("started.sh"),
            "periodSeconds": STARTUP_PERIOD_SECONDS,
            "timeoutSeconds": 5,
            "failureThreshold": STARTUP_FAILURES,
        },
        "readinessProbe": {
            **_probe("ready.sh"),
            "periodSeconds": READY_PERIOD_SECONDS,
            "timeoutSeconds": PROBE_SECONDS,
            "failureThreshold": READY_FAILURES,
        },
        "livenessProbe": {
            **_probe("live.sh"),
            "periodSeconds": LIVE_PERIOD_SECONDS,
            "timeoutSeconds": PROBE_SECONDS,
            "failureThreshold": LIVE_FAILURES,
        },
        "lifecycle": {"preStop": _probe("stop.sh")},
    }


def _container(
    spec: ReplicaSetSpec, name: str, script: str, environment: list[dict[str, Any]], upstream: Upstream
) -> dict[str, Any]:
    return {
        "name": name,
        "image": spec.image,
        "command": ["sh", f"{CONFIG_FOLDER}/{script}"],
        "env": environment,
        "volumeMounts": _mounts(spec, upstream),
        "resources": spec.resources.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _probe(script: str) -> dict[str, Any]:
    return {"exec": {"command": ["sh", f"{CONFIG_FOLDER}/{script}"]}}


def _pod_security(spec: ReplicaSetSpec) -> dict[str, Any]:
    chosen = spec.template.security_context
    context: dict[str, Any] = {
        "runAsNonRoot": True,
        "runAsUser": chosen.run_as_user,
        "runAsGroup": chosen.run_as_group,
        "fsGroup": chosen.fs_group,
        # The other policy would open a restored data directory to the group, and then the server does not start.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if chosen.supplemental_groups:
        context["supplementalGroups"] = list(chosen.supplemental_groups)
    return context


def _mounts(spec: ReplicaSetSpec, upstream: Upstream) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"name": "data", "mountPath": DATA_FOLDER},
        {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
        {"name": "replication", "mountPath": CREDENTIALS_FOLDER, "readOnly": True},
        {"name": "run", "mountPath": RUN_FOLDER},
        {"name": "socket", "mountPath": "/var/run/postgresql"},
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  the server's shared memory, not a temporary file
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  the container's own
    ]
    if spec.tls.certificate_secret_ref is not None:
        mounts.append({"name": SERVER_TLS_VOLUME, "mountPath": CERTIFICATE_FOLDER, "readOnly": True})
    if upstream.client_certificate_secret is not None:
        mounts.append({"name": "client-tls", "mountPath": CLIENT_CERTIFICATE_FOLDER, "readOnly": True})
    return mounts


def _volumes(spec: ReplicaSetSpec, name: str, config: str, upstream: Upstream) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": "data", "persistentVolumeClaim": {"claimName": name}},
        {"name": "config", "configMap": {"name": config}},
        {"name": "replication", "secret": _secret(upstream.credentials_secret, "username", "password")},
        {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "socket", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    if spec.tls.certificate_secret_ref is not None:
        given = _secret(spec.tls.certificate_secret_ref.name, "tls.crt", "tls.key")
        volumes.append({"name": SERVER_TLS_VOLUME, "secret": given})
    if upstream.client_certificate_secret is not None:
        client = _secret(upstream.client_certificate_secret, "tls.crt", "tls.key")
        volumes.append({"name": "client-tls", "secret": client})
    return volumes


def _secret(name: str, *keys: str) -> dict[str, Any]:
    # The server accepts a key file that root owns and its own group may read, but no wider mode. No other key of the
    # Secret is mounted: whoever may write a ReplicaSet need not be allowed to read what else it holds.
    return {"secretName": name, "defaultMode": 0o440, "items": [{"key": key, "path": key} for key in keys]}


def _build_placement(owner: Owner, template: PodTemplate) -> dict[str, Any]:
    """Placement fields of a pod spec: the user's, else members are spread over hosts and zones as far as possible."""
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
    # Not a second spread constraint: if nodes have no zone, the scheduler would then ignore all constraints.
    term = {"weight": 100, "podAffinityTerm": {"labelSelector": members, "topologyKey": ZONE}}
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}


def _dump(model: Any) -> Mapping[str, Any]:
    dumped: Mapping[str, Any] = model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return dumped
