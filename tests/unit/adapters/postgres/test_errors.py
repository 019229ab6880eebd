"""What libpq and the server say, as the reason a person can act on."""

import socket
from collections.abc import Sequence
from dataclasses import replace

import psycopg
import pytest
from psycopg import errors as pg

from headroom.adapters.network import Network, NotReached, Peer
from headroom.adapters.postgres.dialer import Dialer
from headroom.adapters.postgres.errors import (
    MAX_QUOTE,
    DialError,
    NoAnswer,
    classify_connect_text,
    quote,
    translate_connect_error,
    translate_statement_error,
)
from headroom.adapters.postgres.links import describe_query_error
from headroom.errors import PrimaryUnavailable, Refused, SignalUnavailable, describe_failure
from headroom.model.database import ConnectionTarget, Credentials
from headroom.reasons import Reason

TARGET = ConnectionTarget("db", 5432, "store", Credentials("monitor", "very-secret"))
FATAL = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: FATAL:  '
FAILED = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FATAL + 'password authentication failed for user "monitor"', Reason.PASSWORD_REJECTED),
        (FAILED + "fe_sendauth: no password supplied", Reason.PASSWORD_REJECTED),
        (FATAL + 'role "monitor" does not exist', Reason.PASSWORD_REJECTED),
        (FATAL + 'role "monitor" is not permitted to log in', Reason.PASSWORD_REJECTED),
        (
            FATAL + 'no pg_hba.conf entry for host "10.0.0.9", user "monitor", database "store", no encryption',
            Reason.PASSWORD_REJECTED,
        ),
        (
            FATAL + 'pg_hba.conf rejects connection for host "10.0.0.9", user "m", database "d", SSL encryption',
            Reason.PASSWORD_REJECTED,
        ),
        (FATAL + 'database "store" does not exist', Reason.DATABASE_NOT_FOUND),
        (FATAL + 'permission denied for database "store"', Reason.MISSING_RIGHT),
        (FATAL + "sorry, too many clients already", Reason.NO_CONNECTION_LEFT),
        (FATAL + 'too many connections for role "monitor"', Reason.NO_CONNECTION_LEFT),
        (
            FATAL + "remaining connection slots are reserved for roles with the SUPERUSER attribute",
            Reason.NO_CONNECTION_LEFT,
        ),
        (FATAL + "unsupported startup parameter: options", Reason.NOT_A_DIRECT_CONNECTION),
        (FAILED + "server does not support SSL, but SSL was required", Reason.TLS_FAILED),
        (FAILED + "SSL error: certificate verify failed", Reason.TLS_FAILED),
        (FAILED + 'server certificate for "x" does not match host name "db"', Reason.TLS_FAILED),
        (FAILED + "Connection refused\n\tIs the server running on that host?", Reason.PRIMARY_UNREACHABLE),
        (FAILED + "server closed the connection unexpectedly", Reason.PRIMARY_UNREACHABLE),
        (FATAL + "the database system is starting up", Reason.PRIMARY_UNREACHABLE),
        (FAILED + "No route to host", Reason.PRIMARY_UNREACHABLE),
        ("something nobody has seen before", Reason.PRIMARY_UNREACHABLE),
    ],
)
def test_connection_errors_are_told_apart_by_their_words(text: str, reason: Reason) -> None:
    error = translate_connect_error(psycopg.OperationalError(text), TARGET)
    assert error.reason is reason
    assert str(error).startswith("db:5432")
    assert "very-secret" not in str(error)


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        (Reason.HOST_NOT_FOUND, "correct connection.host"),
        (Reason.HOST_NOT_ALLOWED, "ask whoever installed Headroom"),
        (Reason.ANSWER_REFUSED, "check what answers"),
        (Reason.TLS_FAILED, "check connection.tls"),
        (Reason.PRIMARY_UNREACHABLE, ""),
    ],
)
def test_what_our_own_login_finds_keeps_its_reason(reason: Reason, fix: str) -> None:
    error = translate_connect_error(DialError("there is no host of this name, FATAL: too many clients", reason), TARGET)
    assert error.reason is reason
    assert str(error).startswith("db:5432: there is no host of this name")
    assert fix in str(error)


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (
            DialError("the server does not support TLS (SSL), which connection.tls.mode asks for", Reason.TLS_FAILED),
            "turn on ssl at the server, or set connection.tls.mode: disable",
        ),
        (
            DialError("the server's certificate is not accepted: self-signed certificate", Reason.TLS_FAILED),
            "check connection.tls, the CA and the host name in the server's certificate",
        ),
        (
            psycopg.OperationalError(FATAL + 'database "store" does not exist'),
            "create it or correct connection.database",
        ),
    ],
)
def test_a_refused_connection_says_what_to_do(error: psycopg.Error, fix: str) -> None:
    assert str(translate_connect_error(error, TARGET)).endswith(f"; {fix}")


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (pg.UndefinedTable("x"), "a table that the query names does not exist"),
        (pg.UndefinedColumn("x"), "a column that the query names does not exist"),
        (pg.UndefinedFunction("x"), "a function that the query names does not exist"),
        (pg.InvalidSchemaName("x"), "a schema that the query names does not exist"),
    ],
)
def test_what_a_users_query_lacks_is_named(error: psycopg.Error, what: str) -> None:
    said = str(describe_query_error(error))
    assert said.startswith(what)
    assert said.endswith(f"(SQLSTATE {error.sqlstate}): run the statement as that login to see it")


def test_several_addresses_are_judged_by_the_most_telling_one() -> None:
    text = f"{FAILED}Connection refused\nAll failures were:\n- {FATAL}password authentication failed"
    assert classify_connect_text(text) is Reason.PASSWORD_REJECTED


@pytest.mark.parametrize("error", [TimeoutError(), pg.ConnectionTimeout("x"), NoAnswer()])
def test_a_server_that_is_silent_is_gone_or_has_too_much_to_do(error: Exception) -> None:
    found = translate_connect_error(error, TARGET)
    assert found.reason is Reason.PRIMARY_TIMEOUT
    assert str(found) == (
        "no answer from db:5432: check that the server runs, that its Service has endpoints and that NetworkPolicies "
        "let the operator in; if it runs, see what loads it"
    )
    member = translate_connect_error(error, replace(TARGET, host="10.0.0.7", is_member=True))
    assert str(member) == (
        "no answer from 10.0.0.7:5432: check its pod, its node, and that NetworkPolicies let the operator in"
    )


class Unreachable(Network):
    """No address accepts a connection."""

    def __init__(self, why: str, *, is_silent: bool) -> None:
        super().__init__()
        self.why, self.is_silent = why, is_silent

    async def find_addresses(self, peer: Peer) -> tuple[str, ...]:
        return ("10.0.0.7",)

    async def connect(self, addresses: Sequence[str], port: int) -> tuple[socket.socket, str]:
        raise NotReached(f"{addresses[0]}: {self.why}", is_silent=self.is_silent)


REFUSED = "[Errno 111] Connect call failed ('10.0.0.7', 5432)"


async def describe_dial(network: Network, *, is_proven: bool) -> str:
    dialer = Dialer(network=network)
    if is_proven:
        dialer.record_proven(("", "10.0.0.7", 5432))
    with pytest.raises(psycopg.OperationalError) as caught:
        await dialer.open(replace(TARGET, tls_mode="disable"), application_name="headroom/guard/x", options={})
    return str(translate_connect_error(caught.value, TARGET))


async def test_a_server_that_was_known_and_is_gone_is_described_in_words() -> None:
    check = "check that the server runs, that its Service has endpoints and that NetworkPolicies let the operator in"
    silent = await describe_dial(Unreachable("no answer in time", is_silent=True), is_proven=True)
    assert silent == f"no answer from db:5432: {check}; if it runs, see what loads it"
    refused = await describe_dial(Unreachable(REFUSED, is_silent=False), is_proven=True)
    assert refused == f"db:5432: 10.0.0.7: the connection was refused; {check}"


async def test_of_an_unknown_one_it_is_not_said_whether_it_refuses() -> None:
    said = {
        await describe_dial(Unreachable(why, is_silent=is_silent), is_proven=False)
        for why, is_silent in (("no answer in time", True), (REFUSED, False))
    }
    assert said == {
        (
            "db:5432: no PostgreSQL server was reached; check host and port, that the server runs, that its Service "
            "has endpoints and that NetworkPolicies let the operator in (the operator's log has the cause)"
        )
    }


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(REFUSED), "the connection was refused"),
        (OSError(f"10.0.0.7: {REFUSED}"), "10.0.0.7: the connection was refused"),
        (
            OSError(f"Multiple exceptions: {REFUSED}, [Errno 113] Connect call failed ('::1', 5432, 0, 0)"),
            "Multiple exceptions: the connection was refused, there is no route to the host",
        ),
        (ConnectionRefusedError(111, "Connect call failed ('10.0.0.7', 443)"), "the connection was refused"),
        (ConnectionResetError(104, "Connection reset by peer"), "the connection was cut"),
        (BrokenPipeError(32, "Broken pipe"), "the connection was cut"),
        (OSError(101, "Network is unreachable"), "there is no route to the network"),
        (OSError(110, "Connection timed out"), "there was no answer in time"),
        (OSError(13, "Permission denied"), "permission denied"),
        (ValueError("x [Connect call failed ('10.0.0.7', 443)]"), "x [the connection failed]"),
        (TimeoutError(), "TimeoutError"),
        (OSError("a server said: no"), "a server said: no"),
    ],
)
def test_a_failed_call_is_described_without_the_notation_of_python(error: Exception, words: str) -> None:
    assert describe_failure(error) == words
    assert quote(error) == words


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (pg.InsufficientPrivilege("no"), Refused, Reason.MISSING_RIGHT),
        (pg.QueryCanceled("statement timeout"), PrimaryUnavailable, Reason.PRIMARY_TIMEOUT),
        (pg.LockNotAvailable("lock"), PrimaryUnavailable, Reason.PRIMARY_TIMEOUT),
        (pg.AdminShutdown("bye"), PrimaryUnavailable, Reason.PRIMARY_UNREACHABLE),
        (pg.ReadOnlySqlTransaction("ro"), PrimaryUnavailable, Reason.NOT_A_PRIMARY),
        (pg.ObjectNotInPrerequisiteState("recovery is in progress"), PrimaryUnavailable, Reason.NOT_A_PRIMARY),
        (
            pg.ObjectNotInPrerequisiteState("replication slots can only be used if wal_level >= replica"),
            PrimaryUnavailable,
            Reason.REPLICATION_NOT_OFFERED,
        ),
        (pg.ConfigurationLimitExceeded("all slots"), PrimaryUnavailable, Reason.SLOTS_EXHAUSTED),
        (pg.TooManyConnections("full"), PrimaryUnavailable, Reason.NO_CONNECTION_LEFT),
        (pg.DivisionByZero("?"), PrimaryUnavailable, Reason.QUERY_FAILED),
        (psycopg.OperationalError("the connection is lost"), PrimaryUnavailable, Reason.PRIMARY_UNREACHABLE),
    ],
)
def test_statement_errors_are_told_apart_by_sqlstate(
    error: psycopg.Error, kind: type[Exception], reason: Reason
) -> None:
    translated = translate_statement_error(error, TARGET, grant="GRANT x TO y")
    assert isinstance(translated, kind)
    assert translated.reason is reason
    assert ("GRANT x TO y" in str(translated)) == (kind is Refused)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (pg.UndefinedTable('relation "card 4111" does not exist'), Reason.QUEUE_NOT_FOUND),
        (pg.UndefinedFunction("card 4111"), Reason.QUEUE_NOT_FOUND),
        (pg.InsufficientPrivilege("card 4111"), Reason.MISSING_RIGHT),
        (pg.QueryCanceled("card 4111"), Reason.QUERY_TIMEOUT),
        (pg.InvalidTextRepresentation('invalid input syntax: "card 4111"'), Reason.QUERY_FAILED),
    ],
)
def test_a_users_query_fails_without_quoting_data(error: psycopg.Error, reason: Reason) -> None:
    explained = describe_query_error(error)
    assert isinstance(explained, SignalUnavailable)
    assert explained.reason is reason
    assert "4111" not in str(explained)
    if reason is not Reason.QUERY_TIMEOUT:
        assert str(error.sqlstate) in str(explained)


def test_a_quote_is_one_bounded_line() -> None:
    text = quote(psycopg.OperationalError("connection failed: a\nb\t" + "x" * 1000))
    assert "\n" not in text
    assert text.startswith("a b ")
    assert len(text) == MAX_QUOTE + 1
