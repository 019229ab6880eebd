"""The settings of the operator: `HEADROOM_*` environment variables, read once at the start."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from headroom.errors import InvalidSpec


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
    http_port: int = 8080
    """Port of probes and metrics, on all addresses of the pod. HEADROOM_HTTP_PORT"""
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
        http_port=_parse_port(environment.get("HEADROOM_HTTP_PORT") or str(default.http_port)),
        log_format=_parse_choice(environment, "HEADROOM_LOG_FORMAT", default.log_format, ("json", "text")),
        log_level=_parse_choice(
            environment, "HEADROOM_LOG_LEVEL", default.log_level, ("DEBUG", "INFO", "WARNING", "ERROR")
        ),
    )


def _parse_names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _parse_port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise InvalidSpec("HEADROOM_HTTP_PORT", f"{text!r} is not a port", "set a number from 1 to 65535")
    return int(text)


def _parse_choice(environment: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = environment.get(name) or default
    if value not in allowed:
        raise InvalidSpec(name, f"{value!r} is not known", f"set one of {', '.join(allowed)}")
    return value
