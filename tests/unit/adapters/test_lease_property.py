"""Never two writers: drawn delays, lost responses, frozen processes and clocks that run at their own speed."""

import asyncio
import itertools
from dataclasses import dataclass
from datetime import datetime

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_faults import Latency
from headroom.adapters.kube.lease import LeaseElector
from headroom.errors import KubeUnavailable, NotLeading
from headroom.ports.kube import LEASE, ObjectRef
from headroom.reasons import Reason

REF = ObjectRef(LEASE, "headroom", "headroom")
WRITE_SECONDS = 3.0
HORIZON_SECONDS = 60.0
DRIFT = 0.005


@dataclass(frozen=True)
class Fate:
    """What one process lives through: first answers, usual answer, freezes as (at, seconds), pace of its clock."""

    answers: list[tuple[float, float, bool]]
    usual: tuple[float, float]
    freezes: list[tuple[float, float]]
    pace: float
    stops_at: float | None
    starts_at: float


@dataclass(frozen=True)
class Write:
    """A write that was let through: it may take effect at any time until `end`."""

    writer: int
    start: float
    end: float


class OwnClock:
    """A process's clock: true time at its own pace; a sleep that ends in a freeze ends with the freeze."""

    def __init__(self, true: MemoryClock, fate: Fate) -> None:
        self._true = true
        self._fate = fate

    def now(self) -> datetime:
        return self._true.now()

    def monotonic(self) -> float:
        return self._true.monotonic() * self._fate.pace

    async def sleep(self, seconds: float) -> None:
        await self._true.sleep(seconds / self._fate.pace)
        for at, length in self._fate.freezes:
            if at <= self._true.monotonic() < at + length:
                await self._true.sleep(at + length - self._true.monotonic())


delay = st.sampled_from([0.0, 0.0, 0.01, 0.5, 1.4, 1.9, 2.5, 9.0])
usual_delay = st.sampled_from([(0.01, 0.01), (0.01, 1.9), (1.9, 0.01), (0.9, 0.9)])


def build_fates(*, freezes: st.SearchStrategy[list[tuple[float, float]]]) -> st.SearchStrategy[Fate]:
    return st.builds(
        Fate,
        answers=st.lists(st.tuples(delay, delay, st.booleans()), max_size=12),
        usual=usual_delay,
        freezes=freezes,
        pace=st.floats(1 - DRIFT, 1 + DRIFT),
        stops_at=st.none() | st.floats(1, HORIZON_SECONDS),
        starts_at=st.floats(0, 10),
    )


freeze = st.tuples(st.floats(5, 35), st.floats(12, 25))
# One is cut off for longer than a lease, so that a takeover is the rule; the others may be.
victims = build_fates(freezes=st.lists(freeze, min_size=1, max_size=2))
others = build_fates(freezes=st.lists(freeze, max_size=1))


def build_kube(server: MemoryKube, clock: OwnClock, fate: Fate) -> MemoryKube:
    kube = MemoryKube(clock=clock, beside=server, read_timeout_seconds=2.0, write_timeout_seconds=2.0)
    answers = iter(fate.answers)

    def latency(_verb: str, _ref: ObjectRef) -> Latency:
        request, response, is_lost = next(answers, (*fate.usual, False))
        if is_lost:
            lost = KubeUnavailable("lost", reason=Reason.KUBE_UNAVAILABLE)
            kube.faults.lose_response(verb=None, nth=1, error=lost)
        return Latency(request, response)

    kube.faults.latency = latency
    return kube


async def live(index: int, true: MemoryClock, server: MemoryKube, fate: Fate, writes: list[Write]) -> None:
    clock = OwnClock(true, fate)
    await true.sleep(fate.starts_at)
    elector = LeaseElector(build_kube(server, clock, fate), clock, lease=REF, holder=f"p{index}", jitter=lambda: 0.3)
    await elector.acquire()
    while not elector.lost.is_set():
        if fate.stops_at is not None and true.monotonic() > fate.stops_at:
            await elector.release()
            return
        try:
            elector.check(WRITE_SECONDS)
        except NotLeading:
            pass
        else:
            # On its own clock a call of 3 s takes so long in true time.
            end = true.monotonic() + WRITE_SECONDS / fate.pace
            writes.append(Write(index, true.monotonic(), end))
        # On true time: the elector's tasks may be stuck while this one runs, and then the fence alone protects.
        await true.sleep(0.1)


async def run_world(fates: list[Fate]) -> list[Write]:
    true = MemoryClock(spins=8)
    server = MemoryKube(clock=true)
    writes: list[Write] = []
    tasks = [asyncio.create_task(live(i, true, server, fate, writes)) for i, fate in enumerate(fates)]
    await true.advance(HORIZON_SECONDS)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
    return writes


# Not shrunk: a world takes 50 ms, and the two writes in the message tell what to look at.
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(victims, st.lists(others, min_size=1, max_size=2))
def test_writes_of_two_processes_never_overlap(victim: Fate, others: list[Fate]) -> None:
    writes = asyncio.run(run_world([victim, *others]))
    for earlier, later in itertools.pairwise(writes):
        assert earlier.writer == later.writer or earlier.end <= later.start, (earlier, later)


def test_the_world_lets_somebody_write_and_hands_over() -> None:
    calm = Fate([], (0.01, 0.01), [], 1.0, None, 0.0)
    frozen = Fate([], (0.01, 0.01), [(10.0, 20.0)], 1.0, None, 0.0)
    writes = asyncio.run(run_world([frozen, calm]))
    assert {write.writer for write in writes} == {0, 1}
    assert len(writes) > 100
