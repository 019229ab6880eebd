"""A queue by the user's own SQL, on a real server: one row, one number, read-only, and words that mend faults."""

from typing import Any

import pytest

from headroom.adapters.postgres.queues import PostgresQueueProbes
from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.errors import InvalidSpec, PrimaryUnavailable, SignalUnavailable
from headroom.model.database import Credentials
from headroom.model.queue import QueueQuestion, QueueSample
from headroom.ports.signals import QueueProbe
from headroom.reasons import Reason
from tests.integration.queues.conftest import Shop
from tests.postgres_server import APPLICATION, DATABASE

pytestmark = pytest.mark.postgres

CONNECTION = {"host": "h", "database": DATABASE, "credentialsSecretRef": {"name": "s"}}
LAG = "SELECT coalesce(extract(epoch FROM now() - min(made_at)), 0) FROM outbox WHERE done_at IS NULL"
BACKLOG = "SELECT count(*) FROM outbox WHERE done_at IS NULL"
LATE = "SELECT count(*) FROM outbox WHERE done_at IS NULL AND made_at < now() - make_interval(secs => %(target_lag)s)"


def spec_of(**queries: str) -> PostgresQueue:
    custom = {"lagQuery": LAG, "backlogQuery": BACKLOG, **queries}
    return PostgresQueue.model_validate({"custom": custom, "connection": CONNECTION})


async def open_probe(shop: Shop, **queries: str) -> QueueProbe:
    shop.run("CREATE TABLE IF NOT EXISTS outbox (id bigserial PRIMARY KEY, made_at timestamptz, done_at timestamptz)")
    return PostgresQueueProbes().open(spec_of(**queries), await shop.open_queue(APPLICATION))


async def take_sample(probe: QueueProbe) -> QueueSample:
    return await probe.sample(QueueQuestion(7.0, 30.0, 10.0))


async def test_each_number_comes_from_its_statement(shop: Shop) -> None:
    probe = await open_probe(
        shop,
        lateBacklogQuery=LATE,
        inFlightQuery="SELECT 3",
        arrivalsQuery="SELECT last_value FROM outbox_id_seq",
        completionsQuery="SELECT count(*) FROM outbox WHERE done_at IS NOT NULL",
        failuresQuery="SELECT 1.9::numeric",
    )
    assert (await take_sample(probe)).backlog == 0
    shop.run("INSERT INTO outbox (made_at) SELECT now() - make_interval(secs => n) FROM unnest(ARRAY[5, 40, 50]) n")
    shop.run("INSERT INTO outbox (made_at, done_at) VALUES (now(), now())")
    sample = await take_sample(probe)
    assert sample.lag_seconds == pytest.approx(50, abs=3)
    expected = (7.0, 3, 2, 3, 4, 1, 1)
    found = (
        sample.taken_at,
        sample.backlog,
        sample.late,
        sample.in_flight,
        sample.arrived,
        sample.ended,
        sample.failed,
    )
    assert found == expected


async def test_what_was_not_asked_for_is_unknown(shop: Shop) -> None:
    sample = await take_sample(await open_probe(shop))
    assert (sample.in_flight, sample.arrived, sample.ended, sample.failed) == (None, None, None, None)


@pytest.mark.parametrize(
    ("sql", "reason", "words"),
    [
        ("SELECT 1 WHERE false", Reason.QUERY_NO_ROW, "returned no row: select an aggregate"),
        ("SELECT NULL::bigint", Reason.QUERY_NO_ROW, "returned NULL: wrap the expression in coalesce"),
        ("SELECT generate_series(1, 2)", Reason.QUERY_MANY_ROWS, "more than one row: aggregate to one, or add LIMIT 1"),
        ("SELECT 1 AS a, 2 AS b", Reason.QUERY_NOT_A_NUMBER, "returned 2 columns: select one"),
        ("SELECT interval '5 s'", Reason.QUERY_NOT_A_NUMBER, "extract(epoch from ...)"),
        ("SELECT 'five'", Reason.QUERY_NOT_A_NUMBER, "returned text, not a number"),
        ("SELECT repeat('x', 20000000)", Reason.QUERY_NOT_A_NUMBER, "returned text, not a number"),
        ("SELECT json_build_array()", Reason.QUERY_NOT_A_NUMBER, "returned json, not a number"),
        (
            "SELECT array_agg(repeat('x', 99999)) FROM generate_series(1, 20)",
            Reason.ANSWER_REFUSED,
            "larger than 1024 KiB",
        ),
        ("SELECT repeat('9', 131000)::numeric", Reason.QUERY_NOT_A_NUMBER, "returned inf: a number is needed"),
        ("SELECT -repeat('9', 131000)::numeric", Reason.QUERY_NOT_A_NUMBER, "returned -inf: a number is needed"),
        ("SELECT repeat('9', 300)::numeric", Reason.QUERY_NOT_A_NUMBER, "returned 1e+300: a count is at most"),
        ("SELECT true", Reason.QUERY_NOT_A_NUMBER, "returned bool, not a number"),
        ("SELECT 'NaN'::float8", Reason.QUERY_NOT_A_NUMBER, "returned NaN: a number is needed"),
        ("SELECT -1", Reason.QUERY_NOT_A_NUMBER, "returned -1: a number of 0 or more"),
        ("SELECT count(*) FROM missing", Reason.QUEUE_NOT_FOUND, "does not exist"),
        ("SELECT missing FROM outbox", Reason.QUEUE_NOT_FOUND, "does not exist"),
        ("SELECT rolpassword FROM pg_authid", Reason.MISSING_RIGHT, "GRANT SELECT"),
        ("SELEC 1", Reason.QUERY_FAILED, "SQLSTATE 42601"),
        ("SELECT 1; DROP TABLE outbox", Reason.QUERY_FAILED, "SQLSTATE 42601"),
        ("DELETE FROM outbox RETURNING 1", Reason.QUERY_FAILED, "SQLSTATE 42601"),
        ("SELECT nextval('outbox_id_seq')", Reason.QUERY_FAILED, "SQLSTATE 25006"),
        ("SELECT 1/0", Reason.QUERY_FAILED, "SQLSTATE 22012"),
        ("SELECT pg_sleep(30)", Reason.QUERY_TIMEOUT, "took longer than"),
    ],
)
async def test_an_answer_that_is_no_number_is_unknown_and_says_how_to_mend_it(
    shop: Shop, sql: str, reason: Reason, words: str
) -> None:
    probe = await open_probe(shop, backlogQuery=sql)
    with pytest.raises(SignalUnavailable) as refused:
        await take_sample(probe)
    assert refused.value.reason is reason
    assert str(refused.value).startswith("queue.postgres.custom.backlogQuery")
    assert words in str(refused.value)
    assert shop.run("SELECT count(*) AS rows FROM outbox") == [{"rows": 0}]


async def test_a_row_of_a_clock_that_is_ahead_is_no_time_old(shop: Shop) -> None:
    """As is one that was committed after the probe's transaction began, which is the time of its now()."""
    probe = await open_probe(shop)
    shop.run("INSERT INTO outbox (made_at) VALUES (now() + interval '3 s')")
    sample = await take_sample(probe)
    assert (sample.lag_seconds, sample.backlog, sample.early_seconds) == (0.0, 1, 0.0)
    shop.run("UPDATE outbox SET made_at = now() + interval '1 h'")
    assert (await take_sample(probe)).early_seconds == pytest.approx(3600, abs=5)


async def test_one_bad_answer_does_not_outlast_its_cause(shop: Shop) -> None:
    probe = await open_probe(shop)
    await take_sample(probe)
    shop.run("ALTER TABLE outbox RENAME TO away")
    with pytest.raises(SignalUnavailable, match=r"queue\.postgres\.custom\.lagQuery"):
        await take_sample(probe)
    shop.run("ALTER TABLE away RENAME TO outbox")
    assert (await take_sample(probe)).backlog == 0


async def test_a_percent_sign_needs_no_care_except_beside_the_parameter(shop: Shop) -> None:
    assert (await take_sample(await open_probe(shop, backlogQuery="SELECT 17 % 10 WHERE 'a' LIKE '%a%'"))).backlog == 7
    assert (
        await take_sample(await open_probe(shop, lateBacklogQuery="SELECT 17 %% 10 + 0 * %(target_lag)s"))
    ).late == 7
    with pytest.raises(SignalUnavailable, match="write %% for a percent sign"):
        await take_sample(await open_probe(shop, lateBacklogQuery="SELECT 17 % 10 + %(target_lag)s"))


async def test_a_wrong_password_is_its_own_reason(shop: Shop) -> None:
    target = shop.server.target(Credentials(APPLICATION.username, "wrong"))
    with pytest.raises(PrimaryUnavailable) as refused:
        await shop.postgres().open_queue(target)
    assert refused.value.reason is Reason.PASSWORD_REJECTED


@pytest.mark.parametrize("preset", ["river", "que", "good_job"])
async def test_a_library_that_is_not_supported_yet_is_refused_by_name(shop: Shop, preset: str) -> None:
    spec = PostgresQueue.model_validate({"preset": preset, "queues": ["a"]})
    runner: Any = None
    with pytest.raises(InvalidSpec, match=f"{preset} is not supported yet"):
        PostgresQueueProbes().open(spec, runner)
