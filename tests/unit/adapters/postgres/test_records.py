"""Records of TLS are cut whole, and small ones counted; the loop turns on while there are many."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.adapters.postgres.wire import pace as module
from headroom.adapters.postgres.wire.messages import NotPostgres, Violation
from headroom.adapters.postgres.wire.pace import NAMESPACE_SECONDS, PROCESS_SECONDS, Pace
from headroom.adapters.postgres.wire.records import MOST_RECORDS, RECORDS_EACH_SECOND, RecordMeter, Records

PIECE_SECONDS = 0.0002


def make(content: bytes, kind: int = 23) -> bytes:
    return bytes((kind, 3, 3)) + len(content).to_bytes(2, "big") + content


@given(st.lists(st.binary(max_size=60), max_size=8), st.integers(1, 50))
def test_records_come_whole_however_they_were_sent(contents: list[bytes], size: int) -> None:
    sent, records, found = b"".join(map(make, contents)), Records(), []
    for at in range(0, len(sent), size):
        records.add(sent[at : at + size])
        while record := records.take():
            found.append(record)
    assert found == list(map(make, contents))
    assert len(records) == 0


@pytest.mark.parametrize(
    "data", [b"SSH-2.0", b"R\0\0\0\x08", make(b"", 19), make(b"", 25), b"\x17\2\0\0\1", b"\x17\3\3\xff\xff"]
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    records = Records()
    records.add(data)
    with pytest.raises(NotPostgres):
        records.take()


@pytest.mark.looptime(start=0)
async def test_small_records_are_bounded_for_an_answer_and_over_time() -> None:
    meter = RecordMeter()
    for _ in range(3):
        for _ in range(MOST_RECORDS):
            meter.count(23, 1)
        meter.begin()
    for _ in range(MOST_RECORDS):
        meter.count(1300, 1208)
        meter.count(23, 1)
    with pytest.raises(Violation, match="small records"):
        meter.count(23, 1)
    await asyncio.sleep(1)
    for _ in range(RECORDS_EACH_SECOND - 1):
        meter.count(23, 1)
    with pytest.raises(Violation):
        meter.count(23, 1)


@pytest.mark.looptime(start=0)
@pytest.mark.parametrize(("size", "usual", "most"), [(27, 4, 100), (300, 4, 60), (16_000, 1, 3)])
async def test_records_without_data_count_for_more(size: int, usual: int, most: int) -> None:
    """Changes of keys, tickets, and as many tickets as a record holds."""
    meter = RecordMeter()
    for _ in range(usual):
        meter.count(size, 0)
    refused = 0
    for _ in range(most):
        try:
            meter.count(size, 0)
        except Violation:
            refused += 1
    assert refused


class Clock:
    """What `read_seconds` says: work takes as long as it should, whatever else the machine does."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "read_seconds", clock)
    return clock


@dataclass
class Flood:
    """Pieces of 0.2 ms, as many as there are."""

    clock: Clock
    left: int

    def work(self, until: float) -> bool:
        while self.left:
            self.clock.now += PIECE_SECONDS
            self.left -= 1
            if self.clock() >= until:
                break
        return bool(self.left)


async def turn(floods: Sequence[Flood]) -> int:
    """How many pieces were done in one turn of the loop."""
    before = sum(flood.left for flood in floods)
    await asyncio.sleep(0)
    return before - sum(flood.left for flood in floods)


async def test_floods_of_one_namespace_take_a_little_of_each_turn(clock: Clock) -> None:
    pace, floods, done = Pace(), [Flood(clock, 100) for _ in range(8)], []
    for flood in floods:
        pace.run("hostile", flood.work)
    while any(flood.left for flood in floods):
        healthy = Flood(clock, 1)
        pace.run("healthy", healthy.work)
        assert healthy.left == 0, "done at once"
        done.append(await turn(floods))
    assert max(done) <= NAMESPACE_SECONDS / PIECE_SECONDS + 1
    assert not pace._waiting


async def test_many_namespaces_take_their_turns(clock: Clock) -> None:
    pace, floods = Pace(), [Flood(clock, 10) for _ in range(40)]
    for number, flood in enumerate(floods):
        pace.run(f"ns{number}", flood.work)
    done = [await turn(floods) for _ in range(25)]
    assert max(done) <= PROCESS_SECONDS / PIECE_SECONDS + 1
    assert not any(flood.left for flood in floods), "each has come to its turn, none waits for another's end"
    assert not pace._waiting


async def test_work_that_fails_stops_no_other(clock: Clock) -> None:
    pace, flood, problems = Pace(), Flood(clock, 20), []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: problems.append(context["exception"]))

    def fail(times: list[int], _until: float) -> bool:
        clock.now += NAMESPACE_SECONDS
        times.append(1)
        if len(times) > 1:
            raise RuntimeError
        return True

    pace.run("shop", partial(fail, []))
    pace.run("shop", flood.work)
    for _ in range(20):
        await asyncio.sleep(0)
    assert ([type(problem) for problem in problems], flood.left) == ([RuntimeError], 0)
