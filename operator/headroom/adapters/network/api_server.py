"""The API server's addresses, where it is known by name: looked up beside everything else, and again each minute."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from headroom.adapters.network.resolver import Resolver
from headroom.policy.hosts import Address, find_api_server

logger = logging.getLogger(__name__)

OWN_SERVICE = "kubernetes.default.svc"
AGAIN_SECONDS = 60.0
FIRST_SECONDS = 1.0
"""So long a connection waits while no address is known; later questions delay nobody."""
_Found = frozenset[tuple[Address, int | None]]


@dataclass(slots=True)
class ApiServer:
    """Keeps what was found last: a name server that is silent for a while opens nothing."""

    names: Sequence[str] = ()
    _found: dict[str, _Found] = field(default_factory=dict)
    _asked_at: float | None = None
    _asking: "asyncio.Task[None] | None" = None

    async def find(self, resolver: Resolver) -> _Found:
        """Its addresses, for `HostPolicy.api_server`."""
        if not self.names:
            return frozenset()
        now = asyncio.get_running_loop().time()
        if self._asked_at is None or now - self._asked_at >= AGAIN_SECONDS:
            self._asked_at, self._asking = now, asyncio.create_task(self._ask(resolver))
        if self._asking is not None and not self._found:
            await asyncio.wait({self._asking}, timeout=FIRST_SECONDS)
        return frozenset(found for each in self._found.values() for found in each)

    async def _ask(self, resolver: Resolver) -> None:
        for name in self.names:
            try:
                addresses = await resolver.resolve(name)
            except (OSError, ValueError) as error:
                logger.warning("The API server's name %s has no address (%s): hosts are not compared", name, error)
                continue
            self._found[name] = frozenset(found for text in addresses for found in find_api_server(text))
