"""Opens the connections to servers: resolved, checked, logged in and filtered before psycopg has them."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg

from headroom.adapters.network import HostNotAllowed, HostNotFound, Network, NotReached, Peer
from headroom.adapters.postgres.conninfo import CONNECT_SECONDS, build_startup_parameters
from headroom.adapters.postgres.errors import DialError
from headroom.adapters.postgres.wire.answers import MOST_NAMESPACE_BYTES, MOST_PROCESS_BYTES, AnswerFilter, Meter
from headroom.adapters.postgres.wire.channel import TlsUnavailable, open_channel
from headroom.adapters.postgres.wire.local import RelayedConnection, open_relayed
from headroom.adapters.postgres.wire.login import Session, WeakLogin, log_in
from headroom.adapters.postgres.wire.messages import NotPostgres, Violation, build_cancel
from headroom.adapters.postgres.wire.scram import KeyDeriver
from headroom.model.database import ConnectionTarget
from headroom.reasons import Reason

logger = logging.getLogger(__name__)

MOST_PROVEN = 4096
"""Addresses that are remembered because a server there proved that it knows a password of ours."""
NOT_REACHED = (
    "no PostgreSQL server was reached; check host, port, NetworkPolicies and that it runs (the operator's log has the "
    "cause)"
)
_Place = tuple[str, str, int]


@dataclass(slots=True)
class Dialer:
    """Opens connections for all links of a process.

    Until a server has proved that it knows the password, a failure says no more than that it was not reached: whether a
    port is closed, silent or something else must not be read from a status.
    """

    network: Network = field(default_factory=Network)
    deriver: KeyDeriver = field(default_factory=KeyDeriver)
    _process: Meter = field(default_factory=lambda: Meter(MOST_PROCESS_BYTES))
    _namespaces: dict[str, Meter] = field(default_factory=dict)
    _proven: "OrderedDict[_Place, None]" = field(default_factory=OrderedDict)

    async def open(
        self,
        target: ConnectionTarget,
        *,
        application_name: str,
        options: Mapping[str, str],
        is_replication: bool = False,
        hears: bool = False,
    ) -> RelayedConnection:
        """A connection; raises DialError, or another psycopg.Error with the server's words, within CONNECT_SECONDS."""
        startup = build_startup_parameters(
            target, application_name=application_name, options=options, is_replication=is_replication
        )
        attempt = _Attempt(self, target)
        try:
            async with asyncio.timeout(CONNECT_SECONDS), self.network.turn(target.namespace):
                session = await attempt.log_in(startup)
                answers = AnswerFilter(self._meter(target.namespace), hears=hears)
                where = f"{attempt.address}:{target.port}"
                link = await open_relayed(session, answers, where, application_name)
        except (HostNotFound, HostNotAllowed, NotReached, Violation, TimeoutError, OSError) as error:
            raise attempt.describe(error) from error
        except ValueError as error:
            raise DialError(str(error), Reason.SECRET_INVALID) from error
        link.cancel_request = lambda: self._cancel(attempt, session)
        return link

    async def _cancel(self, attempt: "_Attempt", session: Session) -> None:
        connection, _ = await self.network.connect((attempt.address,), attempt.target.port)
        channel = await open_channel(connection, attempt.target)
        channel.transport.write(build_cancel(session.pid, session.key))
        channel.transport.close()

    def is_proven(self, place: _Place) -> bool:
        """Whether a server there has proved that it knows a password of this namespace."""
        return place in self._proven

    def record_proven(self, place: _Place) -> None:
        """A server there has just proved it."""
        self._proven[place] = None
        self._proven.move_to_end(place)
        while len(self._proven) > MOST_PROVEN:
            self._proven.popitem(last=False)

    def _meter(self, namespace: str) -> Meter:
        return self._namespaces.setdefault(namespace, Meter(MOST_NAMESPACE_BYTES, self._process))


@dataclass(slots=True)
class _Attempt:
    """One connection that is being opened."""

    dialer: Dialer
    target: ConnectionTarget
    address: str = ""

    async def log_in(self, startup: Mapping[str, str]) -> Session:
        target = self.target
        peer = Peer(target.host, target.port, target.namespace, target.is_member)
        try:
            addresses = await self.dialer.network.find_addresses(peer)
            self.address = addresses[0]
            connection, self.address = await self.dialer.network.connect(addresses, peer.port)
            channel = await open_channel(connection, self.target)
        except TlsUnavailable as error:
            raise DialError(str(error), Reason.TLS_FAILED) from error
        try:
            session = await log_in(channel, self.target, startup, self.dialer.deriver)
        except WeakLogin as error:
            channel.transport.abort()
            raise DialError(str(error), Reason.PASSWORD_METHOD_WEAK) from error
        except BaseException:
            channel.transport.abort()
            raise
        if session.is_proven:
            self.dialer.record_proven(self._place)
        return session

    def describe(self, error: Exception) -> psycopg.Error:
        """What a status may say of a failure; the rest goes to the log."""
        target = self.target
        if isinstance(error, HostNotFound):
            return DialError(str(error), Reason.HOST_NOT_FOUND)
        if isinstance(error, HostNotAllowed):
            return DialError("policy.hosts of the installation does not permit it", Reason.HOST_NOT_ALLOWED)
        if isinstance(error, Violation) and not isinstance(error, NotPostgres):
            return DialError(str(error), Reason.ANSWER_REFUSED)
        if self.dialer.is_proven(self._place):
            if isinstance(error, TimeoutError) or (isinstance(error, NotReached) and error.is_silent):
                return DialError("it did not accept a connection in time", Reason.PRIMARY_TIMEOUT)
            return DialError(str(error), Reason.PRIMARY_UNREACHABLE)
        logger.info(
            "%s:%d (namespace %s): not reached: %s", target.host, target.port, target.namespace,
            str(error) or type(error).__name__,
        )  # fmt: skip
        return DialError(NOT_REACHED, Reason.PRIMARY_UNREACHABLE)

    @property
    def _place(self) -> _Place:
        return self.target.namespace, self.address, self.target.port
