"""What is seen of the race, second by second, and its figures."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean
from typing import Any, TypeVar

from e2e.lab.kubectl import Manifest, condition_of
from e2e.lab.results import Figure, at_least, at_most

T = TypeVar("T")
ARRIVALS, HELD_SECONDS, MOST_WORKERS = 20.0, 1 / 16, 30
"""Jobs that arrive per second; how long each holds the row, so that at most 16 end per second; `maxWorkers`."""
STATEMENT = "UPDATE race SET"
LOCKS = ("Lock:transactionid", "Lock:tuple")
"""What the first in the line for a row waits for, and what all behind it wait for."""
NAMED_SECONDS, VERDICTS, USEFUL_FACTOR, ARRIVALS_FACTOR = 180.0, 3, 2, 1.25
USEFUL_SHARE = 0.95
"""The useful count is the smallest one that reaches this share of the best throughput."""
SETTLED_SECONDS, LEAST_SECONDS = 5, 10
"""A count says something about throughput once it has been steady so long, and for so many seconds more."""
LIFTED_SECONDS, DRAINED_SECONDS = 15.0, 240.0
"""The new pod template is seen by a watch or at the next pass. Draining: a rollout of workers, then `drainWithin`."""
DRAINED_BACKLOG = ARRIVALS
"""What arrives within a second is no backlog."""


@dataclass(frozen=True, slots=True)
class State:
    """What the pool said of its growth, from `at` on, in seconds since the race began."""

    at: float
    effective: str
    reason: str
    message: str
    effectiveness: Manifest = field(default_factory=dict)

    @property
    def is_named(self) -> bool:
        """Growth is stopped, and that is said."""
        return self.effective == "False"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A step that was measured: attempts that ended per second before and after it, and whether it stopped growth."""

    at: float
    before: int
    after: int
    rate_before: float
    rate_after: float
    is_stop: bool


@dataclass(frozen=True, slots=True)
class Second:
    """One second of the race; `backlog` is None where nobody looked."""

    at: int
    asked: int
    ready: int
    ended: int
    backlog: float | None
    effective: str


@dataclass(slots=True)
class Record:
    """Everything seen, written by the threads of the watches; times in seconds since `started`."""

    started: float = field(default_factory=time.time)
    asked: list[tuple[float, int]] = field(default_factory=list)
    ready: list[tuple[float, int]] = field(default_factory=list)
    backlog: list[tuple[float, float]] = field(default_factory=list)
    ended: dict[int, int] = field(default_factory=dict)
    states: list[State] = field(default_factory=list)
    events: list[tuple[float, str, str]] = field(default_factory=list)
    fixed_at: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> float:
        """Seconds since the race began."""
        return time.time() - self.started

    def on_deployment(self, event: Manifest) -> None:
        """A change of the workers' Deployment, the only one there is."""
        body, at = event["object"], self.now()
        with self._lock:
            self.asked.append((at, int(body["spec"].get("replicas", 1))))
            self.ready.append((at, int((body.get("status") or {}).get("readyReplicas") or 0)))

    def on_pool(self, event: Manifest) -> None:
        """A change of the WorkerPool."""
        body = event["object"]
        said, shown = condition_of(body, "Effective"), (body.get("status") or {}).get("effectiveness") or {}
        status, reason, message = (said.get(part, "") for part in ("status", "reason", "message"))
        state = State(self.now(), status, reason, message, dict(shown))
        with self._lock:
            last = self.states[-1] if self.states else None
            if last is None or asdict(last) | {"at": 0} != asdict(state) | {"at": 0}:
                self.states.append(state)

    def on_event(self, event: Manifest) -> None:
        """An Event of any object in the namespace; those of pools about growth are kept."""
        body = event["object"]
        if body.get("involvedObject", {}).get("kind") != "WorkerPool":
            return
        with self._lock:
            self.events.append((self.now(), str(body.get("reason")), str(body.get("message"))))

    def on_queue(self, line: Manifest) -> None:
        """A line of the producer's log."""
        self.backlog.append((line["t"] - self.started, line["backlog"]))

    def take_ended(self, text: str) -> None:
        """Attempts that ended in each second, as psql prints them: `epoch|count` a line."""
        for line in text.splitlines():
            moment, count = line.split("|")
            self.ended[int(float(moment) - self.started)] = int(count)

    def seconds(self) -> list[Second]:
        """The race second by second."""
        end = int(max((at for at, _ in [*self.backlog, *self.asked]), default=0.0))
        said = [(state.at, state.effective) for state in self.states]
        return [
            Second(
                at,
                value_at(self.asked, at, 0),
                value_at(self.ready, at, 0),
                self.ended.get(at, 0),
                value_at(self.backlog, at, None),
                value_at(said, at, "Unknown"),
            )
            for at in range(end + 1)
        ]

    def named(self) -> State | None:
        """The first time that the race was named."""
        return next((state for state in self.states if state.is_named), None)

    def verdicts(self) -> list[Verdict]:
        """The steps whose measurement was published, each once."""
        found: list[Verdict] = []
        for state in self.states:
            one = _verdict_of(state)
            if one is not None and (not found or _step_of(found[-1]) != _step_of(one)):
                found.append(one)
        return found

    def as_json(self) -> dict[str, Any]:
        """All of it for the results."""
        return {
            "seconds": [asdict(second) for second in self.seconds()],
            "states": [asdict(state) for state in self.states],
            "events": [{"at": at, "reason": reason, "message": message} for at, reason, message in self.events],
            "fixedAt": self.fixed_at,
        }


def value_at(changes: Sequence[tuple[float, Any]], at: float, default: T) -> Any | T:
    """The value of a step function at the end of the second that begins with `at`."""
    return next((value for moment, value in reversed(changes) if moment < at + 1), default)


def _verdict_of(state: State) -> Verdict | None:
    shown = state.effectiveness
    if "workersAfter" not in shown:
        return None
    before, after = (int(shown[name]) for name in ("workersBefore", "workersAfter"))
    rate_before, rate_after = (float(shown[name]) for name in ("perSecondBefore", "perSecondAfter"))
    return Verdict(state.at, before, after, rate_before, rate_after, is_stop="frozenWorkers" in shown)


def _step_of(verdict: Verdict) -> tuple[int, int, bool]:
    return verdict.before, verdict.after, verdict.is_stop


def throughputs(seconds: Iterable[Second]) -> dict[int, float]:
    """Jobs ended per second at each count of ready workers that was steady for long enough, with work for all."""
    found: dict[int, list[int]] = defaultdict(list)
    ready, since = -1, 0
    for second in seconds:
        if second.ready != ready:
            ready, since = second.ready, second.at
        if second.at - since >= SETTLED_SECONDS and second.backlog and ready > 0:
            found[ready].append(second.ended)
    return {count: mean(ended) for count, ended in sorted(found.items()) if len(ended) >= LEAST_SECONDS}


def useful_count(rates: dict[int, float]) -> int | None:
    """The smallest count that does as much as the best one; None if nothing was measured."""
    best = max(rates.values(), default=0.0)
    return next((count for count, rate in rates.items() if rate >= USEFUL_SHARE * best), None) if best else None


def measure(record: Record) -> dict[str, Figure]:
    """All figures that can be had; one that was not measured is absent."""
    fixed = record.fixed_at if record.fixed_at is not None else float("inf")
    race = [second for second in record.seconds() if second.at < fixed]
    rates = throughputs(race)
    useful, figures = useful_count(rates), dict[str, Figure]()
    if useful is not None:
        free = max(rate / count for count, rate in rates.items())
        bound = max(USEFUL_FACTOR * useful, ARRIVALS_FACTOR * ARRIVALS / free)
        figures |= {
            "useful_count": Figure(useful, "workers"),
            "free_rate": Figure(round(free, 2), "jobs/s of a worker"),
            "highest_count": at_most(max(second.asked for second in race), bound, "workers"),
            "best_throughput": Figure(round(max(rates.values()), 2), "jobs/s"),
        }
    named = record.named()
    if named is not None:
        figures |= _measure_named(record, named, useful, fixed)
    return figures | (_measure_fixed(record) if record.fixed_at is not None else {})


def _measure_named(record: Record, named: State, useful: int | None, fixed: float) -> dict[str, Figure]:
    # Where growth stopped at the useful count, the first step of all began it.
    steps = [(at, count) for at, count in record.asked if at <= named.at]
    above = [at for at, count in steps if count > (useful or 1)] or [at for at, count in steps if count > 1]
    first = min(above, default=0.0)
    told = [state.message + str(state.effectiveness) for state in record.states if state.is_named and state.at < fixed]
    has_lock = any(lock in text for text in told for lock in LOCKS)
    until = sum(one.at <= named.at for one in record.verdicts())
    return {
        "excess_to_named": at_most(named.at - first, NAMED_SECONDS),
        "verdicts_until_named_count": at_most(until, VERDICTS, "verdicts"),
        "lock_named": at_least(float(has_lock), 1, "of 1"),
        "statement_named": at_least(float(any(STATEMENT in text for text in told)), 1, "of 1"),
    }


def _measure_fixed(record: Record) -> dict[str, Figure]:
    fixed = record.fixed_at
    assert fixed is not None
    figures, held = dict[str, Figure](), value_at(record.asked, fixed - 1, 1)
    lifted = next((state.at for state in record.states if state.at >= fixed and not state.is_named), None)
    if lifted is not None:
        figures["fix_to_lifted"] = at_most(lifted - fixed, LIFTED_SECONDS)
    drained = next((at for at, backlog in record.backlog if at > fixed and backlog <= DRAINED_BACKLOG), None)
    if drained is not None:
        figures["fix_to_drained"] = at_most(drained - fixed, DRAINED_SECONDS)
    after = max((count for at, count in record.asked if at >= fixed), default=held)
    return figures | {"highest_count_after_fix": at_least(after, held + 1, "workers")}
