"""What is reported although the server can be used: rights, TLS, the reserve, the canary, other guards."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.conditions import Finding
from headroom.model.database import ConnectionBudget
from headroom.policy.databaseguard import notes
from headroom.policy.databaseguard.facts import GuardFacts
from headroom.policy.databaseguard.notes import (
    IN_WORDS_ONLY,
    WORST_FIRST,
    describe_missing_rights,
    describe_reserve,
    describe_tls,
    find_notes,
    find_worst,
)
from headroom.reasons import Reason
from headroom.reconcilers.logins import qualify_host
from tests.unit.policy.databaseguard.make import SERVER, make_spec


def notes_of(spec: dict[str, Any] | None = None, **facts: Any) -> dict[Reason, str]:
    made = GuardFacts("store", role="monitor", **{"server": SERVER, **facts})
    return {note.reason: note.message for note in find_notes(make_spec(**(spec or {})), made, None)}


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


@given(st.lists(st.sampled_from(["pg_monitor", "pg_signal_backend", "pg_later"]), unique=True))
def test_every_missing_right_is_named_with_its_grant(missing: list[str]) -> None:
    found = describe_missing_rights(missing, 'odd"role')
    assert len(found) == len(missing)
    for right, note in zip(missing, found, strict=True):
        assert note.reason is Reason.MISSING_RIGHT
        assert f'GRANT {right} TO "odd""role"' in note.message


def test_a_reserve_needs_version_and_setting() -> None:
    assert describe_reserve(17, 5, "m") is None
    for_old, unset = describe_reserve(15, 0, "m"), describe_reserve(17, 0, "m")
    assert for_old is not None
    assert unset is not None
    assert {for_old.reason, unset.reason} == {Reason.RESERVE_NOT_ENFORCED}


def test_only_verify_full_leaves_nothing_open() -> None:
    assert describe_tls("verify-full") is None
    messages = {mode: note.message for mode in ("disable", "require", "verify-ca") if (note := describe_tls(mode))}
    assert len(set(messages.values())) == 3


def test_a_login_by_md5_is_said_with_the_remedy() -> None:
    found = notes_of({"connection": {"passwordMethod": "md5"}})
    assert list(found) == [Reason.PASSWORD_METHOD_WEAK]
    assert "scram-sha-256" in found[Reason.PASSWORD_METHOD_WEAK]


def test_a_superuser_as_monitor_is_said_with_the_remedy() -> None:
    found = notes_of(server=replace(SERVER, is_superuser=True))
    assert list(found) == [Reason.LOGIN_TOO_POWERFUL]
    assert '"monitor" is a superuser' in found[Reason.LOGIN_TOO_POWERFUL]
    assert "headroom-setup.sql" in found[Reason.LOGIN_TOO_POWERFUL]


def test_a_server_as_it_should_be_has_no_note() -> None:
    assert notes_of() == {}
    assert notes_of(server=None) == {}


def test_each_note_has_its_reason() -> None:
    server = replace(SERVER, missing_rights=("pg_monitor",), settings={})
    found = notes_of({"canary": {"enabled": False}, "connection": {"tls": {"mode": "require"}}}, server=server)
    assert list(found) == [Reason.MISSING_RIGHT, Reason.TLS_WEAK, Reason.RESERVE_NOT_ENFORCED, Reason.CANARY_DISABLED]
    assert 'GRANT pg_monitor TO "monitor"' in found[Reason.MISSING_RIGHT]


def test_the_worst_note_gives_the_reason() -> None:
    assert find_worst(()) is Reason.CONNECTED
    assert find_worst([Finding(reason, "") for reason in IN_WORDS_ONLY]) is Reason.CONNECTED
    left = [Finding(reason, "") for reason in WORST_FIRST]
    for worst in WORST_FIRST:
        assert find_worst(reversed(left)) is worst
        left.pop(0)


def test_what_the_author_of_the_spec_chose_hides_no_fault() -> None:
    """`tls.mode: disable` is named, and does not keep from view that the login lacks a right."""
    chosen = (Reason.TLS_WEAK, Reason.PASSWORD_METHOD_WEAK, Reason.CANARY_DISABLED)
    assert WORST_FIRST[-len(chosen) :] == chosen
    assert WORST_FIRST[:2] == (Reason.WOULD_BECOME_SYNCHRONOUS, Reason.LOGIN_TOO_POWERFUL)


def test_each_note_can_be_the_reason() -> None:
    """A reason that the reference explains and no guard shows cannot be looked up."""
    folder = Path(notes.__file__).parent
    texts = [folder / name for name in ("notes.py", "budget.py", "limits.py", "suspicion.py", "baseline.py")]
    made = {found for text in texts for found in re.findall(r"Finding\(\s*Reason\.(\w+)", text.read_text())}
    assert made <= {reason.name for reason in (*WORST_FIRST, *IN_WORDS_ONLY)}, made
    assert len(made) >= 10


@pytest.mark.parametrize(
    ("local_guards", "foreign_guards", "text"),
    [
        (("second",), 0, "dbg/second watches the same server"),
        (("a", "b"), 0, "dbg/a, dbg/b watch the same server"),
        ((), 1, "a guard of another namespace watches the same server"),
        ((), 3, "guards of other namespaces watch the same server"),
        (("a",), 2, "dbg/a, guards of other namespaces watch the same server"),
    ],
)
def test_other_guards_of_the_server_are_named(local_guards: tuple[str, ...], foreign_guards: int, text: str) -> None:
    found = notes_of(local_guards=local_guards, foreign_guards=foreign_guards)
    message = found[Reason.SHARED_INSTANCE]
    assert message.startswith(f"{text}; one guard measures it for all")
    assert ("the pools of this namespace share one budget" in message) is bool(local_guards)


def test_why_the_budget_is_smaller_than_asked_for_is_reported() -> None:
    finding = Finding(Reason.POOL_LARGER_THAN_SERVER, "the pooler is too large")
    budget = ConnectionBudget(1, 92, 32, 1.0, finding)
    assert find_notes(make_spec(), GuardFacts("store", server=SERVER), budget) == (finding,)
