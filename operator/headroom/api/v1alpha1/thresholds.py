"""The bound of each state of a database (Brownout, Overloaded, Emergency) for each measurement."""

from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from headroom.api.base import SpecModel, rule
from headroom.api.v1alpha1.common import EntryName, PrometheusEndpoint, Query
from headroom.api.values import DecimalNumber, DurationRange

Latency = Annotated[timedelta, DurationRange("1ms", "10m")]
RISING = "brownout must be below overloaded, and overloaded below emergency"


class LatencyLevels(SpecModel):
    """Levels of a time."""

    brownout: Latency = timedelta(milliseconds=250)
    """From here on the database is in Brownout."""
    overloaded: Latency = timedelta(seconds=1)
    """From here on the database is Overloaded."""
    emergency: Latency = timedelta(seconds=5)
    """From here on it is an Emergency."""

    @rule(
        "duration(self.brownout) < duration(self.overloaded) && duration(self.overloaded) < duration(self.emergency)",
        RISING,
    )
    def _levels_rise(self) -> bool:
        return self.brownout < self.overloaded < self.emergency


class CountLevels(SpecModel):
    """Levels of a number of sessions."""

    brownout: Annotated[int, Field(ge=1, le=100_000)] = 5
    """From here on the database is in Brownout."""
    overloaded: Annotated[int, Field(ge=1, le=100_000)] = 20
    """From here on the database is Overloaded."""
    emergency: Annotated[int, Field(ge=1, le=100_000)] = 50
    """From here on it is an Emergency."""

    @rule("self.brownout < self.overloaded && self.overloaded < self.emergency", RISING)
    def _levels_rise(self) -> bool:
        return self.brownout < self.overloaded < self.emergency


class ActiveLevels(SpecModel):
    """Levels of active sessions per core, in percent: 100 is one active session for each core."""

    brownout: Annotated[int, Field(ge=1, le=100_000)] = 150
    """From here on the database is in Brownout."""
    overloaded: Annotated[int, Field(ge=1, le=100_000)] = 300
    """From here on the database is Overloaded."""
    emergency: Annotated[int, Field(ge=1, le=100_000)] = 600
    """From here on it is an Emergency."""

    @rule("self.brownout < self.overloaded && self.overloaded < self.emergency", RISING)
    def _levels_rise(self) -> bool:
        return self.brownout < self.overloaded < self.emergency


class ShareLevels(SpecModel):
    """Levels of the share of connections in use, in percent."""

    brownout: Annotated[int, Field(ge=1, le=100)] = 70
    """From here on the database is in Brownout."""
    overloaded: Annotated[int, Field(ge=1, le=100)] = 85
    """From here on the database is Overloaded."""
    emergency: Annotated[int, Field(ge=1, le=100)] = 95
    """From here on it is an Emergency."""

    @rule("self.brownout < self.overloaded && self.overloaded < self.emergency", RISING)
    def _levels_rise(self) -> bool:
        return self.brownout < self.overloaded < self.emergency


class TransactionLevel(SpecModel):
    """The level of the oldest transaction's age; it reaches Brownout at most."""

    brownout: Annotated[timedelta, DurationRange("10s", "24h")] = timedelta(minutes=10)
    """From here on the database is in Brownout."""


class ReplayLagLevel(SpecModel):
    """The level of the worst serving replica's lag; it reaches Brownout at most."""

    brownout: Annotated[timedelta, DurationRange("1s", "1h")] = timedelta(seconds=30)
    """From here on the database is in Brownout."""


class Thresholds(SpecModel):
    """The bound of each state. A bound below twice the healthy level is ignored, and a condition reports it."""

    commit_latency: LatencyLevels = LatencyLevels()
    """How long a small commit takes."""
    lock_waiters: CountLevels = CountLevels()
    """Sessions that wait for a lock."""
    active_per_core_percent: ActiveLevels = ActiveLevels()
    """Active sessions per core, in percent. Needs `cores`."""
    connections_percent: ShareLevels = ShareLevels()
    """Share of the connections in use."""
    oldest_transaction: TransactionLevel = TransactionLevel()
    """Age of the oldest transaction; Brownout at most."""
    replay_lag: ReplayLagLevel = ReplayLagLevel()
    """Replay lag of the worst serving replica; Brownout at most."""


class GuardSignalType(StrEnum):
    """Where a further measurement comes from."""

    PROMETHEUS = "Prometheus"


class PrometheusLevels(PrometheusEndpoint):
    """A number from Prometheus; larger is worse."""

    query: Query
    """PromQL that returns one sample."""
    brownout: DecimalNumber
    """From here on the database is in Brownout; a number in quotes, such as "0.5"."""
    overloaded: DecimalNumber | None = None
    """From here on the database is Overloaded. Absent: this signal reaches Brownout at most."""
    emergency: DecimalNumber | None = None
    """From here on it is an Emergency. Absent: this signal does not reach it."""
    max_age: Annotated[timedelta, DurationRange("1s", "1h")] = timedelta(seconds=60)
    """A sample older than this counts as missing: it changes nothing."""

    @rule(
        "(!has(self.overloaded) || double(self.brownout) < double(self.overloaded)) && (!has(self.emergency)"
        " || double(has(self.overloaded) ? self.overloaded : self.brownout) < double(self.emergency))",
        RISING,
    )
    def _levels_rise(self) -> bool:
        levels = [level for level in (self.brownout, self.overloaded, self.emergency) if level is not None]
        return all(lower < higher for lower, higher in pairwise(levels))


class GuardSignal(SpecModel):
    """A further measurement of the database's health."""

    name: EntryName
    """Name of the entry, shown in messages."""
    type: GuardSignalType
    """Where it comes from; its settings are in the member of the same name."""
    prometheus: PrometheusLevels | None = None
    """With type Prometheus: query and levels."""

    @rule(
        "(self.type == 'Prometheus') == has(self.prometheus)",
        "set the one member that is named after type: prometheus",
        field=".type",
    )
    def _member_matches_type(self) -> bool:
        return self.prometheus is not None
