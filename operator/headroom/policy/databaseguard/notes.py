"""What a person should know although the server can be used: missing rights, weak TLS, shared servers, the budget,
commits that wait for read replicas.
"""

from collections.abc import Iterable

from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.model.conditions import Finding
from headroom.model.database import ConnectionBudget
from headroom.policy.databaseguard.baseline import find_constant_bound, find_low_bounds
from headroom.policy.databaseguard.facts import GuardFacts, ServerMemory
from headroom.policy.databaseguard.limits import quote_name
from headroom.policy.synchronous import find_synchronous
from headroom.reasons import Reason

RESERVED_SINCE = 16
MOST_NAMED = 5
"""Names in one message; more are only counted."""

WORST_FIRST = (
    Reason.WOULD_BECOME_SYNCHRONOUS,
    Reason.LOGIN_TOO_POWERFUL,
    Reason.MISSING_RIGHT,
    Reason.SUSPECT_OPERATOR,
    Reason.THRESHOLD_BELOW_BASELINE,
    Reason.POOL_LARGER_THAN_SERVER,
    Reason.DATABASE_CONNECTION_LIMIT,
    Reason.SHARED_INSTANCE,
    Reason.TLS_WEAK,
    Reason.PASSWORD_METHOD_WEAK,
    Reason.CANARY_DISABLED,
)
"""The reasons of notes that Ready takes. What the author of the spec has chosen comes late: it must not hide what
nobody knows of.
"""
IN_WORDS_ONLY = (Reason.RESERVE_NOT_ENFORCED,)
"""Only another version of PostgreSQL would change it: as a reason it would be shown for years."""

_WITHOUT: dict[str, str] = {
    "pg_monitor": "lock waiters, transaction ages and the streaming state of replicas are not seen",
    "pg_signal_backend": "sessions are not ended: replicas drain only as clients leave, blockers are only named",
    "pg_use_reserved_connections": "Headroom has no connection kept for it when the server is full",
}


def find_notes(spec: DatabaseGuardSpec, facts: GuardFacts, budget: ConnectionBudget | None) -> tuple[Finding, ...]:
    """One finding for each of them; nothing without a server."""
    server = facts.server
    if server is None:
        return ()
    reserved = int(server.settings.get("reserved_connections", "0"))
    canary_off = Finding(Reason.CANARY_DISABLED, "the canary is off: commit latency is not measured")
    found = (
        *describe_missing_rights(server.missing_rights, facts.role),
        describe_superuser(facts.role) if server.is_superuser else None,
        describe_tls(str(spec.connection.tls.mode)),
        describe_password(str(spec.connection.password_method)),
        describe_reserve(server.major, reserved, facts.role),
        None if spec.canary.enabled else canary_off,
        _describe_sharing(facts),
        find_synchronous(server) if facts.has_sets else None,
        budget.finding if budget is not None else None,
    )
    return tuple(finding for finding in found if finding is not None)


def find_state_notes(spec: DatabaseGuardSpec | None, server: ServerMemory, now: float) -> tuple[Finding, ...]:
    """Why the state is not what the thresholds alone would make of the measurements, or may not be what was meant."""
    suspicion = server.turn.describe(now)
    found = [] if suspicion is None else [suspicion]
    if spec is not None:
        found += find_low_bounds(spec.thresholds, server.calm.baseline)
        found += find_constant_bound(server.calm, server.state, spec.thresholds, now)
    return tuple(found)


def find_worst(notes: Iterable[Finding]) -> Reason:
    """The reason of the worst note, for a guard that is Ready; Connected without notes."""
    found = {note.reason for note in notes}
    return next((reason for reason in WORST_FIRST if reason in found), Reason.CONNECTED)


def _describe_sharing(facts: GuardFacts) -> Finding | None:
    """Which other guards use the server; names of other namespaces are not for readers of this one."""
    others = [f"dbg/{name}" for name in facts.local_guards[:MOST_NAMED]]
    if len(facts.local_guards) > MOST_NAMED:
        others.append(f"{len(facts.local_guards) - MOST_NAMED} more guards of this namespace")
    if facts.foreign_guards:
        others.append("a guard of another namespace" if facts.foreign_guards == 1 else "guards of other namespaces")
    if not others:
        return None
    verb = "watches" if len(facts.local_guards) + facts.foreign_guards == 1 else "watch"
    message = f"{', '.join(others)} {verb} the same server; one guard measures it for all"
    if facts.local_guards:
        message += ", and the pools of this namespace share one budget; keep one guard, if you can"
    return Finding(Reason.SHARED_INSTANCE, message)


def describe_missing_rights(missing: Iterable[str], role: str) -> list[Finding]:
    """One finding for each right that the login lacks."""
    return [Finding(Reason.MISSING_RIGHT, _describe_missing(right, role)) for right in missing]


def _describe_missing(right: str, role: str) -> str:
    consequence = _WITHOUT.get(right, "a feature is off")
    return f"{right} is missing: {consequence}; run: GRANT {right} TO {quote_name(role)}"


def describe_superuser(role: str) -> Finding:
    """Why a superuser should not be the monitor."""
    message = (
        f"{quote_name(role)} is a superuser, so that whoever learns its password may do anything on the primary, and "
        "run programs in the pods of replicas, which let it in; run headroom-setup.sql and name the role that it makes"
    )
    return Finding(Reason.LOGIN_TOO_POWERFUL, message)


def describe_reserve(major: int, reserved_connections: int, role: str) -> Finding | None:
    """Why the server cannot keep a connection for us, or None when it does."""
    if major < RESERVED_SINCE:
        message = f"PostgreSQL {major} cannot reserve connections: the three open ones are kept, and may be lost"
        return Finding(Reason.RESERVE_NOT_ENFORCED, message)
    if reserved_connections == 0:
        message = f'no connection is reserved for "{role}"; set reserved_connections = 5 on the server'
        return Finding(Reason.RESERVE_NOT_ENFORCED, message)
    return None


def describe_password(method: str) -> Finding | None:
    """What the chosen method of login leaves open, or None for SCRAM."""
    if method == "scram-sha-256":
        return None
    message = (
        "connection.passwordMethod allows md5, by which whoever answers can learn to log in as this role; set the "
        "password again with password_encryption = 'scram-sha-256' and remove the field"
    )
    return Finding(Reason.PASSWORD_METHOD_WEAK, message)


def describe_tls(mode: str) -> Finding | None:
    """What the chosen mode of TLS leaves open, or None for verify-full."""
    gaps = {
        "disable": "the connection is not encrypted",
        "require": "the connection is encrypted, but the server is not verified",
        "verify-ca": "the certificate is verified, but not the host name",
    }
    if mode == "verify-full":
        return None
    return Finding(Reason.TLS_WEAK, f"{gaps.get(mode, 'the connection may be unencrypted')}; verify-full is best")
