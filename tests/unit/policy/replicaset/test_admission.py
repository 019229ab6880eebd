"""What a primary must offer before a member is begun, and what is said where it does not."""

from dataclasses import replace
from typing import Any

import pytest

from headroom.model.database import ServerFacts
from headroom.policy.replicaset.admission import Admission, decide_admission
from headroom.policy.synchronous import matches_our_names
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import SERVER


def admit(server: ServerFacts = SERVER, *, cap: int | None = None, login: bool = True, **settings: str) -> Any:
    changed = replace(server, settings={**server.settings, **settings})
    return decide_admission(Admission(changed, login, cap))


def test_a_primary_with_room_admits() -> None:
    assert admit() is None


@pytest.mark.parametrize(
    ("refusal", "reason", "remedy"),
    [
        (admit(login=False), Reason.REPLICATION_LOGIN_FAILED, "replicationSecretRef"),
        (admit(replace(SERVER, version=130000)), Reason.UNSUPPORTED_VERSION, "14 to 18"),
        (admit(replace(SERVER, is_in_recovery=True)), Reason.NOT_A_PRIMARY, "connection.host"),
        (admit(wal_level="minimal"), Reason.REPLICATION_NOT_OFFERED, "set it to replica"),
        (admit(full_page_writes="off"), Reason.UNSUPPORTED_PRIMARY, "turn it on"),
        (admit(replace(SERVER, has_user_tablespaces=True)), Reason.UNSUPPORTED_PRIMARY, "tablespaces"),
        (admit(replace(SERVER, wal_senders_used=9)), Reason.WAL_SENDERS_EXHAUSTED, "SET max_wal_senders = 11, then"),
        (admit(replace(SERVER, slots_used=10)), Reason.SLOTS_EXHAUSTED, "SET max_replication_slots = 11, then"),
        (admit(synchronous_standby_names="*"), Reason.WOULD_BECOME_SYNCHRONOUS, "name only standbys"),
        (admit(max_slot_wal_keep_size="-1"), Reason.WAL_CAP_REQUIRED, "provisioning.maxSlotWAL"),
    ],
)
def test_each_refusal_names_the_remedy(refusal: Any, reason: Reason, remedy: str) -> None:
    assert refusal.reason is reason
    assert remedy in refusal.message


def test_what_is_missing_is_counted_for_the_whole_set() -> None:
    """Three replicas and a standby beside one of somebody else: what one more would need helps for a minute only."""
    server = replace(SERVER, wal_senders_used=2, slots_used=2)
    few = replace(server, settings={**server.settings, "max_wal_senders": "3", "max_replication_slots": "2"})
    refusal = decide_admission(Admission(few, True, None, wanted=4, senders_held=1, slots_held=1))
    assert refusal is not None
    assert refusal.message == (
        "4 replicas need max_wal_senders ≥ 6 while a copy runs, and it is 3, of which 2 are in use: "
        "ALTER SYSTEM SET max_wal_senders = 6, then restart the primary"
    )
    enough = replace(few, settings={**few.settings, "max_wal_senders": "10"})
    refusal = decide_admission(Admission(enough, True, None, wanted=4, senders_held=1, slots_held=1))
    assert refusal is not None
    assert "max_replication_slots ≥ 5" in refusal.message


def test_a_cap_of_our_own_stands_in_for_the_primarys() -> None:
    assert admit(cap=8 * 1024**3, max_slot_wal_keep_size="-1") is None


@pytest.mark.parametrize(
    ("names", "want"),
    [
        ("", False),
        ("standby1, standby2", False),
        ("*", True),
        ("FIRST 1 (standby1, standby2)", False),
        ("ANY 1 (*)", True),
        ("2 (a, b, *)", True),
        ('FIRST 1 ("hr_0123abcd_01234567_0_a")', True),
        ("HR_anything", True),
        ("chr_other", False),
    ],
)
def test_names_that_take_in_ours(names: str, want: bool) -> None:
    assert matches_our_names(names) is want
