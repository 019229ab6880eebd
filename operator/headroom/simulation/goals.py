"""What must come out of each load, as data: the goals of a row of the table, and which of them it misses."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from headroom.simulation.shapes import Kind
from headroom.simulation.table import HEADROOM, Row

TUNED_KEDA = "KEDA K"
MOST_COST = {Kind.SMOOTH: 1.15, Kind.BURST: 1.5, Kind.LONG: 1.5}
"""Worker-seconds divided by those of the optimum."""
LEAST_WORKERS = 10.0
"""With fewer workers on a smooth load, one worker is more than a tenth of them."""
MOST_REVERSALS = 2.0
WORSE_FACTOR = 1.02
"""A known miss may vary by so much, as when Python's arithmetic changes."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal; `limit` is None where a row has no such goal."""

    name: str
    unit: str
    text: str
    value: Callable[[Row], float]
    limit: Callable[[Row], float | None]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A goal of a row with what came out."""

    key: str
    goal: Goal
    value: float
    limit: float
    samples: tuple[float, ...] = ()

    @property
    def is_met(self) -> bool:
        """True when the value is within its limit."""
        return self.value <= self.limit


def _cost_limit(row: Row) -> float | None:
    is_small = row.shape.kind is Kind.SMOOTH and row.mean_workers < LEAST_WORKERS
    return None if is_small else MOST_COST.get(row.shape.kind)


def _late_limit(row: Row) -> float | None:
    """Who starts without knowledge is not compared with KEDA, which knows the rate."""
    return None if row.shape.kind is Kind.START else _tuned(row, lambda keda: keda.late_seconds)


def _lag_limit(row: Row) -> float | None:
    if row.shape.kind is Kind.START:
        return None
    tuned = _tuned(row, lambda keda: keda.highest_lag)
    return None if tuned is None else max(row.target_lag_seconds, tuned)


def _tuned(row: Row, read: Callable[..., float]) -> float | None:
    keda = row.results.get(TUNED_KEDA)
    return None if keda is None else read(keda)


GOALS = (
    Goal(
        "cost",
        "ratio",
        "worker-seconds divided by those of the optimum: at most 1.15 on smooth loads with 10 workers or more, 1.5 on "
        "bursts and long jobs",
        lambda row: row.results[HEADROOM].cost_ratio,
        _cost_limit,
    ),
    Goal(
        "late",
        "s",
        "time above the target: no more than with KEDA tuned to the true rate (a first start apart)",
        lambda row: row.results[HEADROOM].late_seconds,
        _late_limit,
    ),
    Goal(
        "lag",
        "s",
        "highest lag: within the target, or no more than with KEDA tuned to the true rate (a first start apart)",
        lambda row: row.results[HEADROOM].highest_lag,
        _lag_limit,
    ),
    Goal(
        "reversals",
        "1/h",
        "changes of direction: at most 2 an hour on smooth loads",
        lambda row: row.results[HEADROOM].reversals_per_hour,
        lambda row: MOST_REVERSALS if row.shape.kind is Kind.SMOOTH else None,
    ),
    Goal(
        "workers",
        "",
        "highest count where more workers help nobody: twice the useful count, or 1.25 x what the arrivals would need",
        lambda row: float(row.results[HEADROOM].highest_workers),
        lambda row: None if row.shape.most_workers is None else float(row.shape.most_workers),
    ),
)


def compare(judgements: Iterable[Judgement], known: Mapping[str, float]) -> list[str]:
    """What differs from the misses that are known: new ones, worse ones, and those that are met by now."""
    changes = []
    for judgement in judgements:
        key, value, before = judgement.key, judgement.value, known.get(judgement.key)
        if before is not None and judgement.is_met:
            changes.append(f"{key} is met by now: {value:.2f} (was {before:.2f})")
        elif before is None and not judgement.is_met:
            changes.append(f"{key} is missed: {value:.2f}, the goal is {judgement.limit:.2f}")
        elif before is not None and value > before * WORSE_FACTOR:
            changes.append(f"{key} is worse: {value:.2f} (was {before:.2f}), the goal is {judgement.limit:.2f}")
    return changes


def judge(rows: Iterable[Row]) -> Iterator[Judgement]:
    """All goals that these rows have, met or not."""
    for row in rows:
        for goal in GOALS:
            limit = goal.limit(row)
            if limit is not None:
                yield Judgement(f"{row.key}/{goal.name}", goal, goal.value(row), limit, _samples(row, goal))


def _samples(row: Row, goal: Goal) -> tuple[float, ...]:
    return row.results[HEADROOM].samples.get(goal.name, ())
