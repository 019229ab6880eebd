"""Whether the primary can take one more replica: a chain of checks. The first one that fails says what to change."""

from collections.abc import Callable
from dataclasses import dataclass

from headroom.model.conditions import Finding
from headroom.model.database import NEWEST_MAJOR, OLDEST_MAJOR, ServerFacts
from headroom.model.numbers import count_of
from headroom.model.text import parse_count
from headroom.policy.synchronous import find_synchronous
from headroom.reasons import Reason

SENDERS_PER_COPY = 2
"""A copy with its WAL takes two senders; the replica keeps one of them."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What a new member would need; `max_slot_wal` is the spec's cap in bytes, None without one."""

    server: ServerFacts
    has_replication_login: bool
    max_slot_wal: int | None
    wanted: int = 0
    """Members that there are to be: serving ones and standbys."""
    senders_held: int = 0
    """WAL senders that serve our members."""
    slots_held: int = 0
    """Slots of our members."""


Check = Callable[[Admission], Finding | None]


def decide_admission(admission: Admission) -> Finding | None:
    """Why the primary cannot take one more member; None if all budgets and parameters allow it."""
    return next((refusal for check in CHECKS if (refusal := check(admission)) is not None), None)


def _check_login(admission: Admission) -> Finding | None:
    if admission.has_replication_login:
        return None
    message = (
        "the DatabaseGuard has no login to replicate with: set connection.replicationSecretRef; if it is set, see "
        "the conditions of the dbg"
    )
    return Finding(Reason.REPLICATION_LOGIN_FAILED, message)


def _check_version(admission: Admission) -> Finding | None:
    major = admission.server.major
    if OLDEST_MAJOR <= major <= NEWEST_MAJOR:
        return None
    message = f"the primary is PostgreSQL {major}; {OLDEST_MAJOR} to {NEWEST_MAJOR} are supported"
    return Finding(Reason.UNSUPPORTED_VERSION, message)


def _check_primary(admission: Admission) -> Finding | None:
    server = admission.server
    if server.is_in_recovery:
        return Finding(Reason.NOT_A_PRIMARY, "the server is in recovery: let connection.host follow the primary")
    if server.settings.get("wal_level") == "minimal":
        return Finding(Reason.REPLICATION_NOT_OFFERED, "wal_level is minimal on the primary: set it to replica")
    if server.settings.get("full_page_writes") == "off":
        return Finding(Reason.UNSUPPORTED_PRIMARY, "full_page_writes is off on the primary: turn it on")
    if server.has_user_tablespaces:
        return Finding(
            Reason.UNSUPPORTED_PRIMARY, "the primary has user tablespaces, which replicas have no volume for"
        )
    return None


def _check_senders(admission: Admission) -> Finding | None:
    most = _number(admission.server, "max_wal_senders")
    used = admission.server.wal_senders_used
    if most is None or most - used >= SENDERS_PER_COPY:
        return None
    # One for each member, and one more while a copy runs.
    needed = max(used - admission.senders_held + admission.wanted + 1, used + SENDERS_PER_COPY)
    return Finding(Reason.WAL_SENDERS_EXHAUSTED, _describe_limit(admission, "max_wal_senders", most, used, needed))


def _check_slots(admission: Admission) -> Finding | None:
    most = _number(admission.server, "max_replication_slots")
    used = admission.server.slots_used
    if most is None or used < most:
        return None
    needed = max(used - admission.slots_held + admission.wanted, used + 1)
    return Finding(Reason.SLOTS_EXHAUSTED, _describe_limit(admission, "max_replication_slots", most, used, needed))


def _describe_limit(admission: Admission, name: str, most: int, used: int, needed: int) -> str:
    """The cause, then what to set; both settings take effect at a restart only."""
    during = " while a copy runs" if name == "max_wal_senders" else ""
    return (
        f"{count_of(admission.wanted or 1, 'replica needs', 'replicas need')} {name} ≥ {needed}{during}, and it is "
        f"{most}, of which {used} are in use: ALTER SYSTEM SET {name} = {needed}, then restart the primary"
    )


def _check_synchronous(admission: Admission) -> Finding | None:
    return find_synchronous(admission.server)


def _check_wal_cap(admission: Admission) -> Finding | None:
    if admission.max_slot_wal is not None or _number(admission.server, "max_slot_wal_keep_size") != -1:
        return None
    message = (
        "the primary keeps WAL for slots without limit, so a lost replica could fill its disk: set "
        "provisioning.maxSlotWAL here or max_slot_wal_keep_size there"
    )
    return Finding(Reason.WAL_CAP_REQUIRED, message)


def decide_wal_cap(server: ServerFacts, max_slot_wal: int | None) -> int | None:
    """Bytes of WAL a slot may keep: the spec's cap, else half of the primary's; None if neither is known."""
    if max_slot_wal is not None:
        return max_slot_wal
    megabytes = _number(server, "max_slot_wal_keep_size")
    return megabytes * 1024**2 // 2 if megabytes is not None and megabytes > 0 else None


def _number(server: ServerFacts, name: str) -> int | None:
    text = server.settings.get(name, "")
    count = parse_count(text.removeprefix("-"))
    return -count if count is not None and text.startswith("-") else count


CHECKS: tuple[Check, ...] = (
    _check_login,
    _check_version,
    _check_primary,
    # Before all budgets: it concerns the members that there are, and each commit of the primary.
    _check_synchronous,
    _check_senders,
    _check_slots,
    _check_wal_cap,
)
