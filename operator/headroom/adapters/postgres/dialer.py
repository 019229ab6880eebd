"""Opens the connections to servers: resolved, checked, logged in and filtered before psycopg has them."""

import asyncio
import logging
import ssl
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg

from headroom.adapters.network import HostNotAllowed, HostNotFound, Network, NotReached, NoTurn, Peer
from headroom.adapters.postgres.conninfo import CONNECT_SECONDS, build_startup_parameters
from headroom.adapters.postgres.errors import RUNS, DialError, NoAnswer, classify_connect_text, describe_reach
from headroom.adapters.postgres.refusals import Refusals
from headroom.adapters.postgres.wire.answers import MOST_ANSWER_BYTES, AnswerFilter
from headroom.adapters.postgres.wire.contexts import Contexts
from headroom.adapters.postgres.wire.handshakes import Handshakes
from headroom.adapters.postgres.wire.local import RelayedConnection, open_relayed
from headroom.adapters.postgres.wire.login import UNBOUND, LoginRefused, Session, UnboundLogin, WeakLogin, log_in
from headroom.adapters.postgres.wire.messages import NotPostgres, Violation, build_cancel
from headroom.adapters.postgres.wire.meter import Meter
from headroom.adapters.postgres.wire.opening import TlsUnavailable, open_channel
from headroom.adapters.postgres.wire.pace import Pace
from headroom.adapters.postgres.wire.scram import KeyDeriver
from headroom.errors import describe_failure
from headroom.model.database import ConnectionTarget
from headroom.reasons import Reason

logger = logging.getLogger(__name__)

MOST_PROVEN = 4096
"""Addresses that are remembered because a server there proved that it knows a password of ours."""
NOT_REACHED = f"no PostgreSQL server was reached; check host and port, {RUNS} (the operator's log has the cause)"
NO_TURN = "too many connections of this namespace are being opened now, to hosts that do not answer; it is tried again"
COARSE: Mapping[Reason, str] = {
    Reason.PASSWORD_REJECTED: "the login was refused",
    Reason.TLS_FAILED: "there is no TLS at the server, or none that connection.tls accepts",
    Reason.PASSWORD_METHOD_WEAK: (
        "the server asks for no login by SCRAM: set password_encryption = 'scram-sha-256', set the password again, and "
        "ask for it in pg_hba.conf"
    ),
    Reason.NO_CONNECTION_LEFT: "the server has no connection left",
    Reason.DATABASE_NOT_FOUND: "the server has no such database",
    Reason.NOT_A_DIRECT_CONNECTION: "the login was refused",
    Reason.MISSING_RIGHT: "the login was refused",
}
"""All that a status says of a server that refuses a login and has not proved that it knows the password."""
NOT_TAKEN = "the server takes no login now (the operator's log has the cause)"
_Place = tuple[str, str, int]


@dataclass(slots=True)
class Dialer:
    """Opens connections for all links of a process.

    Until a server has proved that it knows the password, a failure is described in words of ours: not reached, whatever
    else answers there, or reached and not accepted. What the server said is in the operator's log.
    """

    network: Network = field(default_factory=Network)
    deriver: KeyDeriver = field(default_factory=KeyDeriver)
    contexts: Contexts = field(default_factory=Contexts)
    handshakes: Handshakes = field(default_factory=Handshakes)
    pace: Pace = field(default_factory=Pace)
    refusals: Refusals = field(default_factory=Refusals)
    _meter: Meter = field(default_factory=Meter)
    _proven: "OrderedDict[_Place, None]" = field(default_factory=OrderedDict)

    async def open(
        self,
        target: ConnectionTarget,
        *,
        application_name: str,
        options: Mapping[str, str],
        is_replication: bool = False,
        hears: bool = False,
        most_bytes: int = MOST_ANSWER_BYTES,
    ) -> RelayedConnection:
        """A connection; raises DialError, or a psycopg.Error with the words of a server that has proved itself.

        It takes CONNECT_SECONDS at most, and before that as long again to wait for a turn.
        """
        startup = build_startup_parameters(
            target, application_name=application_name, options=options, is_replication=is_replication
        )
        attempt = _Attempt(self, target)
        try:
            # Before the host is asked: whether it answers must not be read from what is wrong with a certificate.
            context = await self.contexts.get(target)
            async with self.network.turn(attempt.peer), asyncio.timeout(CONNECT_SECONDS):
                session = await attempt.log_in(startup, context)
                answers = AnswerFilter(self._meter, target.namespace, hears, most_bytes)
                where = f"{attempt.address}:{target.port}"
                link = await open_relayed(session, answers, where, application_name)
        except (HostNotFound, HostNotAllowed, NotReached, NoTurn, Violation, TimeoutError, OSError) as error:
            raise attempt.describe(error) from error
        except (LoginRefused, WeakLogin, TlsUnavailable) as error:
            raise attempt.describe_refusal(error) from error
        except ValueError as error:
            raise DialError(str(error), Reason.SECRET_INVALID) from error
        link.cancel_request = lambda: self._cancel(attempt, session, context)
        return link

    async def _cancel(self, attempt: "_Attempt", session: Session, context: ssl.SSLContext | None) -> None:
        connection, _ = await self.network.connect((attempt.address,), attempt.target.port)
        channel = await open_channel(connection, attempt.target, context, self.handshakes, self.pace)
        channel.write(build_cancel(session.pid, session.key))
        channel.close()

    def is_proven(self, place: _Place) -> bool:
        """Whether a server there has proved that it knows a password of this namespace."""
        return place in self._proven

    def record_proven(self, place: _Place) -> None:
        """A server there has just proved it."""
        self._proven[place] = None
        self._proven.move_to_end(place)
        while len(self._proven) > MOST_PROVEN:
            self._proven.popitem(last=False)


@dataclass(slots=True)
class _Attempt:
    """One connection that is being opened."""

    dialer: Dialer
    target: ConnectionTarget
    address: str = ""

    @property
    def peer(self) -> Peer:
        """Where to connect."""
        target = self.target
        return Peer(target.host, target.port, target.namespace, target.is_member)

    async def log_in(self, startup: Mapping[str, str], context: ssl.SSLContext | None) -> Session:
        addresses = await self.dialer.network.find_addresses(self.peer)
        self.address = addresses[0]
        connection, self.address = await self.dialer.network.connect(addresses, self.peer.port)
        dialer = self.dialer
        channel = await open_channel(connection, self.target, context, dialer.handshakes, dialer.pace)
        try:
            session = await log_in(channel, self.target, startup, self.dialer.deriver)
        except BaseException as error:
            channel.abort()
            if isinstance(error, LoginRefused) and error.is_proven:
                self.dialer.record_proven(self._place)
            raise
        if session.is_proven:
            self.dialer.record_proven(self._place)
        return session

    def describe(self, error: Exception) -> psycopg.Error:
        """What a status may say of a failure; the rest goes to the log."""
        if isinstance(error, HostNotFound):
            return DialError(str(error), Reason.HOST_NOT_FOUND)
        if isinstance(error, HostNotAllowed):
            return DialError("policy.hosts of the installation does not permit it", Reason.HOST_NOT_ALLOWED)
        if isinstance(error, NoTurn):
            return DialError(NO_TURN, Reason.PRIMARY_TIMEOUT)
        if isinstance(error, Violation) and not isinstance(error, NotPostgres):
            return DialError(str(error), Reason.ANSWER_REFUSED)
        if self._may_be_quoted:
            if isinstance(error, TimeoutError) or (isinstance(error, NotReached) and error.is_silent):
                return NoAnswer()
            message = f"{describe_failure(error)}; {describe_reach(self.target)}"
            return DialError(message, Reason.PRIMARY_UNREACHABLE)
        self._log("not reached", error)
        return DialError(NOT_REACHED, Reason.PRIMARY_UNREACHABLE)

    def describe_refusal(self, error: psycopg.Error) -> psycopg.Error:
        """What a status may say of a server that answers and accepts no session."""
        if isinstance(error, WeakLogin):
            reason = Reason.PASSWORD_METHOD_WEAK
        elif isinstance(error, TlsUnavailable):
            reason = Reason.TLS_FAILED
        else:
            reason = classify_connect_text(str(error))
        if self._may_be_quoted:
            return DialError(str(error), reason)
        self._log("no session", error)
        return DialError(UNBOUND if isinstance(error, UnboundLogin) else COARSE.get(reason, NOT_TAKEN), reason)

    def _log(self, what: str, error: Exception) -> None:
        target, cause = self.target, str(error) or type(error).__name__
        logger.info("%s:%d (namespace %s): %s: %s", target.host, target.port, target.namespace, what, cause)

    @property
    def _may_be_quoted(self) -> bool:
        """No author chooses the address of a replica."""
        return self.target.is_member or self.dialer.is_proven(self._place)

    @property
    def _place(self) -> _Place:
        return self.target.namespace, self.address, self.target.port
