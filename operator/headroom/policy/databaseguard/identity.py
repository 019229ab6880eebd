"""Which server answers: whether it is the one a guard is for, and whether two guards watch the same one.

A system identifier is a claim of the server. Clones, standbys and an old primary share it, so a server is known by its
identifier and the time its postmaster started. Between namespaces the address that was connected to counts as well.
"""

from dataclasses import dataclass
from datetime import datetime

from headroom.model.conditions import Finding
from headroom.model.database import ServerFacts
from headroom.reasons import Reason

ACCEPT_ANNOTATION = "headroom.dev/accept-system-identifier"


@dataclass(frozen=True, slots=True)
class ServerId:
    """What one connection tells of the server behind it; `address` is `host:port` after resolution."""

    system_identifier: str
    started_at: datetime | None
    address: str


def identify_server(server: ServerFacts) -> ServerId:
    """The identity that a server claims, and the address that it was reached at."""
    return ServerId(server.system_identifier, server.started_at, server.address)


def is_same_server(one: ServerId, other: ServerId, *, is_same_namespace: bool) -> bool:
    """Whether two connections end at the same server.

    Within a namespace the server's own word is enough. Guards of different namespaces do not trust each other's
    servers: a server could claim the identity of another one. A server that tells no identity is known by its address.
    """
    is_same_address = bool(one.address) and one.address == other.address
    if not one.system_identifier or one.started_at is None:
        return is_same_address and one == other
    is_same_claim = (one.system_identifier, one.started_at) == (other.system_identifier, other.started_at)
    return is_same_claim and (is_same_namespace or is_same_address)


def find_identity_mismatch(
    system_identifier: str, timeline: int, *, pinned: str | None, highest_timeline: int
) -> Finding | None:
    """Why the server that answers is not the one that was seen before; the message names no remedy."""
    if pinned is not None and system_identifier != pinned:
        message = f"system {system_identifier} answers where {pinned} was seen before"
        return Finding(Reason.PRIMARY_REPLACED, message)
    if timeline < highest_timeline:
        message = f"timeline {timeline} answers, and {highest_timeline} was seen: an old primary is still up"
        return Finding(Reason.PRIMARY_STALE, message)
    return None


def check_identity(
    server: ServerFacts, *, pinned: str | None, accepted: str | None, highest_timeline: int, name: str
) -> Finding | None:
    """Compare the answer with what guard `name` has pinned; `accepted` is the identifier a person allowed."""
    found = server.system_identifier
    mismatch = find_identity_mismatch(found, server.timeline, pinned=pinned, highest_timeline=highest_timeline)
    if mismatch is not None and mismatch.reason is Reason.PRIMARY_REPLACED:
        command = f"kubectl annotate --overwrite dbg/{name} {ACCEPT_ANNOTATION}={found}"
        message = f"{mismatch.message}, and nothing is done on its word; if it is meant: {command}"
        return None if accepted == found else Finding(mismatch.reason, message)
    if server.is_in_recovery:
        return Finding(Reason.NOT_A_PRIMARY, "the server is in recovery; let connection.host follow the primary")
    if mismatch is not None:
        return Finding(mismatch.reason, f"{mismatch.message}; stop it, or correct connection.host")
    return None
