"""What is kept of an answer is bounded, whatever a server sends in the place of what was asked."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.postgres import rows, sql
from headroom.adapters.postgres.libraries import MOST_KEPT, NEW, _Kept
from headroom.adapters.postgres.queues.job_times import _parse as parse_times
from headroom.adapters.postgres.queues.procrastinate_counts import parse_flow
from headroom.adapters.postgres.queues.sharing import SharedQuestions, SharedStatement
from headroom.adapters.postgres.values import (
    MOST_PLAIN,
    read_number,
    read_plain,
    read_text,
    read_whole,
    understood,
)
from headroom.adapters.postgres.waits import MOST_EVENTS, WaitReader
from headroom.errors import PrimaryUnavailable
from headroom.model.libraries import CollationFacts, DatabaseLibraries
from headroom.ports.signals import QueueTables
from headroom.reasons import Reason

LONG = "x" * 100_000
ENDLESS = Decimal("1e999999999")
"""int() of it takes minutes."""
MALFORMED = (ValueError, TypeError)
SERVER: dict[str, Any] = {
    "system_identifier": "1", "version": 170002, "is_in_recovery": False, "timeline": 1, "flush_lsn": "0/1",
    "settings": {}, "wal_senders_used": 0, "slots_used": 0, "missing_rights": [], "has_user_tablespaces": False,
    "is_superuser": False, "started_at": datetime(2026, 1, 1, tzinfo=UTC),
}  # fmt: skip
COUNTS: dict[str, Any] = {
    "used": 1, "active": 1, "idle_in_transaction": 0, "usable": 100, "lock_waiters": 0,
    "oldest_transaction_seconds": 0.0, "roles": None, "databases": None,
}  # fmt: skip


def test_an_answer_that_is_not_understood_each_second_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        with pytest.raises(PrimaryUnavailable) as caught, understood("db:5432"):
            read_whole(LONG)
        assert caught.value.reason is Reason.ANSWER_REFUSED
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]


def test_of_parameters_those_that_were_asked_are_kept_and_cut() -> None:
    told = {f"x{number}": "" for number in range(10_000)} | {"wal_level": "replica", "shared_buffers": LONG}
    facts = rows.parse_server({**SERVER, "settings": told}, "db:5432")
    assert set(facts.settings) == {"wal_level", "shared_buffers"}
    assert len(facts.settings["shared_buffers"]) == rows.MOST_SETTING


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": ENDLESS}, {"timeline": ENDLESS}, {"slots_used": Decimal(1)}, {"wal_senders_used": 10**4000},
        {"flush_lsn": LONG}, {"missing_rights": ["pg_monitor"] * 100}, {"started_at": LONG}, {"system_identifier": 1},
        {"settings": {"wal_level": ["replica"]}},
    ],
    ids=str,
)  # fmt: skip
def test_a_server_of_another_shape_is_refused(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(MALFORMED):
        rows.parse_server({**SERVER, **wrong}, "db:5432")


def test_roles_and_databases_are_as_many_as_were_asked_for() -> None:
    limited = [[f"role{number}" + LONG, 1, None] for number in range(sql.MOST_LIMITED)]
    counts = rows.parse_connections({**COUNTS, "roles": limited})
    assert sum(map(len, counts.roles)) <= sql.MOST_LIMITED * 63
    for name in ("roles", "databases"):
        with pytest.raises(MALFORMED):
            rows.parse_connections({**COUNTS, name: [*limited, ["one more", 1, 1]]})
    with pytest.raises(MALFORMED):
        rows.parse_connections({**COUNTS, "roles": [["role", ENDLESS, 1]]})
    with pytest.raises(MALFORMED):
        rows.parse_connections({**COUNTS, "oldest_transaction_seconds": float("nan")})


@pytest.mark.parametrize("value", [ENDLESS, Decimal(1), 2**63, -(2**63), "1", None, 1.0, [1]])
def test_a_whole_number_is_one_of_64_bits(value: object) -> None:
    with pytest.raises(MALFORMED):
        read_whole(value)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), ENDLESS, 10**400, "1.5"])
def test_a_number_is_finite(value: object) -> None:
    with pytest.raises(MALFORMED):
        read_number(value)


def test_a_text_is_cut() -> None:
    assert read_text(LONG) == LONG[:63]


@pytest.mark.parametrize(
    "value",
    [ENDLESS, LONG, [1] * (MOST_PLAIN + 1), [[[[1]]]], {"a": 1}, [{"a": 1}], float("inf")],
    ids=lambda v: str(v)[:9],
)
def test_a_sample_is_of_numbers_and_short_texts(value: object) -> None:
    assert read_plain({"free": 1, "ids": [1] * MOST_PLAIN, "heads": [[1, None], [2, 3.5]], "at": "now", "is": True})
    with pytest.raises(MALFORMED):
        read_plain({"free": value})


def test_kinds_of_events_that_were_not_asked_add_nothing() -> None:
    """Totals are kept for as long as a pool is: ever new kinds grew without end."""
    assert parse_flow([[True, "succeeded", 3], *([True, f"kind{number}", 1] for number in range(900))]) == [
        (True, "succeeded", 3)
    ]


def test_times_of_queues_are_as_many_as_the_statement_reads() -> None:
    assert parse_times({"mail": 1.5}, 250) == {"mail": 1.5}
    with pytest.raises(MALFORMED):
        parse_times({f"queue{number}": 1.0 for number in range(251)}, 250)


def test_databases_share_what_is_kept_of_libraries() -> None:
    def database(number: int, *, is_own: bool) -> DatabaseLibraries:
        names = [f"c{number if is_own else 0}_{at}" for at in range(99)]
        collations = tuple(CollationFacts(name, "i", "1", "1") for name in ("default", *names))
        return DatabaseLibraries(f"db{number}", collations, (("plpgsql", "1.0"),))

    alike, different = _Kept(), _Kept()
    found = [alike.add(database(number, is_own=False)) for number in range(150)]
    assert not any(each.unread for each in found)
    assert found[0].collations[5] is found[1].collations[5]
    found = [different.add(database(number, is_own=True)) for number in range(150)]
    assert sum(len(each.collations) for each in found if not each.unread) <= MOST_KEPT / NEW + 150
    assert len(different.entries) <= MOST_KEPT / NEW + 1
    assert "more databases" in found[-1].unread
    assert len(found[-1].collations) == 1


class Runner:
    """Answers every question with the same rows."""

    def __init__(self, *found: dict[str, Any]) -> None:
        self.found = list(found)

    async def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        return self.found

    async def read(
        self, sql: str, parameters: Mapping[str, Any] | None = None, *, tables: QueueTables | None = None
    ) -> list[dict[str, Any]]:
        return self.found


@pytest.mark.parametrize(
    "found",
    [
        [{"event": "CPU", "sessions": 1}] * (MOST_EVENTS + 1),
        [{"event": "CPU", "sessions": ENDLESS}],
        [{"event": 5, "sessions": 1}],
        [{"another": 5}],
    ],
    ids=lambda found: str(found[0]),
)
async def test_waits_of_another_shape_have_a_reason(found: list[dict[str, Any]]) -> None:
    queries: Any = Runner(*found)
    with pytest.raises(PrimaryUnavailable) as caught:
        await WaitReader(queries, MemoryClock()).read(None)
    assert caught.value.reason is Reason.ANSWER_REFUSED


@pytest.mark.parametrize(
    "found", [[], [{"answers": None}], [{"answers": []}], [{"answers": [1, 2]}], [{"another": 1}]], ids=str
)
async def test_nobody_waits_for_an_answer_that_is_missing(found: list[dict[str, Any]]) -> None:
    """A batch with fewer answers than questions left its pools waiting for ever."""
    questions, statement = SharedQuestions(Runner(*found)), SharedStatement("SELECT 1", {})
    asking = [questions.ask(statement, {}, asker=number, within_seconds=1.0) for number in range(3)]
    answers = await asyncio.wait_for(asyncio.gather(*asking, return_exceptions=True), 2)
    for answer in answers:
        refused = isinstance(answer, PrimaryUnavailable) and answer.reason is Reason.ANSWER_REFUSED
        assert refused or answer in found
