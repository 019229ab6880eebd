"""Whether commits of a primary wait for our members: then their end would leave commits hanging."""

import re

from headroom.model.conditions import Finding
from headroom.model.database import ServerFacts
from headroom.model.replica import SLOT_PATTERN
from headroom.reasons import Reason

METHOD = re.compile(r"^\s*(?:(?:first|any)\s+)?\d+\s*(?=\()", re.IGNORECASE)
"""What may stand before the list in parentheses: how many of it, and of which."""
NAME = re.compile(r'"(?:[^"]|"")*"|[^\s,()"]+')
"""A name in the list: quoted or not, between white space and commas (`src/backend/replication/syncrep_scanner.l`)."""
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
    """Whether the list of synchronous standbys takes in a member of ours: by `*`, or by a name that we give.

    A member streams under the name of its slot; the server compares names without regard to case.
    """
    text = METHOD.sub("", synchronous_standby_names)
    names = [name[1:-1].replace('""', '"') if name.startswith('"') else name for name in NAME.findall(text)]
    return any(name == "*" or SLOT_PATTERN.fullmatch(name.lower()) for name in names)
