"""Names to addresses, by c-ares: it honours /etc/hosts, the search list and ndots, and blocks nobody.

`getaddrinfo` of the C library blocks a thread for as long as a name server is silent, and the threads are shared.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import aiodns

TRY_SECONDS = 1.0
"""A name server that has not answered for so long is asked again, or the next one is."""
TRIES = 3
NO_NAME = "there is no host of this name"
NO_ADDRESS = "there is no address for this name"
NO_ANSWER = "its name cannot be looked up: no name server answers"


class Resolver(Protocol):
    """Turns a name into addresses."""

    async def resolve(self, host: str) -> tuple[str, ...]:
        """The addresses of a host name, best first; raises OSError that says why there are none."""
        ...


class AresResolver:
    """Implements `Resolver`; `servers` (`address:port`) replace those of /etc/resolv.conf."""

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self._servers = tuple(servers)
        self._resolver: aiodns.DNSResolver | None = None

    async def resolve(self, host: str) -> tuple[str, ...]:
        """See `Resolver.resolve`."""
        import aiodns  # noqa: PLC0415  only a name needs it: an address does not

        if self._resolver is None or self._resolver.loop is not asyncio.get_running_loop():
            self._resolver = aiodns.DNSResolver(timeout=TRY_SECONDS, tries=TRIES, servers=self._servers or None)
        try:
            answer = await self._resolver.getaddrinfo(host)
        except aiodns.error.DNSError as error:
            words = {aiodns.error.ARES_ENOTFOUND: NO_NAME, aiodns.error.ARES_ENODATA: NO_ADDRESS}
            raise OSError(words.get(error.args[0], NO_ANSWER)) from error
        found = (node.addr[0] for node in answer.nodes)
        addresses = (text.decode() if isinstance(text, bytes) else text for text in found)
        return tuple(dict.fromkeys(addresses))

    async def close(self) -> None:
        """Give up what is asked now."""
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            await resolver.close()
