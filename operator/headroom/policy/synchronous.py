"""Whether commits of a primary wait for our members: then their end would leave commits hanging."""

import re

from headroom.model.conditions import Finding
from headroom.model.database import ServerFacts
from headroom.model.replica import ANY_SLOT_PREFIX
from headroom.reasons import Reason

REMEDY = "ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf();"


def find_synchronous(server: ServerFacts) -> Finding | None:
    """Why commits may wait for our members, and what that means for their end; None if they do not."""
    names = server.settings.get("synchronous_standby_names", "")
    if not matches_our_names(names):
        return None
    message = (
        f"synchronous_standby_names = {names} matches read replicas: commits may wait for them, and hang once they are "
        f"deleted or scaled in; name only standbys of your own in it, or run: {REMEDY}"
    )
    return Finding(Reason.WOULD_BECOME_SYNCHRONOUS, message)


def matches_our_names(synchronous_standby_names: str) -> bool:
    """Whether the list of synchronous standbys contains a name of ours: by `*`, or by the name."""
    text = re.sub(r"(?i)^\s*(first|any)?\s*\d+\s*\(", "", synchronous_standby_names)
    names = [name.strip(' ")').lower() for name in text.split(",")]
    return any(name == "*" or name.startswith(ANY_SLOT_PREFIX) for name in names)
