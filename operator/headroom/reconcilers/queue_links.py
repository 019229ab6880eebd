"""Connections of queues with separate logins: one for each login, however many pools use it."""

import asyncio
from dataclasses import dataclass, field

from headroom.errors import Unavailable
from headroom.model.database import ConnectionTarget
from headroom.ports.clock import Clock
from headroom.ports.postgres import Postgres, QueueLink
from headroom.reconcilers.logins import LoginBackoff

FORGOTTEN_SECONDS = 60.0


@dataclass(slots=True, eq=False)
class _Shared:
    """One connection with its users; `opening` is held while it is opened, since one attempt serves all."""

    backoff: LoginBackoff
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    link: QueueLink | None = None
    users: int = 0
    failed_at: float = 0.0


@dataclass(slots=True)
class QueueLease:
    """One pool's use of a connection; the connection ends with its last use."""

    link: QueueLink
    target: ConnectionTarget
    _links: "QueueLinks"
    _is_returned: bool = False

    async def close(self) -> None:
        """Use it no longer."""
        if not self._is_returned:
            self._is_returned = True
            await self._links.give_back(self.target, self.link)


@dataclass(slots=True)
class QueueLinks:
    """All such connections of this process."""

    clock: Clock
    _shared: dict[ConnectionTarget, _Shared] = field(default_factory=dict)

    async def open(self, postgres: Postgres, target: ConnectionTarget) -> QueueLease:
        """The connection of a login; raises PrimaryUnavailable. A refused login is tried once for all its pools."""
        while True:
            shared = self._shared.setdefault(target, _Shared(LoginBackoff(self.clock)))
            async with shared.opening:
                # While this one waited, the last use may have been given back, and the entry with it.
                if self._shared.get(target) is shared:
                    return await self._take(shared, postgres, target)

    async def _take(self, shared: _Shared, postgres: Postgres, target: ConnectionTarget) -> QueueLease:
        if shared.link is None:
            self._forget_refused(but=target)
            shared.backoff.check(target)
            try:
                shared.link = await postgres.open_queue(target)
            except Unavailable as error:
                shared.backoff.record(target, error)
                shared.failed_at = self.clock.monotonic()
                raise
        shared.users += 1
        return QueueLease(shared.link, target, self)

    def _forget_refused(self, but: ConnectionTarget) -> None:
        """Logins that do not work are kept for their back-off only: a password that was replaced does not come back."""
        now = self.clock.monotonic()
        for target, shared in list(self._shared.items()):
            is_over = now - shared.failed_at > FORGOTTEN_SECONDS
            if target != but and shared.link is None and is_over and not shared.opening.locked():
                del self._shared[target]

    async def give_back(self, target: ConnectionTarget, link: QueueLink) -> None:
        """One use less; for `QueueLease`."""
        shared = self._shared.get(target)
        if shared is None or shared.link is not link:
            return
        shared.users -= 1
        if shared.users == 0:
            shared.link = None
            del self._shared[target]
            await link.close()
