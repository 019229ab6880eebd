"""Which server answers: the pinned one or another, and whether two guards watch the same one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.database import ServerFacts
from headroom.policy.databaseguard.identity import (
    ServerId,
    check_identity,
    find_identity_mismatch,
    identify_server,
    is_same_server,
)
from headroom.reasons import Reason
from tests.unit.policy.databaseguard.make import NOON, SERVER, SYSTEM

OTHER_SYSTEM = "7400000000000000009"
ONE = ServerId(SYSTEM, NOON, "10.0.0.7:5432")


def check(server: ServerFacts, pinned: str | None, highest: int, accepted: str | None = None) -> Reason | None:
    found = check_identity(server, pinned=pinned, accepted=accepted, highest_timeline=highest, name="store")
    return found.reason if found else None


def test_the_first_server_is_ours() -> None:
    assert check(SERVER, None, 0) is None


@pytest.mark.parametrize(
    ("server", "pinned", "accepted", "highest", "reason"),
    [
        (SERVER, SYSTEM, None, 3, None),
        (SERVER, SYSTEM, None, 2, None),
        (SERVER, SYSTEM, None, 4, Reason.PRIMARY_STALE),
        (SERVER, OTHER_SYSTEM, None, 3, Reason.PRIMARY_REPLACED),
        (SERVER, OTHER_SYSTEM, "9", 3, Reason.PRIMARY_REPLACED),
        (SERVER, OTHER_SYSTEM, SYSTEM, 9, None),
        (replace(SERVER, is_in_recovery=True), SYSTEM, None, 3, Reason.NOT_A_PRIMARY),
        (replace(SERVER, is_in_recovery=True), OTHER_SYSTEM, None, 3, Reason.PRIMARY_REPLACED),
    ],
)
def test_another_server_is_held(
    server: ServerFacts, pinned: str, accepted: str | None, highest: int, reason: Reason | None
) -> None:
    assert check(server, pinned, highest, accepted) is reason


def test_the_message_tells_how_another_system_is_accepted() -> None:
    found = check_identity(SERVER, pinned=OTHER_SYSTEM, accepted=None, highest_timeline=0, name="store")
    assert found is not None
    command = f"kubectl annotate --overwrite dbg/store headroom.dev/accept-system-identifier={SYSTEM}"
    assert found.message.endswith(command)


def test_the_shared_rule_names_what_answers_and_what_was_seen() -> None:
    replaced = find_identity_mismatch("1", 3, pinned="2", highest_timeline=9)
    stale = find_identity_mismatch("2", 3, pinned="2", highest_timeline=9)
    assert replaced is not None
    assert stale is not None
    assert (replaced.reason, stale.reason) == (Reason.PRIMARY_REPLACED, Reason.PRIMARY_STALE)
    assert replaced.message == "system 1 answers where 2 was seen before"
    assert stale.message.startswith("timeline 3 answers, and 9 was seen")
    assert find_identity_mismatch("2", 9, pinned="2", highest_timeline=9) is None
    assert find_identity_mismatch("2", 1, pinned=None, highest_timeline=0) is None


SAME = [
    ("the same in all", ONE, True, True),
    ("another address, as Services have", replace(ONE, address="10.0.0.8:5432"), True, False),
    ("started later, as a clone or after a restart", replace(ONE, started_at=NOON + timedelta(1)), False, False),
    ("another system", replace(ONE, system_identifier=OTHER_SYSTEM), False, False),
    ("no start at the other side", replace(ONE, started_at=None), False, False),
]


@pytest.mark.parametrize(("other", "within", "across"), [case[1:] for case in SAME], ids=[case[0] for case in SAME])
def test_two_connections_end_at_one_server(other: ServerId, within: bool, across: bool) -> None:
    assert is_same_server(ONE, other, is_same_namespace=True) is within
    assert is_same_server(ONE, other, is_same_namespace=False) is across


def test_a_server_that_tells_nothing_is_known_by_its_address() -> None:
    silent = ServerId("", None, "10.0.0.7:5432")
    for is_same_namespace in (True, False):
        assert is_same_server(silent, silent, is_same_namespace=is_same_namespace)
        assert not is_same_server(silent, replace(silent, address="10.0.0.8:5432"), is_same_namespace=is_same_namespace)
        assert not is_same_server(silent, ONE, is_same_namespace=is_same_namespace)
    nowhere = ServerId("", None, "")
    assert not is_same_server(nowhere, nowhere, is_same_namespace=True), "nothing is known of either"


server_ids = st.builds(
    ServerId,
    st.sampled_from(["", "1", "2"]),
    st.none() | st.sampled_from([datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2)]),
    st.sampled_from(["", "a:1", "b:1"]),
)


@given(server_ids, server_ids, st.booleans())
def test_being_the_same_has_no_direction(one: ServerId, other: ServerId, is_same_namespace: bool) -> None:
    there = is_same_server(one, other, is_same_namespace=is_same_namespace)
    assert there == is_same_server(other, one, is_same_namespace=is_same_namespace)


@given(server_ids, server_ids)
def test_across_namespaces_less_is_believed(one: ServerId, other: ServerId) -> None:
    if is_same_server(one, other, is_same_namespace=False):
        assert is_same_server(one, other, is_same_namespace=True)
        assert one.address == other.address != ""


def test_the_identity_is_taken_from_the_answer() -> None:
    assert identify_server(SERVER) == ServerId(SYSTEM, SERVER.started_at, "10.0.0.7:5432")
