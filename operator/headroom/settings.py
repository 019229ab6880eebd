"""The settings of the operator: `HEADROOM_*` environment variables, read once at the start."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from headroom.errors import InvalidSpec
from headroom.model.text import parse_count
from headroom.policy.hosts import parse_host_rules
from headroom.policy.permitted import find_unreadable


@dataclass(frozen=True)
class Settings:
    """Every setting with its default and the variable that sets it."""

    namespace: str = "headroom"
    """Namespace the operator runs in: its Lease lives there. HEADROOM_NAMESPACE"""
    pod_name: str = ""
    """Name of the operator's pod: the holder in the Lease; the host name if unset. HEADROOM_POD_NAME"""
    pod_uid: str = ""
    """Uid of the operator's pod. HEADROOM_POD_UID"""
    watch_namespaces: tuple[str, ...] = ()
    """Namespaces to watch, comma separated; empty is the whole cluster. HEADROOM_WATCH_NAMESPACES"""
    installation: str = ""
    """Distinguishes this installation's replication slots from another's; from cluster and Lease if unset.
    HEADROOM_INSTALLATION"""
    lease_name: str = "headroom"
    """Name of the Lease. HEADROOM_LEASE_NAME"""
    probe_port: int = 8081
    """Port of the probes, on all addresses of the pod. HEADROOM_PROBE_PORT"""
    metrics_port: int = 8080
    """Port of metrics, on all addresses of the pod. HEADROOM_METRICS_PORT"""
    metrics_certificate: str = ""
    """Folder with `tls.crt` and `tls.key`: metrics are then served over TLS, to callers whose token may get `/metrics`.
    HEADROOM_METRICS_CERTIFICATE"""
    policy_images: tuple[str, ...] = ()
    """Images that a ReplicaSet may name, comma separated; empty is any. HEADROOM_POLICY_IMAGES"""
    policy_secret_prefix: str = ""
    """How the name of each Secret must begin that a spec names. HEADROOM_POLICY_SECRET_PREFIX"""
    policy_secret_label: str = ""
    """The label that each Secret must have that a spec names, as `key` or `key=value`. HEADROOM_POLICY_SECRET_LABEL"""
    policy_hosts_allow: tuple[str, ...] = ()
    """Hosts that a spec may name, comma separated: networks, or ends of names; empty is any that is not refused.
    HEADROOM_POLICY_HOSTS_ALLOW"""
    policy_hosts_deny: tuple[str, ...] = ()
    """Hosts that no spec may name. HEADROOM_POLICY_HOSTS_DENY"""
    api_server: str = ""
    """Address of the API server, which no spec may name; the kubelet sets it. KUBERNETES_SERVICE_HOST"""
    log_format: str = "json"
    """`json` or `text`. HEADROOM_LOG_FORMAT"""
    log_level: str = "INFO"
    """`DEBUG`, `INFO`, `WARNING` or `ERROR`. HEADROOM_LOG_LEVEL"""


def parse_settings(environment: Mapping[str, str]) -> Settings:
    """Read the variables; raises InvalidSpec that names the one to correct."""
    default = Settings()
    return Settings(
        namespace=environment.get("HEADROOM_NAMESPACE") or default.namespace,
        pod_name=environment.get("HEADROOM_POD_NAME") or socket.gethostname(),
        pod_uid=environment.get("HEADROOM_POD_UID", ""),
        watch_namespaces=_parse_names(environment.get("HEADROOM_WATCH_NAMESPACES", "")),
        installation=environment.get("HEADROOM_INSTALLATION", ""),
        lease_name=environment.get("HEADROOM_LEASE_NAME") or default.lease_name,
        probe_port=_parse_port(environment, "HEADROOM_PROBE_PORT", default.probe_port),
        metrics_port=_parse_port(environment, "HEADROOM_METRICS_PORT", default.metrics_port),
        metrics_certificate=environment.get("HEADROOM_METRICS_CERTIFICATE", ""),
        policy_images=_parse_images(environment.get("HEADROOM_POLICY_IMAGES", "")),
        policy_secret_prefix=environment.get("HEADROOM_POLICY_SECRET_PREFIX", ""),
        policy_secret_label=environment.get("HEADROOM_POLICY_SECRET_LABEL", ""),
        policy_hosts_allow=_parse_hosts(environment, "HEADROOM_POLICY_HOSTS_ALLOW"),
        policy_hosts_deny=_parse_hosts(environment, "HEADROOM_POLICY_HOSTS_DENY"),
        api_server=environment.get("KUBERNETES_SERVICE_HOST", ""),
        log_format=_parse_choice(environment, "HEADROOM_LOG_FORMAT", default.log_format, ("json", "text")),
        log_level=_parse_choice(
            environment, "HEADROOM_LOG_LEVEL", default.log_level, ("DEBUG", "INFO", "WARNING", "ERROR")
        ),
    )


def _parse_names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _parse_images(text: str) -> tuple[str, ...]:
    images = _parse_names(text)
    for entry in find_unreadable(images):
        # Else nobody would notice that a rule permits nothing.
        remedy = "write postgres or registry.example.com/"
        raise InvalidSpec("HEADROOM_POLICY_IMAGES", f"{entry!r} is not an image", remedy)
    return images


def _parse_hosts(environment: Mapping[str, str], name: str) -> tuple[str, ...]:
    hosts = _parse_names(environment.get(name, ""))
    parse_host_rules(hosts, name)
    return hosts


def _parse_port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    port = parse_count(text)
    if port is None or not 0 < port < 65536:
        raise InvalidSpec(name, f"{text!r} is not a port", "set a number from 1 to 65535")
    return port


def _parse_choice(environment: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = environment.get(name) or default
    if value not in allowed:
        raise InvalidSpec(name, f"{value!r} is not known", f"set one of {', '.join(allowed)}")
    return value
