"""A TCP connection to a host that a spec names: to an address that the policy permits, and to no other."""

import asyncio
import logging
import resource
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from headroom.adapters.network.api_server import ApiServer
from headroom.adapters.network.resolver import NO_ADDRESS, NO_ANSWER, AresResolver, Resolver
from headroom.adapters.shares import Shares
from headroom.policy.hosts import HostPolicy

logger = logging.getLogger(__name__)

LOOKUP_SECONDS = 3.0
MOST_LOOKUPS = 4
"""Names that one namespace resolves at a time."""
MOST_DIALS = 16
"""Connections that one namespace opens at a time."""
MOST_SLOW_DIALS = 8
"""Of these, to hosts that were slow to fail the last time: others of the namespace find a place beside them."""
SLOW_SECONDS = 1.0
TURN_SECONDS = 3.0
MOST_SLOW = 64
"""Hosts of a namespace that are remembered as slow."""
REMEMBERED_SECONDS = 600.0
"""And so long: a slow host that is still named is tried more often than that."""
MOST_ADDRESSES = 8
DIAL_SECONDS = 3.0
"""For all addresses of a host together."""
MOST_FILES = 65_536
DEAD_PEER_SECONDS = 3
"""A peer that acknowledges nothing for this long is gone, whatever the kernel's defaults say."""


class HostNotFound(Exception):
    """A name has no address."""


class HostNotAllowed(Exception):
    """The policy permits no address of the host."""


class NoTurn(Exception):
    """The namespace opens too many connections at this time."""


class NotReached(Exception):
    """No address of the host accepts a connection; the message is for the operator's log, not for a status.

    `is_silent`: it did not refuse either.
    """

    def __init__(self, message: str, *, is_silent: bool) -> None:
        super().__init__(message)
        self.is_silent = is_silent


@dataclass(frozen=True, slots=True)
class Peer:
    """Where to connect: what a spec says, and the namespace of its object."""

    host: str
    port: int
    namespace: str = ""
    is_member: bool = False


@dataclass(slots=True)
class _Gate:
    """What one namespace may do at a time."""

    lookups: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_LOOKUPS))
    dials: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_DIALS))
    slow_dials: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_SLOW_DIALS))
    slow: "OrderedDict[tuple[str, int], float]" = field(default_factory=OrderedDict)
    """Since when, the earliest first."""

    def is_slow(self, place: tuple[str, int], now: float) -> bool:
        return place in self.slow and now - self.slow[place] < REMEMBERED_SECONDS

    def record(self, place: tuple[str, int], now: float, *, is_slow: bool) -> None:
        self.slow.pop(place, None)
        if is_slow:
            self.slow[place] = now
            if len(self.slow) > MOST_SLOW:
                self.slow.popitem(last=False)

    def is_idle(self, now: float) -> bool:
        return not any(self.is_slow(place, now) for place in self.slow)


@dataclass(slots=True)
class Network:
    """Resolves, checks and connects. A namespace whose names or hosts do not answer waits for itself only."""

    policy: HostPolicy = field(default_factory=HostPolicy)
    resolver: Resolver = field(default_factory=AresResolver)
    api_server: ApiServer = field(default_factory=ApiServer)
    _gates: Shares[_Gate] = field(default_factory=lambda: Shares(_Gate))

    @asynccontextmanager
    async def turn(self, peer: Peer) -> AsyncIterator[None]:
        """Wait until the namespace may open one more connection, and hold the place while the block runs.

        Raises NoTurn after TURN_SECONDS; TimeoutError for a host that did not answer the last time either.
        """
        place, loop = (peer.host, peer.port), asyncio.get_running_loop()
        async with AsyncExitStack() as places:
            gate = places.enter_context(self._gates.use(peer.namespace))
            was_slow = gate.is_slow(place, loop.time())
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    if was_slow:
                        await places.enter_async_context(gate.slow_dials)
                    await places.enter_async_context(gate.dials)
            except TimeoutError as error:
                if was_slow:
                    raise
                raise NoTurn from error
            began = loop.time()
            try:
                yield
            except Exception:
                gate.record(place, loop.time(), is_slow=loop.time() - began >= SLOW_SECONDS)
                raise
            gate.record(place, loop.time(), is_slow=False)

    async def find_addresses(self, peer: Peer) -> tuple[str, ...]:
        """The addresses of a host that the policy permits; raises HostNotFound or HostNotAllowed."""
        found = await self._resolve(peer)
        api_server = self.policy.api_server | await self.api_server.find(self.resolver)
        policy = replace(self.policy, api_server=api_server)
        permitted = tuple(
            address
            for address in found
            if policy.permits(peer.host, address, peer.port, namespace=peer.namespace, is_member=peer.is_member)
        )
        if not permitted:
            logger.warning("%s:%d (namespace %s) is %s: refused", peer.host, peer.port, peer.namespace, list(found[:3]))
            raise HostNotAllowed(peer.host)
        return permitted[:MOST_ADDRESSES]

    async def connect(self, addresses: Sequence[str], port: int) -> tuple[socket.socket, str]:
        """A connected socket that does not block, and its address; raises NotReached.

        The addresses are those that `find_addresses` returned: to resolve the name again could find others.
        """
        problem: OSError | None = None
        for address in addresses:
            try:
                async with asyncio.timeout(DIAL_SECONDS / len(addresses)):
                    return await _connect(address, port), address
            except OSError as error:
                problem = error
        raise NotReached(
            f"{', '.join(addresses)}: {problem or 'no answer in time'}", is_silent=isinstance(problem, TimeoutError)
        )

    async def _resolve(self, peer: Peer) -> tuple[str, ...]:
        if is_address(peer.host):
            return (peer.host,)
        try:
            with self._gates.use(peer.namespace) as gate:
                async with asyncio.timeout(LOOKUP_SECONDS), gate.lookups:
                    found = await self.resolver.resolve(peer.host)
        except TimeoutError as error:
            raise HostNotFound(NO_ANSWER) from error
        except (OSError, ValueError) as error:
            raise HostNotFound(str(error)) from error
        if not found:
            raise HostNotFound(NO_ADDRESS)
        return found


def raise_file_limit() -> None:
    """Let the process open as many files as the container may: each connection has three sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def is_address(host: str) -> bool:
    """Whether a host is an IP address and needs no look-up."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def _connect(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(0)
        _watch_peer(connection)
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection


def _watch_peer(connection: socket.socket) -> None:
    """Let the kernel end a connection whose peer is gone, within three seconds."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, 1),
        (socket.TCP_KEEPINTVL, 1),
        (socket.TCP_KEEPCNT, DEAD_PEER_SECONDS - 1),
        (socket.TCP_USER_TIMEOUT, DEAD_PEER_SECONDS * 1000),
        (socket.TCP_NODELAY, 1),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
