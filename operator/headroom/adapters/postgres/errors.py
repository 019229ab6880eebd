"""psycopg's and libpq's errors as ours: what a person must do depends on the precise cause.

What our own login finds has its reason already. A server that refuses it is classified by its (untranslated) text,
since poolers give no precise SQLSTATE; a text nobody recognises is quoted under PrimaryUnreachable.
"""

import psycopg
from psycopg import errors as pg

from headroom.errors import HeadroomError, PrimaryUnavailable, Refused, describe_failure
from headroom.model.database import ConnectionTarget
from headroom.reasons import Reason

MAX_QUOTE = 300
RUNS = "that the server runs, that its Service has endpoints and that NetworkPolicies let the operator in"
REACH_SERVER = f"check {RUNS}"
REACH_MEMBER = "check its pod, its node, and that NetworkPolicies let the operator in"


class DialError(psycopg.OperationalError):
    """No connection could be opened, and why; the message may be shown to the author of the spec."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


class NoAnswer(DialError):
    """Nothing at the other end accepts a connection, or refuses it, in time."""

    def __init__(self) -> None:
        super().__init__("it did not accept a connection in time", Reason.PRIMARY_TIMEOUT)


# The first phrase that occurs decides: the specific ones stand before the general ones, since a message about several
# addresses holds several causes.
_CONNECT_PHRASES: tuple[tuple[Reason, tuple[str, ...]], ...] = (
    (
        Reason.NOT_A_DIRECT_CONNECTION,
        ("unsupported startup parameter", "no such database:", "no such user:", "pgbouncer", "pooler"),
    ),
    (Reason.NO_CONNECTION_LEFT, ("too many clients", "too many connections", "remaining connection slots")),
    (
        Reason.PASSWORD_REJECTED,
        (
            "password authentication failed",
            "no password supplied",
            "empty password",
            "pg_hba.conf",
            "not permitted to log in",
            "certificate authentication failed",
            "authentication failed for user",
        ),
    ),
    (Reason.MISSING_RIGHT, ("permission denied for database", "must be superuser or replication role")),
    (
        Reason.TLS_FAILED,
        ("ssl", "certificate", "tls"),
    ),
)

SILENCE = (TimeoutError, pg.ConnectionTimeout, NoAnswer)
_NO_TLS = ("server does not support tls", "ssl is not enabled on the server")
"""What our login and servers report where there is no TLS."""
_CONNECT_FIXES: dict[Reason, str] = {
    Reason.DATABASE_NOT_FOUND: "create it or correct connection.database",
    Reason.NOT_A_DIRECT_CONNECTION: (
        "a pooler answers: put the server itself in connection.host and the pooler in connection.via"
    ),
    Reason.NO_CONNECTION_LEFT: "lower the connections of the workers or raise max_connections",
    Reason.HOST_NOT_FOUND: "correct connection.host",
    Reason.HOST_NOT_ALLOWED: "use another host, or ask whoever installed Headroom to allow this one",
    Reason.ANSWER_REFUSED: "check what answers at this host and port",
    Reason.TLS_FAILED: "check connection.tls, the CA and the host name in the server's certificate",
}
"""What to do, where it does not depend on the connection."""
_STATE_REASONS: dict[str, Reason] = {
    "57014": Reason.PRIMARY_TIMEOUT,  # query_canceled: statement_timeout
    "55P03": Reason.PRIMARY_TIMEOUT,  # lock_not_available
    "53300": Reason.NO_CONNECTION_LEFT,  # too_many_connections
    "53400": Reason.SLOTS_EXHAUSTED,  # configuration_limit_exceeded: all replication slots are in use
    "25006": Reason.NOT_A_PRIMARY,  # read_only_sql_transaction
    "28P01": Reason.PASSWORD_REJECTED,
    "28000": Reason.PASSWORD_REJECTED,
}


def translate_connect_error(error: Exception, target: ConnectionTarget, *, role: str = "") -> PrimaryUnavailable:
    """Why no connection could be made, with what to do; `role` names the use of a second login."""
    if isinstance(error, SILENCE):
        return describe_silence(target)
    reason = classify_connect(error)
    text = f"{_where(target)}: {quote(error)}"
    fix = _connect_fix(reason, target, str(error).lower())
    login = f" ({role})" if role else ""
    return PrimaryUnavailable(f"{text}{login}; {fix}" if fix else f"{text}{login}", reason=reason)


def describe_silence(target: ConnectionTarget) -> PrimaryUnavailable:
    """Nobody answers: a server that is gone looks like one that has too much to do."""
    load = "" if target.is_member else "; if it runs, see what loads it"
    message = f"no answer from {_where(target)}: {describe_reach(target)}{load}"
    return PrimaryUnavailable(message, reason=Reason.PRIMARY_TIMEOUT)


def describe_reach(target: ConnectionTarget) -> str:
    """What to check where no server was reached."""
    return REACH_MEMBER if target.is_member else REACH_SERVER


def classify_connect(error: Exception) -> Reason:
    """The reason for which no connection could be opened."""
    return error.reason if isinstance(error, DialError) else classify_connect_text(str(error))


def classify_connect_text(text: str) -> Reason:
    """The reason that libpq's or the server's words stand for."""
    lowered = text.lower()
    if 'database "' in lowered and "does not exist" in lowered:
        return Reason.DATABASE_NOT_FOUND
    if 'role "' in lowered and "does not exist" in lowered:
        return Reason.PASSWORD_REJECTED
    for reason, phrases in _CONNECT_PHRASES:
        if any(phrase in lowered for phrase in phrases):
            return reason
    return Reason.PRIMARY_UNREACHABLE


def translate_statement_error(error: psycopg.Error, target: ConnectionTarget, *, grant: str = "") -> HeadroomError:
    """Why a statement failed; `grant` is what to run when a right is missing."""
    if isinstance(error, pg.InsufficientPrivilege):
        remedy = f"; run: {grant}" if grant else "; run headroom-setup.sql as a superuser"
        return Refused(f"{_where(target)}: {quote(error)}{remedy}", reason=Reason.MISSING_RIGHT)
    state = error.sqlstate
    reason = _STATE_REASONS.get(state or "")
    if reason is None and isinstance(error, pg.ObjectNotInPrerequisiteState):
        reason = _prerequisite(str(error))
    if reason is None:
        is_lost = state is None or state[:2] in {"08", "57"}
        reason = Reason.PRIMARY_UNREACHABLE if is_lost else Reason.QUERY_FAILED
    return PrimaryUnavailable(f"{_where(target)}: {quote(error)}", reason=reason)


def quote(error: BaseException) -> str:
    """The words of an error on one line, bounded; neither libpq nor the server puts a password into them."""
    words = describe_failure(error)
    for prefix in ("connection failed: ", "connection is bad: "):
        words = words.removeprefix(prefix)
    return words if len(words) <= MAX_QUOTE else f"{words[:MAX_QUOTE]}…"


def _prerequisite(text: str) -> Reason:
    return Reason.REPLICATION_NOT_OFFERED if "wal_level" in text or "max_replication" in text else Reason.NOT_A_PRIMARY


def _where(target: ConnectionTarget) -> str:
    return f"{target.host}:{target.port}"


def _connect_fix(reason: Reason, target: ConnectionTarget, text: str) -> str:
    user, database = target.credentials.username, target.database
    match reason:
        case Reason.MISSING_RIGHT:
            return f'run: GRANT CONNECT ON DATABASE "{database}" TO "{user}"'
        case Reason.PASSWORD_REJECTED:
            return f'check username "{user}" and the password in the Secret, and pg_hba.conf'
        case Reason.TLS_FAILED if any(phrase in text for phrase in _NO_TLS):
            return "turn on ssl at the server, or set connection.tls.mode: disable"
        case _:
            return _CONNECT_FIXES.get(reason, "")
