"""Where a timeline forked off: asked for once, by however many, and waited for only for a moment."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.errors import PrimaryUnavailable
from headroom.model.database import Lsn
from headroom.model.timelines import TimelineHistory
from headroom.reasons import Reason
from headroom.reconcilers import readings
from headroom.reconcilers.readings import HISTORY_RETRY_SECONDS, MOST_HISTORIES, HistoryReading

KEY = ("shop", datetime(2026, 1, 1, tzinfo=UTC), "7300000000000000001", 2)
HISTORY = TimelineHistory(2, ((1, Lsn(1000)),))


class Link:
    """Answers once it is let; fails while `error` is set."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.error: Exception | None = None

    async def read_history(self, system_identifier: str, timeline: int) -> TimelineHistory:
        self.asked.append((system_identifier, timeline))
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return HISTORY


@pytest.fixture
def clock() -> MemoryClock:
    return MemoryClock()


async def test_many_ask_once_and_each_server_and_timeline_by_itself(clock: MemoryClock) -> None:
    link: Any = Link()
    reading = HistoryReading(clock)
    assert await asyncio.gather(*(reading.read(KEY, link) for _ in range(5))) == [HISTORY] * 5
    assert await reading.read(KEY, link) == HISTORY
    assert link.asked == [(KEY[2], 2)]
    await reading.read((*KEY[:3], 3), link)
    await reading.read(("other", *KEY[1:]), link)
    assert len(link.asked) == 3, "a namespace believes no server of another"


async def test_no_pass_waits_for_a_server_that_is_slow(clock: MemoryClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "HISTORY_WAIT_SECONDS", 0.01)
    link: Any = Link()
    link.may_answer.clear()
    reading = HistoryReading(clock)
    assert await reading.read(KEY, link) is None
    assert await reading.read(KEY, link) is None
    assert len(link.asked) == 1
    link.may_answer.set()
    assert await reading.read(KEY, link) == HISTORY
    assert len(link.asked) == 1


async def test_what_fails_is_asked_again_after_a_pause(clock: MemoryClock) -> None:
    link: Any = Link()
    link.error = PrimaryUnavailable("no pg_hba.conf entry", reason=Reason.REPLICATION_LOGIN_FAILED)
    reading = HistoryReading(clock)
    for _ in range(3):
        assert await reading.read(KEY, link) is None
    assert len(link.asked) == 1
    link.error = None
    await clock.advance(HISTORY_RETRY_SECONDS)
    assert await reading.read(KEY, link) == HISTORY


async def test_ever_new_timelines_of_one_namespace_are_not_all_kept(clock: MemoryClock) -> None:
    reading, link, other = HistoryReading(clock), Link(), ("another", *KEY[1:])
    await reading.read(other, link)
    for timeline in range(2, 3 * MOST_HISTORIES):
        await reading.read((*KEY[:-1], timeline), link)
    assert len(reading._answers) == MOST_HISTORIES + 1
    asked = len(link.asked)
    await reading.read(other, link)
    await reading.read((*KEY[:-1], timeline), link)
    assert len(link.asked) == asked, "the newest ones are, and those of another namespace"
