"""The installation's lock on a server: which of our sessions holds it, by the server's system identifier.

One advisory lock for each installation and database says which process may do what cannot be undone; the lease says
the same to Kubernetes, and both must agree.
"""

import hashlib
from dataclasses import dataclass, field

from headroom.adapters.postgres.connection import PinnedConnection


def compute_lock_key(installation: str) -> int:
    """A signed 64-bit key that an installation always gets and no other is likely to."""
    digest = hashlib.sha256(f"headroom/{installation}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@dataclass(slots=True)
class HeldLocks:
    """Guard sessions of this process that hold the lock, by system identifier (two guards may share a server)."""

    _holders: dict[str, list[PinnedConnection]] = field(default_factory=dict)

    def add(self, system_identifier: str, session: PinnedConnection) -> None:
        """Remember that the session holds the lock on that server."""
        holders = self._holders.setdefault(system_identifier, [])
        if session not in holders:
            holders.append(session)

    def remove(self, session: PinnedConnection) -> None:
        """Forget a session that was closed or lost its lock."""
        for holders in self._holders.values():
            holders[:] = [holder for holder in holders if holder is not session]

    def find_pid(self, system_identifier: str) -> int | None:
        """Backend of an open session that holds the lock, or None."""
        for holder in self._holders.get(system_identifier, ()):
            if holder.is_open and holder.backend_pid:
                return holder.backend_pid
        return None
