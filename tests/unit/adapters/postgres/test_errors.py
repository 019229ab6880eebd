"""What libpq and the server say, as the reason a person can act on."""

import psycopg
import pytest
from psycopg import errors as pg

from headroom.adapters.postgres.errors import (
    MAX_QUOTE,
    DialError,
    classify_connect_text,
    quote,
    translate_connect_error,
    translate_statement_error,
)
from headroom.adapters.postgres.links import describe_query_error
from headroom.errors import PrimaryUnavailable, Refused, SignalUnavailable
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


def test_a_deadline_of_our_own_is_a_timeout() -> None:
    assert translate_connect_error(TimeoutError(), TARGET).reason is Reason.PRIMARY_TIMEOUT
    assert translate_connect_error(pg.ConnectionTimeout("x"), TARGET).reason is Reason.PRIMARY_TIMEOUT


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
