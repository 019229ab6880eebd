"""How long procrastinate's jobs take: 99 of 100 of those that ended lately, and the oldest running one until now.

Asked seldom, and once for all queues of a schema, since it only matters before workers go. At most EVENT_SPAN events
are read, by their key.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headroom.adapters.postgres.queues.sharing import SharedQuestions, SharedStatement
from headroom.adapters.postgres.values import WHERE, read_entries, read_number, read_text, understood
from headroom.errors import PrimaryUnavailable, Refused, SignalUnavailable
from headroom.model.queue import QueueQuestion

EVERY_SECONDS = 60.0
SOON_SECONDS = 10.0
"""How often it is asked, and how often while workers may soon go."""
EVENT_SPAN = 5_000
"""About 20 ms of the server's CPU, and 1,500 attempts."""
LEAST_ENDED = 20
"""The longest of fewer jobs says little about the longest of a hundred."""
MOST_RUNNING = 1000
QUANTILE = 0.99
MOST_QUEUE = 128
"""Characters of the library's column for names of queues."""

JOB_TIMES = """
WITH ended AS MATERIALIZED (
    SELECT e.id, e.job_id, e.at, j.queue_name
    FROM {schema}.procrastinate_events e
    CROSS JOIN LATERAL (
        SELECT job.queue_name FROM {schema}.procrastinate_jobs job WHERE job.id = e.job_id LIMIT 1
    ) j
    WHERE e.id > (SELECT max(id) FROM {schema}.procrastinate_events) - %(event_span)s
      AND e.type = ANY('{{succeeded,failed,deferred_for_retry,aborted}}'::{event}[])
), attempts AS (
    SELECT ended.queue_name, extract(epoch FROM ended.at - began.at)::float8 AS seconds
    FROM ended
    CROSS JOIN LATERAL (
        SELECT max(e.at) AS at FROM {schema}.procrastinate_events e
        WHERE e.job_id = ended.job_id AND e.type = 'started'::{event} AND e.id < ended.id
    ) began
    WHERE began.at IS NOT NULL
), times AS (
    SELECT queue_name, percentile_disc(%(quantile)s) WITHIN GROUP (ORDER BY seconds) AS seconds
    FROM attempts
    GROUP BY queue_name
    HAVING count(*) >= %(least_ended)s
), running AS (
    SELECT j.id, j.queue_name
    FROM {schema}.procrastinate_jobs j
    JOIN {schema}.procrastinate_workers w
      ON w.id = j.worker_id AND w.last_heartbeat > now() - make_interval(secs => %(heartbeat)s)
    WHERE j.status = 'doing'::{status}
    ORDER BY j.id
    LIMIT %(most_running)s
), ages AS (
    SELECT running.queue_name, max(extract(epoch FROM now() - began.at))::float8 AS seconds
    FROM running
    CROSS JOIN LATERAL (
        SELECT max(e.at) AS at FROM {schema}.procrastinate_events e
        WHERE e.job_id = running.id AND e.type = 'started'::{event}
    ) began
    WHERE began.at IS NOT NULL
    GROUP BY running.queue_name
)
SELECT (SELECT json_object_agg(queue_name, seconds) FROM times) AS ended,
       (SELECT json_object_agg(queue_name, seconds) FROM ages) AS running
"""
"""`{schema}` and the types `{status}` and `{event}` are to be filled in."""


@dataclass(slots=True)
class JobTimes:
    """The last answer by queue, and when it was asked for (monotonic seconds): of all pools of a schema together."""

    ended: Mapping[str, float] = field(default_factory=dict)
    running: Mapping[str, float] = field(default_factory=dict)
    _asked_at: float | None = None

    async def measure(
        self,
        questions: SharedQuestions,
        statement: SharedStatement,
        question: QueueQuestion,
        *,
        heartbeat_seconds: float,
    ) -> None:
        """Ask if it is time to; without an answer the last one stands."""
        pause = SOON_SECONDS if question.is_shrinking else EVERY_SECONDS
        if self._asked_at is not None and question.asked_at - self._asked_at < pause:
            return
        self._asked_at = question.asked_at
        parameters = {
            "heartbeat": heartbeat_seconds,
            "event_span": EVENT_SPAN,
            "least_ended": LEAST_ENDED,
            "most_running": MOST_RUNNING,
            "quantile": QUANTILE,
        }
        try:
            row = await questions.ask(statement, parameters, asker=id(self), within_seconds=SOON_SECONDS)
        except (PrimaryUnavailable, Refused, SignalUnavailable):
            return
        with understood(WHERE):
            self.ended = _parse(row["ended"], EVENT_SPAN // LEAST_ENDED)
            self.running = _parse(row["running"], MOST_RUNNING)

    def ended_within(self, queues: Sequence[str]) -> float | None:
        """What 99 of 100 jobs of the slowest of these queues end within; empty is all of them, None is not known."""
        return max(_pick(self.ended, queues), default=None)

    def running_for(self, queues: Sequence[str]) -> float:
        """How long the oldest running job of these queues has taken; 0 without one."""
        return max(_pick(self.running, queues), default=0.0)


def _pick(seconds: Mapping[str, float], queues: Sequence[str]) -> list[float]:
    return [max(0.0, value) for queue, value in seconds.items() if not queues or queue in queues]


def _parse(value: Any, most: int) -> Mapping[str, float]:
    parsed = json.loads(value) if isinstance(value, str) else value
    entries = read_entries(list((parsed or {}).items()), most)
    return {read_text(queue, MOST_QUEUE): read_number(seconds) for queue, seconds in entries}
