"""The forecast of arrivals: right on a ramp, not above a level that was jumped to, soon right when growth ends."""

import math
import random
from collections.abc import Callable

import pytest

from headroom.model.queue import QueueSample
from headroom.policy.workerpool import PoolMemory, decide
from tests.unit.policy.workerpool.make import make_facts, make_spec, make_target, moment, sizing_of
from tests.unit.policy.workerpool.world import World

BEGIN = 120.0
"""When something begins to change; before it there is a full window of calm."""


def forecasts(
    rate: Callable[[float], float],
    until: float,
    *,
    every: float = 5.0,
    lead: float = 10.0,
    chance: random.Random | None = None,
) -> dict[float, float]:
    """The forecast at each probe by time since BEGIN; without chance arrivals are exactly what the rate says."""
    memory, told, arrived = PoolMemory(), {}, 0.0
    spec = make_spec(max_workers=100, expected_job=0.15)
    for index in range(round((BEGIN + until) / every) + 1):
        at = index * every
        count = round(arrived)
        sample = QueueSample(at, 0.0, 0, in_flight=3, arrived=count, ended=count, failed=0)
        outcome = decide(spec, make_facts(signal=sample, target=make_target(5, lead)), memory, moment(at))
        memory, wanted = outcome.memory, sizing_of(outcome.decision).wanted
        if wanted is not None and at >= BEGIN:
            told[at - BEGIN] = wanted.forecast
        mean = rate(at + every / 2 - BEGIN) * every
        arrived += mean if chance is None else max(0.0, chance.gauss(mean, math.sqrt(mean)))
    return told


def jump(at: float) -> float:
    return 24.0 if at >= 0 else 4.0


def burst(at: float) -> float:
    return min(30.0, max(4.0, 4.0 + 2.0 * at))


def growth_that_ends(at: float) -> float:
    return min(24.0, max(0.0, 0.5 * at))


@pytest.mark.parametrize("every", [1.0, 5.0])
@pytest.mark.parametrize("lead", [3.0, 30.0])
@pytest.mark.parametrize(("base", "slope"), [(34.0, 0.2), (62.0, 0.5), (125.0, 1.0)])
def test_a_lasting_ramp_is_carried_on_for_one_lead_time(base: float, slope: float, lead: float, every: float) -> None:
    told = forecasts(lambda at: base + slope * at, 60, every=every, lead=lead)
    for at, forecast in told.items():
        assert forecast == pytest.approx(base + slope * (at + lead), rel=0.02)


def test_a_ramp_out_of_calm_is_seen_in_half_a_minute_and_not_overdone() -> None:
    told = forecasts(lambda at: max(0.0, 0.5 * at), 120, lead=10.0)
    assert min(told[at] / at for at in (20, 25)) > 0.35
    for at in range(30, 121, 5):
        assert told[at] == pytest.approx(0.5 * (at + 10), rel=0.25 if at < 40 else 0.1)


@pytest.mark.parametrize("every", [1.0, 5.0])
@pytest.mark.parametrize("lead", [3.0, 30.0])
def test_a_jump_is_carried_nowhere(lead: float, every: float) -> None:
    told = forecasts(jump, 130, every=every, lead=lead)
    for at in [at for at in told if at >= 10]:
        is_leaving_the_minute = 55 < at < 60
        assert told[at] == pytest.approx(24.0, rel=0.15 if is_leaving_the_minute else 0.02)


def test_a_burst_that_takes_a_quarter_of_a_minute_to_come_is_forecast_at_its_height() -> None:
    told = forecasts(burst, 130, lead=10.0)
    assert max(told.values()) < 33
    assert min(forecast for at, forecast in told.items() if at >= 20) > 25


def test_a_growth_that_ended_is_forgotten_within_the_rate_window() -> None:
    told = forecasts(growth_that_ends, 130, lead=10.0)
    assert max(told.values()) < 24 + 0.5 * 10 + 4, "what it would have brought, and not much more"
    ended = 24 / 0.5
    assert max(forecast for at, forecast in told.items() if at >= ended + 60) == pytest.approx(24.0, rel=0.02)


def test_chance_makes_no_trend_of_a_level() -> None:
    chance = random.Random(5)
    for every in (5.0, 1.0):
        peaks = [max(forecasts(jump, 120, every=every, chance=chance).values()) for _ in range(12)]
        assert sum(peaks) / len(peaks) < 29


@pytest.mark.parametrize("every", [1.0, 5.0])
@pytest.mark.parametrize("lead", [3.0, 30.0])
@pytest.mark.parametrize("spans", [2, 3, 6])
@pytest.mark.parametrize("rest", [0.0, 0.2, 10.0])
def test_a_burst_that_has_ended_is_not_expected_to_arrive(rest: float, spans: int, lead: float, every: float) -> None:
    """From its first probe after the burst on no more is expected than the minute's count says, or than still comes."""
    ended = 5.0 * spans

    def rate(at: float) -> float:
        return 30.0 if 0 <= at < ended else (rest if at >= ended else min(rest, 0.2))

    told = forecasts(rate, ended + 70, every=every, lead=lead)
    assert told[ended] > 25, "it was taken for a level while it lasted"
    for at in [at for at in told if at >= ended + 5]:
        of_burst = min(ended, max(0.0, 60 - (at - ended)))
        of_rest = min(60.0, at - ended)
        of_calm = 60 - of_burst - of_rest
        counted = (30 * of_burst + rest * of_rest + rate(-1) * of_calm) / 60
        assert told[at] <= 1.15 * max(counted, rest) + 0.5


def test_one_calm_probe_ends_no_level() -> None:
    told = forecasts(lambda at: 0.0 if 20 <= at < 25 else jump(at), 60)
    assert told[20.0] == pytest.approx(24.0, rel=0.02)
    assert min(forecast for at, forecast in told.items() if at >= 30) > 24 * 0.75


def test_one_batch_makes_no_level() -> None:
    told = forecasts(lambda at: 40.0 if 0 <= at < 5 else 10.0, 60)
    assert max(told.values()) <= (55 * 10 + 5 * 40) / 60


def test_a_long_gap_before_a_short_interval_is_no_trouble() -> None:
    """Old counts may show growth while the newest minute holds one short interval only."""
    times = [*range(0, 65, 5), 124, 125]
    memory = PoolMemory()
    for at in times:
        count = at * at // 10
        sample = QueueSample(float(at), 0.0, 0, in_flight=3, arrived=count, ended=count, failed=0)
        outcome = decide(make_spec(max_workers=100), make_facts(signal=sample), memory, moment(at))
        memory = outcome.memory
    estimates = sizing_of(outcome.decision).estimates
    assert estimates.arrivals_per_second == pytest.approx((125**2 - 60**2) / 10 / 65, rel=0.01), "over the gap"
    assert estimates.arrivals_growth == 0.0


def test_a_burst_gets_the_workers_its_height_needs() -> None:
    """30 jobs/s at 4 a worker need 7.5 busy ones, 10.2 with room for variance, and some more for what piled up."""
    counts = []
    for seed in range(1, 7):
        world = World(
            lambda at: burst(at - 215),
            0.25,
            make_spec(min_workers=2, max_workers=60, target_lag=10.0),
            seed=seed,
        )
        world.run(300)
        assert world.worst_lag(since=200) < 12
        counts.append(max(world.counts(since=200)))
    assert sum(counts) / len(counts) < 15
