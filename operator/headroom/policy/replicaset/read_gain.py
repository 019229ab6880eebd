"""Whether more replicas add reads, and growth that stops because they do not.

A step from n to m replicas gains ((X_m - X_n) / X_n) / ((m - n) / n) with X reads per second: 1 is linear, 0 means that
the added ones add none. Two windows are compared, both of times in which the load pressed. Between them the sessions at
work must have become more: more of them that read no more wait for something that all replicas share. If as many are at
work as before, clients ask for no more.

Two steps in a row without a gain stop the growth for the average of the sessions. It continues when the same replicas
read more, after fewer were wanted, or for a try after a pause.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from headroom.model.frozen import FrozenMap
from headroom.policy.replicaset.growth import RETRY_SECONDS, Connections
from headroom.policy.replicaset.read_rate import Counter, ReadWindow, estimate_error, measure_reads

LEAST_GAIN = 0.10
GAIN_UNCERTAINTY = 0.4
GAIN_SIGMAS = 1.96
LINEAR_SIGMAS = 4.0
RECOVERED_RATIO = 1.25
"""As in the gate of the workers (`policy.workerpool.constants`). No gain is at most a tenth of a linear one, which is
the default of `minGainPercent`. Its 95 % interval ends below a half, and chance explains the distance to a linear gain
once in 30,000 times. A quarter more reads of each replica: the cause is gone."""
WINDOW_ERROR = 0.03
"""Reads differ by so much from one window to the next, however many are counted. They are more than jobs, for which the
gate of the workers has 5 %; so a step from six replicas to seven can still be evaluated."""
STEPS = 2
"""Steps in a row without a gain that stop growth: one alone may have met a slow minute."""
MOST_RUNGS = 8
BUSY_SHARE = 0.5
"""Sessions wait at work where something limits them. If fewer than half of them are, the pools are idle."""
GROWN_SHARE = 0.25
"""Sessions at work must have grown by this share of what replicas grew by. At one utilization they grow by all of it,
and if clients ask for no more, by none."""
SESSIONS_SHARE = 0.5
"""Each replica has at least so much of the mean of all; kube-proxy spreads connections at random."""
SETTLING_SECONDS = 30.0
"""A replica that was added first reads its caches from disk: so long is not counted."""
COMPARED_SECONDS = 600.0
"""Clients ask for other things after so long, so that two windows say nothing of the step between them. The gate of the
workers has the same."""
MOST_PAUSE_SECONDS = 86400.0
"""More are tried after 1, 2, 4 ... hours, at most once a day: a try costs a copy of the database."""
TRY_SHARE = 1 / 6
"""A try adds so many of the replicas, at least one: fewer could not be evaluated."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Growth is stopped: the reads per second that some counts of replicas did, the fewest first, and when more are
    tried; `pause_seconds` is the time before that try.
    """

    measured: tuple[tuple[int, int], ...]
    retry_at: float
    pause_seconds: float = RETRY_SECONDS

    @property
    def count(self) -> int:
        """Replicas at which growth stopped."""
        return self.measured[-1][0]

    @property
    def rate(self) -> int:
        """Reads per second that they did."""
        return self.measured[-1][1]

    def describe(self) -> str:
        """The numbers, and where to look."""
        steps = ", ".join(f"{rate:,}/s on {count}" for count, rate in self.measured)
        return (
            f"reads stay at {self.rate:,}/s: {steps}; the replicas share a limit: look at their disk, the CPU of their "
            "nodes and the network"
        )


def find_gain(before: ReadWindow, after: ReadWindow) -> bool | None:
    """Whether a step has gained reads: False if certainly not, None if nobody can tell."""
    step, ratio = after.count / before.count - 1, after.rate / before.rate
    error = math.hypot(WINDOW_ERROR, estimate_error(before, after))
    low, value, high = ((ratio * math.exp(sign * GAIN_SIGMAS * error) - 1) / step for sign in (-1, 0, 1))
    if low > LEAST_GAIN:
        return True
    is_flat = value <= LEAST_GAIN and high < LEAST_GAIN + GAIN_UNCERTAINTY
    is_certain = math.log((1 + step) / ratio) > LINEAR_SIGMAS * error
    is_asked_more = after.active >= before.active * (1 + GROWN_SHARE * step)
    return False if is_flat and is_certain and is_asked_more else None


@dataclass(frozen=True, slots=True)
class ReadGain:
    """What a row of passes shows of the reads.

    `names` serve since `since`, and `window` is what they read. `rungs` are the last windows of fewer replicas. `flat`
    counts the steps to them without a gain, in a row, and `has_gained` is the verdict on the last one. The load pressed
    last at `pressed_at`. `rate` is that of the last two passes, None if not known. Times are monotonic seconds.
    """

    counters: FrozenMap[str, Counter] = field(default_factory=FrozenMap)
    rate: float | None = None
    names: frozenset[str] = frozenset()
    since: float = 0.0
    pressed_at: float = 0.0
    window: ReadWindow | None = None
    rungs: tuple[ReadWindow, ...] = ()
    flat: int = 0
    has_gained: bool | None = None
    hold: Hold | None = None

    def observe(
        self,
        readings: Iterable[Connections | None],
        names: Iterable[str],
        target: float | None,
        now: float,
        *,
        desired: int,
    ) -> "ReadGain":
        """Take up one pass; without a `target` of utilization the reads are measured only."""
        found, serving = list(readings), frozenset(names)
        known = [reading for reading in found if reading is not None and reading.capacity > 0]
        is_pressing = target is not None and len(known) == len(found) and _is_pressing(known, target)
        after = self if serving == self.names else self._begin(serving, now)
        after = replace(after, pressed_at=now if is_pressing else self.pressed_at)
        if now - after.pressed_at > COMPARED_SECONDS:
            after = replace(_forget(after), window=None)
        return _lift(_measure(after, known, now, is_pressing=is_pressing), desired, now)

    def _begin(self, names: frozenset[str], now: float) -> "ReadGain":
        """Other replicas serve: what the last ones read is what the next are compared with, if those are more."""
        grown, count = len(names) - len(self.names), len(names)
        last = (self.window,) if self.window is not None and self.window.is_long else ()
        rungs = tuple(rung for rung in (*self.rungs, *last) if rung.count < count)[-MOST_RUNGS:]
        after = replace(self, names=names, since=now, window=None, rungs=rungs)
        if grown == 0:
            return after
        row = 0 if grown < 0 or self.has_gained else self.flat + int(self.has_gained is False)
        return replace(after, flat=row, has_gained=None)

    def find_cap(self, now: float) -> int | None:
        """How many replicas the average of the sessions may ask for; None for as many as it likes."""
        hold = self.hold
        if hold is None:
            return None
        return hold.count + math.ceil(TRY_SHARE * hold.count) if now >= hold.retry_at else hold.count


def _measure(reads: ReadGain, known: Sequence[Connections], now: float, *, is_pressing: bool) -> ReadGain:
    """While one replica is not read, nothing is known of all together."""
    counters = {reading.name: reading.counter for reading in known if reading.counter is not None}
    if counters.keys() != reads.names:
        return replace(reads, rate=None)
    piece = measure_reads(reads.counters, counters, sum(reading.active for reading in known))
    after = replace(reads, counters=FrozenMap(counters), rate=piece.rate if piece is not None else None)
    if piece is None or not is_pressing or now - reads.since < SETTLING_SECONDS + piece.seconds:
        return after
    window = reads.window or ReadWindow(len(reads.names), now - piece.seconds, now)
    return _judge(after, window.add(piece, now), now)


def _judge(reads: ReadGain, window: ReadWindow, now: float) -> ReadGain:
    """The verdict on the last step stays until a window says otherwise; the second one without a gain stops growth."""
    reads = replace(reads, window=window)
    if not window.is_long:
        return reads
    before = next((rung for rung in reversed(reads.rungs) if _is_comparable(rung, window)), None)
    has_gained = find_gain(before, window) if before is not None else None
    if has_gained is None:
        return reads
    is_new = window.count > reads.hold.count if reads.hold is not None else reads.flat + 1 >= STEPS
    hold = _stop(reads, window, now) if is_new and not has_gained else reads.hold
    return replace(reads, has_gained=has_gained, hold=hold)


def _stop(reads: ReadGain, window: ReadWindow, now: float) -> Hold:
    """Growth stops here; after a try that added nothing, the next one comes later."""
    known = {rung.count: round(rung.rate) for rung in (*reads.rungs, window)}
    retry_at, pause, before = now + RETRY_SECONDS, RETRY_SECONDS, reads.hold
    if before is not None:
        known = dict(before.measured) | known
        retry_at, pause = before.retry_at, before.pause_seconds
        if now >= retry_at:
            pause = min(2 * pause, MOST_PAUSE_SECONDS)
            retry_at = now + pause
    return Hold(tuple(sorted(known.items()))[-STEPS - 1 :], retry_at, pause)


def _lift(reads: ReadGain, desired: int, now: float) -> ReadGain:
    hold, window = reads.hold, reads.window
    if hold is None:
        return reads
    per_replica = window.rate / window.count if window is not None and window.is_long else 0.0
    is_more = len(reads.names) > hold.count
    # Without a verdict for so long a step counts as a gain: the gate of the workers has the same rule.
    is_unjudged = is_more and now >= hold.retry_at and now - reads.since >= COMPARED_SECONDS
    has_gained = is_more and (reads.has_gained or is_unjudged)
    if desired < hold.count or has_gained or per_replica >= RECOVERED_RATIO * hold.rate / hold.count:
        return _forget(reads)
    return reads


def _forget(reads: ReadGain) -> ReadGain:
    return replace(reads, rungs=(), flat=0, has_gained=None, hold=None)


def _is_comparable(before: ReadWindow, after: ReadWindow) -> bool:
    """Whether both are near enough in time, and far enough apart in replicas, for a step to be evaluated."""
    error = math.hypot(WINDOW_ERROR, estimate_error(before, after))
    is_near = after.began_at - before.ended_at <= COMPARED_SECONDS
    return is_near and math.log(after.count / before.count) > LINEAR_SIGMAS * error


def _is_pressing(known: Sequence[Connections], target: float) -> bool:
    """Whether sessions at work fill the replicas to their target, and each replica has its share of them."""
    sessions, active = sum(reading.sessions for reading in known), sum(reading.active for reading in known)
    if not known or sessions < target * sum(reading.capacity for reading in known) or active < BUSY_SHARE * sessions:
        return False
    least = SESSIONS_SHARE * sessions / len(known)
    return all(reading.takes_new and not reading.is_estimate and reading.sessions >= least for reading in known)
