from typing import Any

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Condition, Truth, merge_conditions
from headroom.model.numbers import has_moved, round_number
from headroom.ports.kube import WORKER_POOL, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.reporter import CROWD, NUMBERS_AT_MOST_EVERY, DesiredStatus, StatusReporter


class Writer:
    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    async def replace_status(self, ref: ObjectRef, *, resource_version: str, status: Any) -> Manifest:
        self.written.append(dict(status))
        metadata = {"uid": "u", "name": "pool", "namespace": "shop", "generation": 1, "resourceVersion": "2"}
        return {"metadata": metadata, "status": dict(status)}


def body(status: dict[str, Any] | None = None) -> Manifest:
    metadata = {"uid": "u", "name": "pool", "namespace": "shop", "generation": 1, "resourceVersion": "1"}
    return {"metadata": metadata, "status": status or {}}


def draft(message: str = "", desired: int = 1, lag: float = 10.0, truth: Truth = Truth.TRUE) -> DesiredStatus:
    return DesiredStatus(
        conditions=(Condition(ConditionType.READY, truth, Reason.AS_EXPECTED, message),),
        facts={"desiredWorkers": desired, "absent": None},
        numbers={"queue": {"lagSeconds": lag}},
    )


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
def clock() -> MemoryClock:
    return MemoryClock()


@pytest.fixture
def reporter(writer: Writer, clock: MemoryClock) -> StatusReporter:
    return StatusReporter(writer, clock, WORKER_POOL)


async def test_first_sight_is_written_without_empty_fields(reporter: StatusReporter, writer: Writer) -> None:
    await reporter.report(body(), draft())
    assert writer.written[0]["desiredWorkers"] == 1
    assert "absent" not in writer.written[0]
    assert writer.written[0]["observedGeneration"] == 1


async def test_another_number_in_the_same_words_writes_nothing(
    reporter: StatusReporter, writer: Writer, clock: MemoryClock
) -> None:
    seen = await reporter.report(body(), draft(message="now 3.2 s"))
    for said in ("now 3.2 s", "now 4 s", "now 12.25 s"):
        await clock.advance(10)
        seen = await reporter.report(seen, draft(message=said))
    assert len(writer.written) == 1


async def test_numbers_do_not_wait_a_whole_pass_more_for_a_moment(
    reporter: StatusReporter, writer: Writer, clock: MemoryClock
) -> None:
    seen = await reporter.report(body(), draft(lag=10))
    for lag in (20.0, 30.0):
        await clock.advance(4.9)  # passes of 5 s that end a little sooner each time
        seen = await reporter.report(seen, draft(lag=lag))
    assert [status["queue"]["lagSeconds"] for status in writer.written] == [10.0, 30.0]


async def test_other_words_wait_their_turn(reporter: StatusReporter, writer: Writer, clock: MemoryClock) -> None:
    seen = await reporter.report(body(), draft(message="copying"))
    seen = await reporter.report(seen, draft(message="syncing"))
    assert len(writer.written) == 1
    await clock.advance(10)
    await reporter.report(seen, draft(message="syncing"))
    assert writer.written[-1]["conditions"][0]["message"] == "syncing"


@pytest.mark.parametrize("changed", [draft(desired=2), draft(truth=Truth.FALSE)], ids=["count", "verdict"])
async def test_facts_and_verdicts_are_written_at_once(
    reporter: StatusReporter, writer: Writer, changed: DesiredStatus
) -> None:
    await reporter.report(await reporter.report(body(), draft()), changed)
    assert len(writer.written) == 2


async def test_numbers_wait_their_turn(reporter: StatusReporter, writer: Writer, clock: MemoryClock) -> None:
    seen = await reporter.report(body(), draft(lag=10))
    await reporter.report(seen, draft(lag=20.0))
    assert len(writer.written) == 1
    await clock.advance(10)
    await reporter.report(seen, draft(lag=20.0))
    assert writer.written[-1]["queue"]["lagSeconds"] == 20.0


async def test_numbers_that_hardly_move_are_not_written(
    reporter: StatusReporter, writer: Writer, clock: MemoryClock
) -> None:
    seen = await reporter.report(body(), draft(lag=100.0))
    await clock.advance(60)
    await reporter.report(seen, draft(lag=109.0))
    assert len(writer.written) == 1


@pytest.mark.parametrize(("value", "rounded"), [(0.0, 0.0), (1234.5, 1200.0), (0.04567, 0.046), (9.99, 10.0)])
def test_two_significant_digits(value: float, rounded: float) -> None:
    assert round_number(value) == pytest.approx(rounded)


@pytest.mark.parametrize(
    ("old", "new", "moved"),
    [(None, 1, True), (100, 105, False), (100, 120, True), ({"a": 1.0}, {"a": 2.0}, True), (0.0, 0.0, False)],
)
def test_moves_are_a_tenth_or_more(old: Any, new: Any, moved: bool) -> None:
    assert has_moved(old, new) is moved


async def test_a_count_that_moves_by_one_of_many_is_written_in_its_turn(
    reporter: StatusReporter, writer: Writer, clock: MemoryClock
) -> None:
    conditions = draft().conditions
    seen = await reporter.report(body(), DesiredStatus(conditions, counts={"readyWorkers": 100}))
    seen = await reporter.report(seen, DesiredStatus(conditions, counts={"readyWorkers": 99}))
    assert len(writer.written) == 1
    await clock.advance(10)
    seen = await reporter.report(seen, DesiredStatus(conditions, counts={"readyWorkers": 99}))
    assert writer.written[-1]["readyWorkers"] == 99
    await clock.advance(60)
    await reporter.report(seen, DesiredStatus(conditions, counts={"readyWorkers": 99}))
    assert len(writer.written) == 2


async def test_numbers_are_written_six_times_a_minute_however_often_passes_come(
    reporter: StatusReporter, writer: Writer, clock: MemoryClock
) -> None:
    seen = await reporter.report(body(), draft(lag=10))
    for second in range(600):
        await clock.advance(1)
        seen = await reporter.report(seen, draft(lag=10.0 * (2 + second % 2)))
    assert len(writer.written) <= 61


class TestFlapping:
    """A verdict that comes and goes: shown at once at first, and seldom after that."""

    async def flap(self, reporter: StatusReporter, writer: Writer, clock: MemoryClock, seconds: int) -> int:
        before, seen = len(writer.written), body(writer.written[-1] if writer.written else None)
        for second in range(seconds):
            await clock.advance(1)
            seen = await reporter.report(seen, draft(truth=Truth.FALSE if second % 2 else Truth.TRUE))
        return len(writer.written) - before

    async def test_at_most_six_writes_a_minute(
        self, reporter: StatusReporter, writer: Writer, clock: MemoryClock
    ) -> None:
        await reporter.report(body(), draft())
        assert await self.flap(reporter, writer, clock, 60) <= 6
        assert 3 <= await self.flap(reporter, writer, clock, 60) <= 6

    async def test_a_single_blip_is_shown_with_its_end(
        self, reporter: StatusReporter, writer: Writer, clock: MemoryClock
    ) -> None:
        seen = await reporter.report(body(), draft())
        for truth in (Truth.FALSE, Truth.TRUE, Truth.FALSE):
            await clock.advance(1)
            seen = await reporter.report(seen, draft(truth=truth))
        assert len(writer.written) == 4

    async def test_what_is_new_is_written_at_once_all_the_same(
        self, reporter: StatusReporter, writer: Writer, clock: MemoryClock
    ) -> None:
        await self.flap(reporter, writer, clock, 60)
        seen = await reporter.report(body(writer.written[-1]), draft(desired=7))
        assert writer.written[-1]["desiredWorkers"] == 7
        await reporter.report(seen, draft(truth=Truth.UNKNOWN, desired=7))
        assert writer.written[-1]["conditions"][0]["status"] == "Unknown"

    async def test_what_lasts_is_shown_within_a_quarter_of_a_minute(
        self, reporter: StatusReporter, writer: Writer, clock: MemoryClock
    ) -> None:
        await self.flap(reporter, writer, clock, 59)
        seen = body(writer.written[-1])
        lasting = Truth.FALSE if seen["status"]["conditions"][0]["status"] == "True" else Truth.TRUE
        for _ in range(15):
            await clock.advance(1)
            seen = await reporter.report(seen, draft(truth=lasting))
        assert seen["status"]["conditions"][0]["status"] == lasting

    async def test_after_a_calm_minute_it_is_shown_at_once_again(
        self, reporter: StatusReporter, writer: Writer, clock: MemoryClock
    ) -> None:
        await self.flap(reporter, writer, clock, 60)
        await clock.advance(61)
        assert await self.flap(reporter, writer, clock, 3) >= 2


async def test_the_order_of_keys_that_the_api_server_gives_back_is_no_news(
    reporter: StatusReporter, writer: Writer, clock: MemoryClock
) -> None:
    """It sorts them: members with messages of their own come after the conditions then, and before them in ours."""
    said = Condition(ConditionType.CAUGHT_UP, Truth.FALSE, Reason.REPLAYING, "4 s to replay")
    member = {"name": "store-0", "conditions": merge_conditions([], [said], generation=1, now=clock.now())}
    ready = Condition(ConditionType.READY, Truth.TRUE, Reason.AS_EXPECTED, "1 replica serves")
    desired = DesiredStatus((ready,), facts={"members": [member], "desiredReplicas": 1}, numbers={"lagSeconds": 1.0})
    written = (await reporter.report(body(), desired))["status"]
    await clock.advance(60)
    await reporter.report(body(dict(sorted(written.items()))), desired)
    assert len(writer.written) == 1


async def test_nothing_unseen_and_nothing_endless_gets_into_a_status(reporter: StatusReporter, writer: Writer) -> None:
    """Whatever a server, a container or another object is called or says."""
    evil = "a\nb\x1b[2J\u202e\x00"
    wanted = DesiredStatus(
        conditions=(Condition(ConditionType.READY, Truth.FALSE, Reason.AS_EXPECTED, evil),),
        facts={"members": [{"name": evil, "reason": "x" * 100_000}], evil: {"deep": (evil,)}},
        numbers={"queue": {"lagSeconds": 1.0}},
    )
    await reporter.report(body(), wanted)
    shown = "a b\ufffd[2J\ufffd\ufffd"
    [status] = writer.written
    assert status["conditions"][0]["message"] == shown
    assert status["members"] == [{"name": shown, "reason": "x" * 8189 + "..."}]
    assert status[shown] == {"deep": [shown]}
    writer.written.clear()
    await reporter.report(body(status), wanted)
    assert writer.written == [], "what was cleaned is not written again and again"


async def test_a_crowd_in_one_namespace_does_not_slow_down_the_numbers_of_another(
    reporter: StatusReporter, writer: Writer, clock: MemoryClock
) -> None:
    def one(namespace: str, number: int, status: dict[str, Any] | None = None) -> Manifest:
        name = f"{namespace}-{number}"
        metadata = {"uid": name, "name": name, "namespace": namespace, "generation": 1, "resourceVersion": "1"}
        return {"metadata": metadata, "status": status or {}}

    for number in range(CROWD + 1):
        await reporter.report(one("loud", number), draft(lag=1.0))
    await reporter.report(one("quiet", 0), draft(lag=1.0))
    status = writer.written[-1]
    writer.written.clear()
    await clock.advance(NUMBERS_AT_MOST_EVERY.total_seconds())
    await reporter.report(one("loud", 0, status), draft(lag=500.0))
    assert writer.written == []
    await reporter.report(one("quiet", 0, status), draft(lag=500.0))
    assert len(writer.written) == 1
    for number in range(CROWD + 1):
        reporter.forget(f"loud-{number}")
    reporter.forget("nobody")
    assert (dict(reporter._counts), len(reporter._histories)) == ({"quiet": 1}, 1)
