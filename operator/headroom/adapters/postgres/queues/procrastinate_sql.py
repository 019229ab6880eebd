"""The statement that samples procrastinate's tables (schema of version 3): one snapshot, bounded whatever is in them.

Rows of `{schema}.procrastinate_jobs` that are open (todo, doing) are found through the library's own partial indexes,
so that finished jobs, which are kept by default, cost nothing. A limit counts only rows that a worker could take: rows
that are due later, held by a lock, or locked by a transaction fill none. About 500 rows are looked up in
`procrastinate_events`, since a job has no column that says when it became ready.
"""

from collections.abc import Mapping

ROW_LIMIT = 50_001
"""Claimable rows read at most, about 20 ms of the server's CPU: counting a backlog is load of its own."""
LOCK_LIMIT = 10_001
"""The same of rows with a lock, which cost more (few locks never fill it), and of those that a transaction locked."""
EVENT_LIMIT = 30_000
"""Events looked up at most in one sample; the next one reads on."""
ID_LIMIT = 100_000
"""Ids of events read at most: most of a bulk insert's events are of no use here, but have to be passed over."""
LEADERS = 20
LIMITS: Mapping[str, int] = {
    "row_limit": ROW_LIMIT,
    "lock_limit": LOCK_LIMIT,
    "event_limit": EVENT_LIMIT,
    "id_limit": ID_LIMIT,
    "leaders": LEADERS,
}
LEAN_LIMITS: Mapping[str, int] = {**LIMITS, "row_limit": 5_001, "event_limit": 10_000, "id_limit": 25_000}
"""Of a busy server, which did not answer in time: less of it is a lower bound sooner, and the events are read later."""

ONE_QUEUE = "j.queue_name = %(queue)s"
"""Equality, not ANY: only that lets an index on (queue_name, id) give the rows in order."""
SOME_QUEUES = "j.queue_name = ANY(%(queues)s)"
ALL_QUEUES = "true"

# A job's place in the library's order of claims (priority DESC, id) as one number, whose low 42 bits are the id.
# Priorities beyond a million either way count as a million.
_PLACE = "(j.id - least(greatest(j.priority, -1000000), 1000000)::bigint * 4398046511104)"
_IS_DUE = "(j.scheduled_at IS NULL OR j.scheduled_at <= now())"

_STATEMENT = """
WITH writers AS MATERIALIZED (
    -- Transactions that may lock rows: those of sessions, and prepared ones, which have none.
    SELECT transaction AS xid FROM pg_prepared_xact()
    UNION
    SELECT backend_xid FROM pg_stat_get_activity(NULL) WHERE backend_xid IS NOT NULL
), transactions AS MATERIALIZED (
    -- A claim skips a row that a transaction has locked. One that already ran at the sample before is no claim.
    SELECT ARRAY(SELECT xid FROM writers WHERE xid::text = ANY(%(transactions)s)) AS long,
           ARRAY(SELECT xid::text FROM writers LIMIT 1000) AS open
), free AS MATERIALIZED (
    -- Waiting jobs without a lock, oldest first.
    SELECT j.id, j.scheduled_at, #PLACE# AS place
    FROM {schema}.procrastinate_jobs j
    WHERE j.status = 'todo'::{status} AND {is_ours} AND j.lock IS NULL AND #IS_DUE#
      AND j.xmax <> ALL((SELECT long FROM transactions)::xid[])
    ORDER BY j.id
    LIMIT %(row_limit)s
), held AS MATERIALIZED (
    -- Due jobs whose row is locked by a long transaction, with or without a lock of the library.
    SELECT j.id, j.priority, j.lock, j.xmax AS holder
    FROM {schema}.procrastinate_jobs j
    WHERE (SELECT cardinality(long) > 0 FROM transactions)
      AND j.status = 'todo'::{status} AND {is_ours} AND #IS_DUE#
      -- CASE, because a bare = ANY is thought to find few: then all that it finds are sorted before the limit.
      AND CASE WHEN j.xmax = ANY((SELECT long FROM transactions)::xid[]) THEN true ELSE false END
    ORDER BY j.id
    LIMIT %(lock_limit)s
), stuck AS MATERIALIZED (
    SELECT j.id, j.holder, #PLACE# AS place FROM held j ORDER BY place LIMIT 5
), soon AS (
    SELECT count(*) AS jobs FROM (
        SELECT FROM {schema}.procrastinate_jobs j
        WHERE j.status = 'todo'::{status} AND {is_ours} AND j.lock IS NULL
          AND j.scheduled_at > now() AND j.scheduled_at <= now() + make_interval(secs => %(lead_time)s)
        LIMIT %(row_limit)s) later
), turns AS MATERIALIZED (
    -- Due jobs with a lock, oldest first. Thousands of them may have one lock.
    SELECT j.id, j.lock, j.scheduled_at, #PLACE# AS place
    FROM {schema}.procrastinate_jobs j
    WHERE j.status = 'todo'::{status} AND {is_ours} AND j.lock IS NOT NULL AND #IS_DUE#
    ORDER BY j.id
    LIMIT %(lock_limit)s
), firsts AS MATERIALIZED (
    SELECT lock, min(place) AS place, count(*) AS jobs FROM turns GROUP BY lock
), extent AS MATERIALIZED (
    SELECT coalesce(sum(jobs), 0) >= %(lock_limit)s AS is_full,
           coalesce(sum(jobs), 0) >= %(lock_limit)s AND count(*) < %(lock_limit)s / 10 AS is_crowded
    FROM firsts
), locks AS MATERIALIZED (
    -- The first of each lock. If few locks fill the limit, there may be others behind them.
    SELECT lock, place, jobs FROM firsts WHERE NOT (SELECT is_crowded FROM extent)
    UNION ALL
    SELECT j.lock, min(#PLACE#), count(*)
    FROM {schema}.procrastinate_jobs j
    WHERE (SELECT is_crowded FROM extent)
      AND j.status = 'todo'::{status} AND {is_ours} AND j.lock IS NOT NULL AND #IS_DUE#
    GROUP BY j.lock
), ahead AS MATERIALIZED (
    -- As the library's own claim: jobs of other queues and jobs that are due later also bar those behind them.
    -- CASE keeps this a hash, and that for few rows: joined, it may become one scan of the index for each lock. The
    -- condition that it repeats says how few: else the locks are sorted, which takes longer than all the rest.
    SELECT j.lock, min(#PLACE#) AS place
    FROM {schema}.procrastinate_jobs j
    WHERE (SELECT EXISTS (SELECT FROM locks))
      AND j.status = 'todo'::{status} AND j.lock IS NOT NULL AND NOT ({is_ours} AND #IS_DUE#)
      AND CASE WHEN {is_ours} AND #IS_DUE# THEN false ELSE j.lock IN (SELECT lock FROM locks) END
    GROUP BY j.lock
), next AS MATERIALIZED (
    SELECT locks.place & 4398046511103 AS id, locks.place
    FROM locks LEFT JOIN ahead ON ahead.lock = locks.lock
    WHERE (ahead.place IS NULL OR locks.place < ahead.place)
      AND locks.lock NOT IN (SELECT busy.lock FROM {schema}.procrastinate_jobs busy
                             WHERE busy.status = 'doing'::{status} AND busy.lock IS NOT NULL)
      AND locks.place & 4398046511103 NOT IN (SELECT id FROM held)
), counted AS MATERIALIZED (
    SELECT (SELECT count(*) FROM free) AS free,
           (SELECT count(*) FROM held WHERE lock IS NULL) AS held,
           (SELECT count(*) FROM held) AS all_held,
           (SELECT count(*) FROM next) AS next,
           (SELECT coalesce(sum(jobs), 0)::bigint FROM locks) AS locked
), front AS (
    -- The first in the library's order; behind a limit by id there may be some that come before.
    (SELECT id, place FROM free, counted WHERE counted.free < %(row_limit)s ORDER BY place LIMIT %(leaders)s)
    UNION ALL
    (SELECT j.id, #PLACE# AS place FROM {schema}.procrastinate_jobs j
     WHERE (SELECT free >= %(row_limit)s FROM counted)
       AND j.status = 'todo'::{status} AND {is_ours} AND j.lock IS NULL AND #IS_DUE#
       AND j.xmax <> ALL((SELECT long FROM transactions)::xid[])
     ORDER BY j.priority DESC, j.id LIMIT %(leaders)s)
    UNION ALL
    (SELECT id, place FROM next ORDER BY place LIMIT %(leaders)s)
), looked_up AS MATERIALIZED (
    -- ready since: when it was deferred, or when it was due if that came later (retries and schedules)
    SELECT chosen.id, chosen.kind,
           -- since -infinity there is no age
           extract(epoch FROM now() - nullif(greatest(job.scheduled_at, (
               SELECT min(e.at) FROM {schema}.procrastinate_events e
               WHERE e.job_id = chosen.id AND e.type = 'deferred'::{event})), '-infinity'::timestamptz))::float8 AS age
    FROM (
        (SELECT id, 'oldest' AS kind FROM free ORDER BY id LIMIT 50)
        UNION ALL
        (SELECT id, 'oldest' FROM free WHERE scheduled_at IS NOT NULL ORDER BY scheduled_at LIMIT 50)
        UNION ALL
        (SELECT id, 'spread' FROM free, counted
         WHERE (hashint8(id) & 2147483647) %% greatest(1, counted.free / 200) = 0 LIMIT 400)
        UNION ALL
        (SELECT id, 'next' FROM next ORDER BY id LIMIT 100)
        UNION ALL
        -- LIMIT here too: if next were thought to be large, it would be read once for each of the turns
        (SELECT id, 'barred' FROM turns WHERE id NOT IN (SELECT id FROM next LIMIT %(row_limit)s) ORDER BY id LIMIT 1)
        UNION ALL
        (SELECT id, 'held' FROM stuck)
    ) chosen
    -- LIMIT keeps this a look-up by key: joined freely, tables without statistics are read once for each other's row
    CROSS JOIN LATERAL (
        SELECT scheduled_at FROM {schema}.procrastinate_jobs WHERE id = chosen.id LIMIT 1
    ) job
), recent AS MATERIALIZED (
    SELECT e.id, e.type, e.job_id, e.at
    FROM {schema}.procrastinate_events e
    WHERE e.id > %(low)s::bigint AND e.id <= %(low)s::bigint + %(id_limit)s
      AND e.type = ANY('{{started,deferred_for_retry,failed,succeeded,aborted,cancelled}}'::{event}[])
    ORDER BY e.id
    LIMIT %(event_limit)s
), reach AS MATERIALIZED (
    -- How far the events were read; what was not read is not settled.
    SELECT CASE WHEN (SELECT count(*) FROM recent) >= %(event_limit)s THEN (SELECT max(id) FROM recent)
                ELSE least(newest.id, %(low)s::bigint + %(id_limit)s) END AS read_to,
           newest.id AS last_event
    FROM (SELECT max(id) AS id FROM {schema}.procrastinate_events) newest
), flow AS (
    SELECT recent.id <= least(%(settled)s::bigint, reach.read_to) AS is_settled, format('%%s', recent.type) AS type,
           count(*) AS events
    FROM reach, recent
    CROSS JOIN LATERAL (
        SELECT job.queue_name, job.lock, job.scheduled_at
        FROM {schema}.procrastinate_jobs job WHERE job.id = recent.job_id LIMIT 1
    ) j
    -- A job that was cancelled before its time, or behind a lock, had not arrived.
    WHERE {is_ours} AND (recent.type <> 'cancelled'::{event}
                         OR (j.lock IS NULL AND (j.scheduled_at IS NULL OR j.scheduled_at <= recent.at)))
    GROUP BY 1, 2
), hands AS MATERIALIZED (
    SELECT count(*) FILTER (WHERE w.id IS NOT NULL) AS in_flight,
           count(*) FILTER (WHERE w.id IS NULL) AS phantoms,
           min(j.id) FILTER (WHERE w.id IS NOT NULL) AS oldest,
           (array_agg(j.id) FILTER (WHERE w.id IS NOT NULL))[:1000] AS ids
    FROM {schema}.procrastinate_jobs j
    LEFT JOIN {schema}.procrastinate_workers w
           ON w.id = j.worker_id AND w.last_heartbeat > now() - make_interval(secs => %(heartbeat)s)
    WHERE j.status = 'doing'::{status} AND {is_ours}
), others AS (
    SELECT count(*) AS rows, count(*) FILTER (WHERE j.status = 'succeeded'::{status}) AS kept
    FROM {schema}.procrastinate_jobs j
    WHERE j.id > (SELECT max(id) FROM {schema}.procrastinate_jobs) - %(kept_rows)s AND NOT ({is_ours})
)
SELECT counted.free, counted.next, counted.held, counted.locked, soon.jobs AS due_soon,
       counted.free >= %(row_limit)s AS is_truncated, counted.all_held >= %(lock_limit)s AS has_more_held,
       extent.is_full AND NOT extent.is_crowded AS has_more_locks,
       (SELECT max(age) FROM looked_up WHERE kind IN ('oldest', 'spread')) AS oldest,
       (SELECT count(*) FROM looked_up WHERE kind = 'spread') AS spread,
       (SELECT count(*) FROM looked_up WHERE kind = 'spread' AND age > %(target_lag)s) AS spread_late,
       (SELECT json_agg(json_build_array(id, age)) FROM looked_up WHERE kind = 'oldest') AS eldest,
       (SELECT json_agg(json_build_array(id, age)) FROM looked_up WHERE kind = 'next') AS heads,
       (SELECT json_agg(id ORDER BY place)
        FROM (SELECT id, place FROM front ORDER BY place LIMIT %(leaders)s) first) AS leaders,
       (SELECT max(age) FROM looked_up WHERE kind IN ('barred', 'held')) AS oldest_barred,
       (SELECT json_agg(json_build_array(id, holder::text, EXISTS (
            SELECT FROM pg_prepared_xact() prepared WHERE prepared.transaction = holder)) ORDER BY place)
        FROM stuck) AS stuck,
       (SELECT json_agg(json_build_array(is_settled, type, events)) FROM flow) AS flow,
       reach.read_to, reach.last_event, transactions.open AS transactions,
       hands.in_flight, hands.phantoms, hands.ids AS running,
       hands.oldest AS oldest_running,
       (SELECT count(*) FROM {schema}.procrastinate_jobs kept
        WHERE kept.id >= hands.oldest - %(kept_rows)s AND kept.id < hands.oldest) AS kept_before,
       (SELECT count(*) FROM unnest(%(seen)s::bigint[]) AS seen (id)
        WHERE NOT EXISTS (SELECT FROM {schema}.procrastinate_jobs there WHERE there.id = seen.id)) AS vanished,
       (SELECT count(*) FROM (
            SELECT FROM {schema}.procrastinate_jobs j
            WHERE j.id > %(last_job)s::bigint AND {is_ours} AND j.lock IS NULL AND #IS_DUE#
            LIMIT %(row_limit)s) made) AS made,
       (SELECT count(*) FROM (
            SELECT FROM {schema}.procrastinate_jobs there
            WHERE there.id > %(last_id)s::bigint LIMIT %(row_limit)s) made) AS made_anywhere,
       %(row_limit)s AS row_limit,
       (SELECT count(*) FROM free
        WHERE scheduled_at > %(sampled_at)s::timestamptz AND id <= %(last_job)s::bigint) AS became_due,
       others.rows > 0 AS has_others, others.kept > 0 AS others_keep,
       (SELECT max(id) FROM {schema}.procrastinate_jobs) AS last_job,
       CASE WHEN has_sequence_privilege(pg_get_serial_sequence({table}, 'id'), 'SELECT, USAGE')
            THEN pg_sequence_last_value(pg_get_serial_sequence({table}, 'id')::regclass) END AS last_id,
       pg_stat_get_tuples_deleted({table}::regclass) AS deleted,
       now()::text AS sampled_at
FROM counted, soon, extent, reach, transactions, hands, others
"""

SAMPLE = _STATEMENT.replace("#PLACE#", _PLACE).replace("#IS_DUE#", _IS_DUE)
"""`{schema}`, `{is_ours}`, `{table}` (the jobs' table as a literal) and the types `{status}` and `{event}` are to be
filled in. Whoever owns these types can make casts from them that call a function. So each literal has its type, and a
value becomes text by format(), which looks for no cast.
"""
OWN_PARAMETERS: Mapping[str, str] = {
    "queue": "text",
    "queues": "text[]",
    "lead_time": "float8",
    "target_lag": "float8",
    "low": "bigint",
    "settled": "bigint",
    "last_job": "bigint",
    "last_id": "bigint",
    "seen": "bigint[]",
    "transactions": "text[]",
    "sampled_at": "text",
}
"""The parameters that belong to one pool, with their types; the others are the same for all."""
