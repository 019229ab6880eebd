"""The statements of the login that fills caches. They read catalogs and call two functions of PostgreSQL's own
extensions; `{schema}` is where those are.

The login may read all data, password verifiers among them, so that only our own statements may run as it. A
function counts as an extension's own if it is C code of that extension's library, which only superusers can make, and
if its schema is one that no other role can rename and put another one in place of. Its arguments have exactly the types
of its definition: no overloaded function in that schema can be meant. The view pg_buffercache is not read, since its
owner can replace it.
"""

HOT_USAGE = 2
"""Uses since the clock of the cache last came by, of five that are counted: a block that was read once has one."""
GAPS = (4, 16, 64)
"""Cold blocks between hot ones that are read with them, so that these make one range; the smallest with which there are
not too many ranges."""

CHECK = """
WITH found AS (
    SELECT p.proname::text AS name, n.nspname::text AS schema, o.rolname::text AS owner,
           o.rolsuper AND p.proconfig IS NULL AND NOT p.prosecdef AS is_own,
           has_function_privilege(p.oid, 'EXECUTE') AND has_schema_privilege(n.oid, 'USAGE') AS may_call
    FROM (VALUES ('pg_buffercache', 'pg_buffercache_pages', ''), ('pg_prewarm', 'pg_prewarm', '2205 25 25 20 20'))
         AS wanted (extension, function, types)
    JOIN pg_extension x ON x.extname = wanted.extension
    JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid AND d.deptype = 'e'
     AND d.classid = 'pg_proc'::regclass
    JOIN pg_proc p ON p.oid = d.objid AND p.proname = wanted.function AND p.prosrc = wanted.function
     AND p.probin = '$libdir/' || wanted.extension AND p.proargtypes = wanted.types::oidvector
    JOIN pg_language l ON l.oid = p.prolang AND l.lanname = 'c'
    JOIN pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_roles named ON named.oid = n.nspowner
    JOIN pg_database here ON here.datname = current_database()
    JOIN pg_roles o ON o.oid = CASE WHEN named.rolname = 'pg_database_owner' THEN here.datdba ELSE named.oid END
)
SELECT pg_is_in_recovery() AS is_in_recovery,
       pg_has_role(current_user, 'pg_read_all_data', 'USAGE') AS may_read,
       current_user::text AS login,
       b.schema AS buffercache_schema, b.owner AS buffercache_owner, b.is_own AS is_buffercache_own,
       b.may_call AS may_call_buffercache,
       w.schema AS prewarm_schema, w.owner AS prewarm_owner, w.is_own AS is_prewarm_own, w.may_call AS may_call_prewarm
FROM (SELECT) one
LEFT JOIN found b ON b.name = 'pg_buffercache_pages'
LEFT JOIN found w ON w.name = 'pg_prewarm'
"""
"""pg_database_owner stands for whoever owns the database."""

DESCRIBE = """
SELECT current_setting('cluster_name') AS server_name,
       (SELECT setting::bigint FROM pg_settings WHERE name = 'shared_buffers') AS buffers
"""

READ_HOT = """
WITH here AS MATERIALIZED (
    SELECT oid, dattablespace FROM pg_database WHERE datname = current_database()
), relations AS MATERIALIZED (
    SELECT c.oid, pg_relation_filenode(c.oid) AS file,
           coalesce(nullif(c.reltablespace, 0), here.dattablespace) AS tablespace
    FROM pg_class c, here
    WHERE c.relkind IN ('r', 'm', 'i', 't') AND c.relpersistence = 'p' AND NOT c.relisshared
), hot AS (
    SELECT r.oid, r.file, b.relblocknumber AS block, b.usagecount AS usage
    FROM {schema}.pg_buffercache_pages() AS b (
        bufferid integer, relfilenode oid, reltablespace oid, reldatabase oid, relforknumber smallint,
        relblocknumber bigint, isdirty boolean, usagecount smallint, pinning_backends integer)
    JOIN here ON here.oid = b.reldatabase
    JOIN relations r ON r.file = b.relfilenode AND r.tablespace = b.reltablespace
    WHERE b.relforknumber = 0 AND b.usagecount >= %(usage)s
), spaced AS MATERIALIZED (
    SELECT oid, file, block, usage,
           CASE WHEN lag(block) OVER w / %(longest)s = block / %(longest)s THEN block - lag(block) OVER w - 1 END AS gap
    FROM hot WINDOW w AS (PARTITION BY oid ORDER BY block)
), chosen AS MATERIALIZED (
    SELECT CASE WHEN count(*) FILTER (WHERE gap <= %(small)s) >= count(*) - %(most)s THEN %(small)s
                WHEN count(*) FILTER (WHERE gap <= %(middle)s) >= count(*) - %(most)s THEN %(middle)s
                ELSE %(large)s END AS gap
    FROM spaced
), numbered AS (
    SELECT s.oid, s.file, s.block, s.usage,
           count(*) FILTER (WHERE s.gap IS NULL OR s.gap > (SELECT gap FROM chosen))
             OVER (PARTITION BY s.oid ORDER BY s.block) AS run
    FROM spaced s
), runs AS (
    SELECT oid, file, min(block) AS first, max(block) AS last,
           sum(usage) / (max(block) - min(block) + 1) AS heat
    FROM numbered GROUP BY oid, file, run
), counted AS (
    SELECT *, sum(last - first + 1) OVER (ORDER BY heat DESC, oid, first ROWS UNBOUNDED PRECEDING) AS total FROM runs
)
SELECT oid::bigint AS relation, file::bigint AS file, first, last
FROM counted WHERE total <= %(most_blocks)s
ORDER BY heat DESC, oid, first LIMIT %(most)s
"""
"""Ranges end where a full one would, too. `heat` is whole: in each step the ranges of a relation stay together."""

WARM = """
SELECT coalesce(sum(w.blocks), 0)::bigint AS blocks, bool_or(s.blocks IS NOT NULL) AS is_there
FROM (SELECT) one
LEFT JOIN (
    SELECT oid, pg_relation_size(oid, 'main') / current_setting('block_size')::bigint AS blocks
    FROM pg_class
    WHERE oid = %(relation)s::oid AND pg_relation_filenode(oid) = %(file)s::oid AND relkind IN ('r', 'm', 'i', 't')
      AND relpersistence = 'p' AND NOT relisshared
    OFFSET 0
) s ON true
LEFT JOIN LATERAL (
    SELECT {schema}.pg_prewarm(
        s.oid::regclass, 'buffer'::text, 'main'::text, r.first, least(r.last, s.blocks - 1)) AS blocks
    FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) AS r (first, last)
    WHERE r.first < s.blocks
) w ON true
"""
"""A relation is named by its oid, and by its file, so that it is the one whose blocks were hot."""
