"""The guard's small decisions: host, budget, rights, identity."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.database import ConnectionCounts, ServerFacts
from headroom.policy.databaseguard.budget import decide_connection_budget
from headroom.policy.databaseguard.identity import check_identity
from headroom.policy.databaseguard.rights import explain_missing_rights, explain_reserve, explain_tls
from headroom.reconcilers.logins import qualify_host
from headroom.reasons import Reason

SERVER = ServerFacts(
    system_identifier="7",
    version=170_002,
    is_in_recovery=False,
    timeline=3,
    flush_lsn=None,
    settings={},
    wal_senders_used=0,
    slots_used=0,
    is_direct=True,
)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("store", "store.shop.svc"),
        ("store.other", "store.other"),
        ("db.example.com", "db.example.com"),
        ("10.0.0.7", "10.0.0.7"),
        ("::1", "::1"),
        ("fd00::7", "fd00::7"),
    ],
)
def test_only_a_bare_name_is_completed(host: str, expected: str) -> None:
    assert qualify_host(host, "shop") == expected


def counts(used: int, limit: int) -> ConnectionCounts:
    return ConnectionCounts(
        used=used, active=0, idle_in_transaction=0, limit=limit, lock_waiters=0, oldest_transaction_seconds=0
    )


def test_the_budget_is_a_share_of_what_is_usable() -> None:
    budget = decide_connection_budget(counts(50, 97), reserve=5, worker_share_percent=60, pool_size=None)
    assert (budget.used, budget.usable, budget.budget) == (50, 92, 55)
    assert budget.used_percent == pytest.approx(100 * 50 / 92)
    assert decide_connection_budget(counts(1, 97), reserve=5, worker_share_percent=60, pool_size=40).budget == 40


@given(
    st.integers(0, 500), st.integers(0, 500), st.integers(0, 1000), st.integers(1, 100), st.none() | st.integers(1, 999)
)
def test_the_budget_never_exceeds_the_usable(used: int, limit: int, reserve: int, share: int, pool: int | None) -> None:
    budget = decide_connection_budget(counts(used, limit), reserve=reserve, worker_share_percent=share, pool_size=pool)
    assert 0 <= budget.budget <= budget.usable <= limit
    assert budget.used_percent >= 0


@given(st.lists(st.sampled_from(["pg_monitor", "pg_signal_backend", "pg_read_all_data", "pg_later"]), unique=True))
def test_every_missing_right_is_named_with_its_grant(missing: list[str]) -> None:
    notes = explain_missing_rights(missing, 'odd"role')
    assert len(notes) == len(missing)
    for right, note in zip(missing, notes, strict=True):
        assert note.reason is Reason.MISSING_RIGHT
        assert f'GRANT {right} TO "odd""role"' in note.message


def test_a_reserve_needs_version_and_setting() -> None:
    assert explain_reserve(17, 5, "m") is None
    for_old, unset = explain_reserve(15, 0, "m"), explain_reserve(17, 0, "m")
    assert for_old is not None
    assert unset is not None
    assert {for_old.reason, unset.reason} == {Reason.RESERVE_NOT_ENFORCED}


def test_only_verify_full_leaves_nothing_to_say() -> None:
    assert explain_tls("verify-full") is None
    messages = {mode: note.message for mode in ("disable", "require", "verify-ca") if (note := explain_tls(mode))}
    assert len(set(messages.values())) == 3


def test_the_first_server_is_ours() -> None:
    assert check_identity(SERVER, pinned=None, accepted=None, highest_timeline=0, name="store") is None


@pytest.mark.parametrize(
    ("server", "pinned", "accepted", "highest", "reason"),
    [
        (SERVER, "7", None, 3, None),
        (SERVER, "7", None, 2, None),
        (SERVER, "7", None, 4, Reason.PRIMARY_STALE),
        (SERVER, "8", None, 3, Reason.PRIMARY_REPLACED),
        (SERVER, "8", "9", 3, Reason.PRIMARY_REPLACED),
        (SERVER, "8", "7", 9, None),
        (replace(SERVER, is_in_recovery=True), "7", None, 3, Reason.NOT_A_PRIMARY),
        (replace(SERVER, is_in_recovery=True), "8", None, 3, Reason.PRIMARY_REPLACED),
    ],
)
def test_a_stranger_is_held(
    server: ServerFacts, pinned: str, accepted: str | None, highest: int, reason: Reason | None
) -> None:
    mismatch = check_identity(server, pinned=pinned, accepted=accepted, highest_timeline=highest, name="store")
    assert (mismatch.reason if mismatch else None) is reason
