"""What the sessions of a role wait for, and what holds the lock that most of them need.

Both statements read catalog views only, with the rights of pg_monitor: without it the states of other roles' sessions
are hidden, and the sample is empty. Of the blocker's statement only the shape leaves this module, never a value.
"""

from dataclasses import dataclass, field
from typing import Any

from headroom.adapters.postgres.links import SharedQueries
from headroom.adapters.postgres.values import MOST_NAME, read_entries, read_text, read_whole, understood
from headroom.model.waits import CPU, MOST_READ, Blocker, WaitSample, describe_statement
from headroom.ports.clock import Clock

BLOCKER_EVERY_SECONDS = 5.0
"""pg_blocking_pids locks the whole lock table for a moment, so it is asked seldom, and only while sessions wait."""
WAITERS_ASKED = 20
MOST_EVENTS = 100
"""Those with the most sessions; PostgreSQL 18 knows some 300, and sessions wait for few of them at a time."""

# A role that is not told stands for everybody in the database. Sessions that wait for the same row queue up behind the
# first of them (tuple), which waits for the transaction that holds it (transactionid): one cause, one name.
# Sessions of queues have a separate login; who takes their name hides from a sample about itself, and no more.
_WORKERS = """
backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name NOT LIKE 'headroom/%%'
  AND CASE WHEN %(role)s::text IS NULL THEN datname = current_database() ELSE usename = %(role)s::text END
"""
WAITS = f"""
SELECT CASE WHEN wait_event_type IS NULL THEN '{CPU}'
            WHEN wait_event_type = 'Lock' AND wait_event = 'tuple' THEN 'Lock:transactionid'
            ELSE wait_event_type || ':' || wait_event END AS event,
       count(*)::int AS sessions
FROM pg_stat_activity
WHERE {_WORKERS} AND state <> 'idle'
GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {MOST_EVENTS}
"""  # noqa: S608  only constants of this module
BLOCKER = f"""
WITH waiting AS MATERIALIZED (
  SELECT pid FROM pg_stat_activity WHERE {_WORKERS} AND wait_event_type = 'Lock' LIMIT {WAITERS_ASKED}
), blocked AS MATERIALIZED (
  SELECT w.pid, b.pid AS blocker FROM waiting w CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS b (pid)
)
SELECT left(a.query, {MOST_READ}) AS query, a.state LIKE 'idle in transaction%%' AS is_idle,
       count(DISTINCT b.pid)::int AS waiters
FROM blocked b JOIN pg_stat_activity a ON a.pid = b.blocker
WHERE a.wait_event_type IS DISTINCT FROM 'Lock' AND a.query IS NOT NULL AND a.state IS NOT NULL
GROUP BY a.pid, a.query, a.state
ORDER BY waiters DESC, a.pid LIMIT 1
"""  # noqa: S608
"""The blocker that waits for no lock itself: what most sessions wait for in the end."""


@dataclass(slots=True, eq=False)
class WaitReader:
    """Reads over the connection that pools share, so that a slow answer delays no guard."""

    queries: SharedQueries
    clock: Clock
    _asked_at: dict[str | None, float] = field(default_factory=dict, init=False)

    async def read(self, role: str | None) -> WaitSample:
        """One sample; the blocker is in it at most every five seconds for each role."""
        parameters = {"role": role}
        rows = await self.queries.query(WAITS, parameters)
        sample = WaitSample(_parse_events(rows))
        now = self.clock.monotonic()
        if sample.lock_waiters == 0 or now - self._asked_at.get(role, -BLOCKER_EVERY_SECONDS) < BLOCKER_EVERY_SECONDS:
            return sample
        self._asked_at[role] = now
        found = await self.queries.query(BLOCKER, parameters)
        if not found:
            return sample
        with understood("the primary"):
            row = found[0]
            statement = describe_statement(read_text(row["query"], MOST_READ))
            blocker = Blocker(statement, read_whole(row["waiters"]), bool(row["is_idle"]))
        return WaitSample(sample.events, blocker)


def _parse_events(found: list[dict[str, Any]]) -> tuple[tuple[str, int], ...]:
    with understood("the primary"):
        entries = read_entries(found, MOST_EVENTS)
        return tuple(sorted((read_text(row["event"], 2 * MOST_NAME), read_whole(row["sessions"])) for row in entries))
