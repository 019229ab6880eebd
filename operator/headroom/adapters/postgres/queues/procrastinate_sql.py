"""The statement that samples procrastinate's tables (schema of version 3): one snapshot, bounded whatever is in them.

Rows of `{schema}.procrastinate_jobs` that are open (todo, doing) are found through the library's own partial indexes,
so that finished jobs, which are kept by default, cost nothing. At most `row_limit` open rows are read; of those at most
about 400 are looked up in `procrastinate_events`, since a job has no column that says when it became ready.
"""

ONE_QUEUE = "j.queue_name = %(queue)s"
"""Equality, not ANY: only that lets an index on (queue_name, id) give the rows in order."""
SOME_QUEUES = "j.queue_name = ANY(%(queues)s)"
ALL_QUEUES = "true"

SAMPLE = """
WITH open AS MATERIALIZED (
    -- the oldest open rows of these queues; a row with a lock counts even if it is not due: it bars its successors
    SELECT id, scheduled_at, lock, priority
    FROM {schema}.procrastinate_jobs j
    WHERE status = 'todo' AND {is_ours}
      AND (scheduled_at IS NULL OR lock IS NOT NULL
           OR scheduled_at <= now() + make_interval(secs => %(lead_time)s))
    ORDER BY id
    LIMIT %(row_limit)s
), locked AS MATERIALIZED (
    -- as the library's own claim: one job per lock at a time, in order of priority and id
    SELECT turns.id, turns.scheduled_at,
           turns.turn = 1 AND NOT EXISTS (
               SELECT 1 FROM {schema}.procrastinate_jobs busy
               WHERE busy.lock = turns.lock AND busy.status = 'doing') AS is_next
    FROM (SELECT id, scheduled_at, lock,
                 row_number() OVER (PARTITION BY lock ORDER BY priority DESC, id) AS turn
          FROM open WHERE lock IS NOT NULL) turns
    WHERE turns.scheduled_at IS NULL OR turns.scheduled_at <= now()
), counted AS MATERIALIZED (
    SELECT count(*) FILTER (WHERE lock IS NULL AND (scheduled_at IS NULL OR scheduled_at <= now())) AS free,
           count(*) FILTER (WHERE lock IS NULL AND scheduled_at > now()) AS due_soon,
           count(*) >= %(row_limit)s AS is_truncated
    FROM open
), looked_up AS MATERIALIZED (
    -- ready since: when it was deferred, or when it was due if that came later (retries and schedules)
    SELECT chosen.id, chosen.kind,
           extract(epoch FROM now() - greatest(chosen.scheduled_at, (
               SELECT min(e.at) FROM {schema}.procrastinate_events e
               WHERE e.job_id = chosen.id AND e.type = 'deferred')))::float8 AS age
    FROM (
        (SELECT id, scheduled_at, 'oldest' AS kind FROM open
         WHERE lock IS NULL AND (scheduled_at IS NULL OR scheduled_at <= now()) ORDER BY id LIMIT 50)
        UNION ALL
        (SELECT id, scheduled_at, 'oldest' FROM open
         WHERE lock IS NULL AND scheduled_at <= now() ORDER BY scheduled_at LIMIT 50)
        UNION ALL
        (SELECT id, scheduled_at, 'spread' FROM open, counted
         WHERE lock IS NULL AND (scheduled_at IS NULL OR scheduled_at <= now())
           AND abs(hashint8(id)) %% greatest(1, counted.free / 200) = 0 LIMIT 400)
        UNION ALL
        (SELECT id, scheduled_at, 'next' FROM locked WHERE is_next ORDER BY id LIMIT 100)
        UNION ALL
        (SELECT id, scheduled_at, 'barred' FROM locked WHERE NOT is_next ORDER BY id LIMIT 1)
    ) chosen
), recent AS MATERIALIZED (
    SELECT e.id <= %(settled)s::bigint AS is_settled, e.type, e.job_id
    FROM {schema}.procrastinate_events e
    WHERE e.id > %(low)s::bigint AND e.id <= %(low)s::bigint + %(event_limit)s
      AND e.type IN ('deferred', 'started', 'deferred_for_retry', 'failed', 'succeeded', 'aborted', 'cancelled')
), flow AS (
    -- LIMIT keeps this a look-up by key: joined freely, tables without statistics are read once for each other's row
    SELECT recent.is_settled, recent.type::text AS type, count(*) AS events
    FROM recent
    CROSS JOIN LATERAL (
        SELECT job.queue_name FROM {schema}.procrastinate_jobs job WHERE job.id = recent.job_id LIMIT 1
    ) j
    WHERE {is_ours}
    GROUP BY 1, 2
), hands AS (
    SELECT count(*) FILTER (WHERE w.id IS NOT NULL) AS in_flight,
           count(*) FILTER (WHERE w.id IS NULL) AS phantoms,
           min(j.id) FILTER (WHERE w.id IS NOT NULL) AS oldest
    FROM {schema}.procrastinate_jobs j
    LEFT JOIN {schema}.procrastinate_workers w
           ON w.id = j.worker_id AND w.last_heartbeat > now() - make_interval(secs => %(heartbeat)s)
    WHERE j.status = 'doing' AND {is_ours}
)
SELECT counted.free, counted.due_soon, counted.is_truncated,
       (SELECT count(*) FROM locked WHERE is_next) AS next,
       (SELECT count(*) FROM locked WHERE NOT is_next) AS barred,
       (SELECT max(age) FROM looked_up WHERE kind IN ('oldest', 'spread')) AS oldest,
       (SELECT count(*) FROM looked_up WHERE kind = 'spread') AS spread,
       (SELECT count(*) FROM looked_up WHERE kind = 'spread' AND age > %(target_lag)s) AS spread_late,
       (SELECT json_agg(json_build_array(id, age)) FROM looked_up WHERE kind = 'next') AS heads,
       (SELECT max(age) FROM looked_up WHERE kind = 'barred') AS oldest_barred,
       (SELECT json_agg(json_build_array(is_settled, type, events)) FROM flow) AS flow,
       (SELECT max(id) FROM {schema}.procrastinate_events) AS last_event,
       hands.in_flight, hands.phantoms,
       hands.oldest AS oldest_running,
       (SELECT count(*) FROM {schema}.procrastinate_jobs j
        WHERE j.id >= hands.oldest - %(kept_rows)s AND j.id < hands.oldest) AS kept_before
FROM counted, hands
"""
