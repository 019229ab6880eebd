"""Random but possible facts for the worker policy."""

from hypothesis import strategies as st

from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.model.queue import QueueSample
from headroom.policy.workerpool import Move, PodCounts, PoolFacts, PoolMemory, Target
from headroom.policy.workerpool.demand import Demand
from headroom.policy.workerpool.memory import Lateness, Wants
from headroom.policy.workerpool.window import Observation
from tests.unit.policy.workerpool.make import DEPLOYMENT, NOW, OWN, make_spec

rates = st.just(0.0) | st.floats(1e-6, 1000.0)
counts = st.integers(0, 100_000)


@st.composite
def specs(draw: st.DrawFn) -> WorkerPoolSpec:
    least = draw(st.integers(0, 50))
    return make_spec(
        min_workers=least,
        max_workers=draw(st.integers(max(1, least), 200)),
        concurrency=draw(st.integers(1, 20)),
        target_lag=draw(st.floats(1, 600)),
        drain_within=draw(st.floats(5, 3600)),
        expected_job=draw(st.none() | st.floats(0.001, 100)),
        max_step=draw(st.none() | st.integers(1, 50)),
        max_step_percent=draw(st.integers(1, 1000)),
        down_window=draw(st.sampled_from([0.0, 60.0, 300.0])),
        down_step_percent=draw(st.integers(1, 100)),
    )


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    backlog = draw(counts)
    target = draw(st.floats(1, 600))
    lag = draw(st.floats(0, 5000)) if backlog else 0.0
    return Demand(
        lag_seconds=lag,
        backlog=backlog,
        late=draw(st.integers(0, backlog)) if lag > target else 0,
        in_flight=draw(st.none() | st.integers(0, 500)),
        due_soon=draw(st.integers(0, 1000)),
        arrivals=draw(rates),
        arrivals_age_seconds=draw(st.floats(0, 60)),
        arrivals_growth=draw(st.floats(0, 10)),
        service_rate=draw(st.floats(0.01, 100)),
        late_for_seconds=draw(st.floats(0, 5000)),
        capacity_workers=draw(st.integers(0, 200)),
        lead_time_seconds=draw(st.floats(1, 300)),
        target_lag_seconds=target,
        drain_within_seconds=draw(st.floats(5, 3600)),
        concurrency=draw(st.integers(1, 20)),
        present=draw(st.integers(0, 200)),
        ready_workers=draw(st.integers(0, 200)),
        arrivals_cv_squared=draw(st.floats(1, 100)),
        arrivals_long=draw(st.none() | rates),
        batch=draw(st.integers(0, backlog)),
        has_idle_slots=draw(st.booleans()),
    )


@st.composite
def samples(draw: st.DrawFn, at: float) -> QueueSample:
    backlog = draw(st.integers(0, 5000))
    return QueueSample(
        taken_at=at,
        lag_seconds=draw(st.floats(0, 2000)) if backlog else 0.0,
        backlog=backlog,
        late=draw(st.integers(0, backlog)),
        in_flight=draw(st.none() | st.integers(0, 500)),
        arrived=draw(st.none() | st.integers(0, 10_000)),
        ended=draw(st.none() | st.integers(0, 10_000)),
        failed=draw(st.none() | st.integers(0, 10_000)),
        due_soon=draw(st.integers(0, 100)),
    )


@st.composite
def memories(draw: st.DrawFn) -> PoolMemory:
    """A memory that a pool could have: samples every 5 s, an unbroken or broken row of wants, some moves."""
    length = draw(st.integers(0, 12))
    window = tuple(
        Observation(draw(samples(NOW - 5.0 * (length - index))), draw(st.integers(0, 400))) for index in range(length)
    )
    wants = Wants()
    for index in range(draw(st.integers(0, 5))):
        wants = wants.add(NOW - 500 + 100 * index * draw(st.sampled_from([0.3, 1.0])), draw(st.integers(0, 300)), 300.0)
    moves = tuple(
        Move(NOW - back, draw(st.integers(0, 200)), draw(st.integers(0, 200)))
        for back in sorted(draw(st.lists(st.floats(0, 600), max_size=4)), reverse=True)
    )
    late = draw(st.none() | st.floats(NOW - 3600, NOW))
    rate = draw(st.none() | st.floats(0.01, 100))
    is_late = draw(st.booleans())
    lateness = None if late is None else Lateness(late, draw(st.floats(0, 600)), draw(st.floats(late, NOW)))
    return PoolMemory(window, wants, moves, lateness, last_good_rate=rate, is_late=is_late)


@st.composite
def facts(draw: st.DrawFn) -> PoolFacts:
    existing = draw(st.integers(0, 250))
    pods = PodCounts(
        running=existing,
        ready=draw(st.integers(0, existing)),
        in_time=draw(st.integers(0, existing)),
        lead_seconds=draw(st.floats(1, 300)),
    )
    target = Target(DEPLOYMENT, "uid-target", draw(st.integers(0, 250)), existing, pods)
    return PoolFacts(own=OWN, signal=draw(samples(NOW)), target=target)
