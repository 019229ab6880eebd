"""Where the numbers of a queue come from."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from headroom.api.base import SpecModel, Unique, rule
from headroom.api.v1alpha1.common import PrometheusEndpoint, Query, SqlName
from headroom.api.v1alpha1.connection import PostgresConnection
from headroom.api.values import DurationRange


class QueueType(StrEnum):
    """Where the numbers of a queue come from."""

    POSTGRES = "Postgres"
    PROMETHEUS = "Prometheus"


class Claims(StrEnum):
    """Whether two workers can get the same item."""

    EXCLUSIVE = "Exclusive"
    UNFENCED = "Unfenced"


class Preset(StrEnum):
    """Queue libraries whose tables Headroom knows."""

    PROCRASTINATE = "procrastinate"
    RIVER = "river"
    GRAPHILE_WORKER = "graphile-worker"
    PG_BOSS = "pg-boss"
    SOLID_QUEUE = "solid_queue"
    GOOD_JOB = "good_job"
    OBAN = "oban"
    QUE = "que"
    PGMQ = "pgmq"
    PGQUEUER = "pgqueuer"
    DELAYED_JOB = "delayed_job"

    @property
    def may_pause(self) -> bool:
        """Whether the library lets a queue be paused by SQL."""
        return self in {Preset.RIVER, Preset.SOLID_QUEUE, Preset.GOOD_JOB}


class CustomQueries(SpecModel):
    """SQL of your own. Each statement returns one row with one number, reads only, and uses an index."""

    lag_query: Query
    """Age in seconds of the oldest item that a worker could take now; 0 if there is none."""
    backlog_query: Query
    """Number of items that are ready and wait for a worker."""
    late_backlog_query: Query | None = None
    """Number of ready items that have waited longer than the target lag, given as the parameter %(target_lag)s
    (seconds)."""
    in_flight_query: Query | None = None
    """Number of items that live workers handle now."""
    arrivals_query: Query | None = None
    """Total number of items that ever became ready. Absent: derived from backlog and completions."""
    completions_query: Query | None = None
    """Total number of attempts that ever ended, done or failed."""
    failures_query: Query | None = None
    """Total number of attempts that ever failed."""
    busy_workers_query: Query | None = None
    """All workers that hold an item now, as one array of the names or IP addresses of their pods. With it only idle
    pods are removed. Absent: Kubernetes chooses the pods, and those that hold an item finish it first."""


class PostgresQueue(SpecModel):
    """A queue in PostgreSQL tables: exactly one of `preset` and `custom`."""

    preset: Preset | None = None
    """The queue library. Its SQL runs as the login in `connection.queueSecretRef` of the guard (or in `connection`
    here), which needs SELECT on the tables and may have no right that their owner could misuse."""
    queues: Annotated[tuple[SqlName, ...], Field(max_length=64), Unique()] = ()
    """Names of the queues that the workers drain. Empty: all queues of the library."""
    schema_name: SqlName | None = Field(default=None, validation_alias="schema", serialization_alias="schema")
    """Schema of the library's tables. Absent: the default of the library."""
    custom: CustomQueries | None = None
    """SQL of your own, for any other table."""
    connection: PostgresConnection | None = None
    """The server of the queue, with a separate login. Absent: the database of `databaseRef`, with its login for
    queues."""

    @rule(
        "has(self.preset) != has(self.custom)",
        "set exactly one of preset (a known queue library) and custom (SQL of your own)",
    )
    def _has_exactly_one_source(self) -> bool:
        return (self.preset is None) != (self.custom is None)

    @rule(
        "!has(self.custom) || has(self.connection)",
        "SQL of your own needs a separate login: set connection with its credentialsSecretRef",
        field=".connection",
    )
    def _custom_has_its_own_login(self) -> bool:
        return self.custom is None or self.connection is not None

    @rule(
        "!has(self.custom) || ((!has(self.queues) || size(self.queues) == 0) && !has(self.schema))",
        "queues and schema belong to a preset: put the names into the queries",
        field=".queues",
    )
    def _custom_names_its_own_queues(self) -> bool:
        return self.custom is None or not (self.queues or self.schema_name)

    @rule(
        "!has(self.preset) || self.preset != 'pgmq' || (has(self.queues) && size(self.queues) > 0)",
        "pgmq keeps each queue in a separate table: name the queues",
        field=".queues",
    )
    def _pgmq_names_its_queues(self) -> bool:
        return self.preset is not Preset.PGMQ or bool(self.queues)


class PrometheusQueue(PrometheusEndpoint):
    """A queue whose numbers are in Prometheus. Each query returns one sample."""

    lag_query: Query
    """Age in seconds of the oldest item that a worker could take now."""
    backlog_query: Query
    """Number of items that are ready and wait for a worker."""
    in_flight_query: Query | None = None
    """Number of items that live workers handle now."""
    arrivals_query: Query | None = None
    """Items that become ready, per second."""
    completions_query: Query | None = None
    """Attempts that end, done or failed, per second."""
    failures_query: Query | None = None
    """Attempts that fail, per second."""
    max_age: Annotated[timedelta, DurationRange("1s", "1h")] = timedelta(seconds=60)
    """A sample older than this counts as missing: the size is held."""


class Queue(SpecModel):
    """The queue or queues that a pool drains."""

    type: QueueType
    """Where the numbers come from; the settings are in the member of the same name."""
    postgres: PostgresQueue | None = None
    """With type Postgres: tables of a queue library, or SQL of your own."""
    prometheus: PrometheusQueue | None = None
    """With type Prometheus: queries for any other queue."""
    claims: Claims | None = None
    """`Exclusive`: an item is given to one worker at a time. `Unfenced`: two workers can read the same item while a
    commit is slow, so one worker is allowed, and claims stop when commits are slow. Required without a preset."""
    poll_interval: Annotated[timedelta, DurationRange("100ms", "1h")] | None = None
    """With Unfenced claims: how often the worker asks for its next items."""

    @rule(
        "(self.type == 'Postgres') == has(self.postgres) && (self.type == 'Prometheus') == has(self.prometheus)",
        "set the one member that is named after type: postgres for Postgres, prometheus for Prometheus",
        field=".type",
    )
    def _member_matches_type(self) -> bool:
        return (self.type is QueueType.POSTGRES) == (self.postgres is not None) and (
            self.type is QueueType.PROMETHEUS
        ) == (self.prometheus is not None)

    @rule(
        "has(self.claims) || (has(self.postgres) && has(self.postgres.preset))",
        "say whether two workers can get the same item: set claims to Exclusive or Unfenced",
        field=".claims",
    )
    def _claims_are_known(self) -> bool:
        return self.claims is not None or (self.postgres is not None and self.postgres.preset is not None)

    @property
    def is_exclusive(self) -> bool:
        """Whether an item is given to one worker at a time; true for presets unless `claims` says otherwise."""
        return self.claims is not Claims.UNFENCED
