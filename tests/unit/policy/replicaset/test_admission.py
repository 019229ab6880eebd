"""What a primary must offer before a member is begun, and what is said where it does not."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.database import ServerFacts
from headroom.policy.replicaset.admission import Admission, decide_admission, decide_wal_cap
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


def test_a_setting_that_could_not_be_read_holds_nobody_up() -> None:
    for name in ("max_wal_senders", "max_replication_slots", "max_slot_wal_keep_size", "wal_level"):
        assert admit(replace(SERVER, wal_senders_used=99, slots_used=0), **{name: "", "max_wal_senders": ""}) is None


@pytest.mark.parametrize(("used", "is_admitted"), [(8, True), (9, False), (10, False)])
def test_a_copy_takes_two_senders_although_the_replica_keeps_one(used: int, is_admitted: bool) -> None:
    assert (admit(replace(SERVER, wal_senders_used=used)) is None) is is_admitted


@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 8), st.integers(0, 8))
def test_whoever_follows_a_refusal_is_not_asked_twice(used: int, slots: int, wanted: int, held: int) -> None:
    """Members come one after another; each setting that is short is named once, with what the whole set needs."""
    held, asked = min(held, used, slots, wanted), list[str]()
    server = replace(SERVER, wal_senders_used=used, slots_used=slots)
    while held < wanted:
        refusal = decide_admission(Admission(server, True, None, wanted, held, held))
        if refusal is None:
            held, used, slots = held + 1, used + 1, slots + 1
            server = replace(server, wal_senders_used=used, slots_used=slots)
            continue
        [(name, number)] = re.findall(r"ALTER SYSTEM SET (\w+) = (\d+)", refusal.message)
        asked.append(name)
        server = replace(server, settings={**server.settings, name: number})
        assert len(asked) == len(set(asked))


def test_what_touches_each_commit_is_refused_before_what_only_a_new_member_needs() -> None:
    crowded = replace(SERVER, wal_senders_used=10, slots_used=10)
    assert admit(crowded, synchronous_standby_names="*").reason is Reason.WOULD_BECOME_SYNCHRONOUS
    assert admit(crowded, login=False, synchronous_standby_names="*").reason is Reason.REPLICATION_LOGIN_FAILED


@pytest.mark.parametrize(
    ("own", "primarys", "cap"),
    [
        (None, "1024", 512 * 1024**2),
        (7, "1024", 7),
        (7, "-1", 7),
        (None, "-1", None),
        (None, "0", None),
        (None, "", None),
        (None, "unlimited", None),
    ],
)
def test_a_slot_may_keep_its_own_cap_else_half_of_the_primarys(own: int | None, primarys: str, cap: int | None) -> None:
    server = replace(SERVER, settings={**SERVER.settings, "max_slot_wal_keep_size": primarys})
    assert decide_wal_cap(server, own) == cap


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
        ("HR_0123ABCD_01234567_12_k3x", True),
        ('"HR_0123abcd_01234567_0_a"', True),
        ("ANY 1 (s1,\t*)", True),
        ("any 2(s1,\n\tHR_0123abcd_01234567_0_a\n)", True),
        ('FIRST 1 (s1, "*")', True),
        ("FIRST 1 (hr_standby1)", False),
        ("hr_standby1, hr_anything", False),
        ("hr_0123abcd_01234567_0_a_not", False),
        ('"my hr_0123abcd_01234567_0_a"', False),
        ('"a, *"', False),
        ('first, "any 1 (*)"', False),
        ("chr_other", False),
    ],
)
def test_names_that_take_in_ours(names: str, want: bool) -> None:
    assert matches_our_names(names) is want
