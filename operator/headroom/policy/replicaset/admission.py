"""Whether the primary can take one more replica: a chain of checks. The first one that fails says what to change."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from headroom.model.conditions import Finding
from headroom.model.database import NEWEST_MAJOR, OLDEST_MAJOR, ServerFacts
from headroom.reasons import Reason

SENDERS_PER_COPY = 2
"""A copy with its WAL takes two senders; the replica keeps one of them."""
OUR_NAMES = "hr_"


@dataclass(frozen=True, slots=True)
class Admission:
    """What a new member would need; `max_slot_wal` is the spec's cap in bytes, None without one."""

    server: ServerFacts
    has_replication_login: bool
    max_slot_wal: int | None


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
    message = f"{used} of max_wal_senders = {most} are in use and a copy takes {SENDERS_PER_COPY}: raise it"
    return Finding(Reason.WAL_SENDERS_EXHAUSTED, message)


def _check_slots(admission: Admission) -> Finding | None:
    most = _number(admission.server, "max_replication_slots")
    used = admission.server.slots_used
    if most is None or used < most:
        return None
    return Finding(Reason.SLOTS_EXHAUSTED, f"all of max_replication_slots = {most} are in use: raise it")


def _check_synchronous(admission: Admission) -> Finding | None:
    names = admission.server.settings.get("synchronous_standby_names", "")
    if not matches_our_names(names):
        return None
    message = f"synchronous_standby_names = {names} would make commits wait for read replicas: name the standbys in it"
    return Finding(Reason.WOULD_BECOME_SYNCHRONOUS, message)


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


def matches_our_names(synchronous_standby_names: str) -> bool:
    """Whether the list of synchronous standbys contains a name of ours: by `*`, or by the name."""
    text = re.sub(r"(?i)^\s*(first|any)?\s*\d+\s*\(", "", synchronous_standby_names)
    names = [name.strip(' ")').lower() for name in text.split(",")]
    return any(name == "*" or name.startswith(OUR_NAMES) for name in names)


def _number(server: ServerFacts, name: str) -> int | None:
    text = server.settings.get(name, "")
    return int(text) if re.fullmatch(r"-?\d+", text) else None


CHECKS: tuple[Check, ...] = (
    _check_login,
    _check_version,
    _check_primary,
    _check_senders,
    _check_slots,
    _check_synchronous,
    _check_wal_cap,
)
