"""Whether the server that answers is the one the guard is for."""

from dataclasses import dataclass

from headroom.model.database import ServerFacts
from headroom.reasons import Reason

ACCEPT_ANNOTATION = "headroom.dev/accept-system-identifier"


@dataclass(frozen=True, slots=True)
class IdentityMismatch:
    """Another server, or an older life of ours, answers: hold, and destroy nothing on its word."""

    reason: Reason
    message: str


def check_identity(
    server: ServerFacts, *, pinned: str | None, accepted: str | None, highest_timeline: int, name: str
) -> IdentityMismatch | None:
    """Compare the answer with what is pinned; `accepted` is the identifier a person allowed by annotation."""
    found = server.system_identifier
    if pinned is not None and found != pinned:
        if accepted == found:
            return None
        message = (
            f"system {found} answers where {pinned} was seen before, and nothing is done on its word; if it is meant: "
            f"kubectl annotate --overwrite dbg/{name} {ACCEPT_ANNOTATION}={found}"
        )
        return IdentityMismatch(Reason.PRIMARY_REPLACED, message)
    if server.is_in_recovery:
        message = "the server is in recovery; let connection.host follow the primary"
        return IdentityMismatch(Reason.NOT_A_PRIMARY, message)
    if found == pinned and server.timeline < highest_timeline:
        message = (
            f"timeline {server.timeline} answers, and {highest_timeline} was seen: an old primary is still up; "
            "stop it, or correct connection.host"
        )
        return IdentityMismatch(Reason.PRIMARY_STALE, message)
    return None
