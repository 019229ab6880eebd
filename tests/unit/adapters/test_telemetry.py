"""Metrics, logs and the loop monitor."""

import asyncio
import io
import json
import logging
import time
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.adapters.telemetry import LoopMonitor, PrometheusTelemetry, configure_logs
from headroom.adapters.telemetry.logs import hide_secrets
from headroom.adapters.telemetry.loop import LOOP_LAG, LOOP_LAG_P99
from headroom.adapters.telemetry.prometheus import KEPT_SECONDS, Registry
from headroom.handlers import build_kopf_settings
from headroom.ports.telemetry import Metric, MetricType, Telemetry, current_subject, working_on

LAG = Metric("test_lag_seconds", MetricType.GAUGE, "Lag.", ("namespace", "name", "queue"))
JOBS = Metric("test_jobs_total", MetricType.COUNTER, "Jobs.", ("namespace", "name"))
TIMES = Metric("test_seconds", MetricType.HISTOGRAM, "Times.", (), (0.1, 1.0))
NEVER = Metric("test_never", MetricType.GAUGE, "Never recorded.", ("namespace", "name"))
METADATA = {"namespace": "shop", "name": "store", "uid": "u-1"}


@pytest.fixture
def telemetry() -> PrometheusTelemetry:
    return PrometheusTelemetry(MemoryClock())


def lines(telemetry: PrometheusTelemetry) -> list[str]:
    text = telemetry.registry.expose()[0].decode()
    return [line for line in text.splitlines() if line.startswith(("test_", "headroom_"))]


class TestMetrics:
    def test_each_type_does_what_it_says(self, telemetry: PrometheusTelemetry) -> None:
        for value in (3.0, 1.0):
            telemetry.record(LAG, value, namespace="shop", name="pool", queue="q")
            telemetry.record(JOBS, value, namespace="shop", name="pool")
            telemetry.record(TIMES, value)
        found = lines(telemetry)
        assert 'test_lag_seconds{name="pool",namespace="shop",queue="q"} 1.0' in found
        assert 'test_jobs_total{name="pool",namespace="shop"} 4.0' in found
        assert {'test_seconds_bucket{le="0.1"} 0.0', 'test_seconds_bucket{le="1.0"} 1.0'} <= set(found)
        assert "test_seconds_count 2.0" in found

    def test_the_build_is_named(self, telemetry: PrometheusTelemetry) -> None:
        assert any(line.startswith("headroom_build_info{") and 'version="' in line for line in lines(telemetry))

    @pytest.mark.parametrize("labels", [{}, {"namespace": "x"}, {"namespace": "x", "name": "y", "more": "z"}])
    def test_wrong_labels_are_counted_and_never_raised(
        self, telemetry: PrometheusTelemetry, labels: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        telemetry.record(JOBS, 1, **labels)
        assert 'headroom_telemetry_errors_total{metric="test_jobs_total"} 1.0' in lines(telemetry)
        assert "test_jobs_total" in caplog.text

    def test_a_counter_that_goes_down_and_a_name_used_twice(self, telemetry: PrometheusTelemetry) -> None:
        telemetry.record(JOBS, -1, namespace="x", name="y")
        telemetry.record(Metric("test_jobs_total", MetricType.GAUGE, "Other."), 1)
        assert 'headroom_telemetry_errors_total{metric="test_jobs_total"} 2.0' in lines(telemetry)

    def test_a_label_is_one_visible_line_of_bounded_length(self, telemetry: PrometheusTelemetry) -> None:
        evil = "mails\n\x1b[2J\u202e" + "x" * 1000
        telemetry.record(LAG, 1, namespace="shop", name="pool", queue=evil)
        [line] = [line for line in lines(telemetry) if line.startswith("test_lag")]
        assert 'queue="mails \ufffd[2J\ufffdxxx' in line
        assert len(line) < 400
        telemetry.forget(LAG, namespace="shop", name="pool", queue=evil)
        assert not [line for line in lines(telemetry) if line.startswith("test_lag")]

    def test_both_are_the_port(self, telemetry: PrometheusTelemetry) -> None:
        ports: list[Telemetry] = [telemetry, MemoryTelemetry()]
        for port in ports:
            port.record(TIMES, 1)
            port.forget(name="nobody")


def series_of(port: PrometheusTelemetry | MemoryTelemetry) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """Name and labels of every series of this module's metrics."""
    if isinstance(port, MemoryTelemetry):
        return {(name, frozenset(labels)) for name, labels in (*port.values, *port.observations)}
    text = port.registry.expose()[0].decode()
    names = {LAG.name: LAG.name, JOBS.name: JOBS.name, f"{TIMES.name}_count": TIMES.name}
    return {
        (names[sample.name], frozenset(sample.labels.items()))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in names
    }


@pytest.mark.parametrize("make", [lambda: PrometheusTelemetry(MemoryClock()), MemoryTelemetry], ids=["real", "memory"])
class TestForgetting:
    """What both telemetries promise alike."""

    @pytest.mark.parametrize(
        ("metrics", "labels", "gone"),
        [
            ((), {"namespace": "shop", "name": "pool"}, {"pool/a", "pool/b", "pool"}),
            ((LAG,), {"namespace": "shop", "name": "pool"}, {"pool/a", "pool/b"}),
            ((LAG,), {"queue": "b", "name": "pool", "namespace": "shop"}, {"pool/b"}),
            ((LAG, JOBS), {"name": "pool"}, {"pool/a", "pool/b", "pool"}),
            ((JOBS,), {"namespace": "shop", "name": "pool"}, {"pool"}),
            ((), {"queue": "a"}, {"pool/a", "other/a"}),
            ((), {}, set()),
            ((LAG,), {}, set()),
            ((TIMES,), {}, set()),
            ((TIMES,), {"namespace": "shop"}, set()),
            ((JOBS,), {"namespace": "shop", "name": "nobody"}, set()),
            ((JOBS,), {"namespace": "pool", "name": "shop"}, set()),
            ((JOBS,), {"namespace": "shop", "queue": "a"}, set()),
            ((NEVER,), {"namespace": "shop", "name": "pool"}, set()),
        ],
    )
    def test_what_is_gone_is_forgotten_and_the_rest_stays(
        self,
        make: Callable[[], PrometheusTelemetry | MemoryTelemetry],
        metrics: tuple[Metric, ...],
        labels: dict[str, str],
        gone: set[str],
    ) -> None:
        port = make()
        known: dict[str, tuple[str, frozenset[tuple[str, str]]]] = {}
        for name in ("pool", "other"):
            about = {"namespace": "shop", "name": name}
            port.record(JOBS, 1, **about)
            known[name] = (JOBS.name, frozenset(about.items()))
            for queue in ("a", "b"):
                port.record(LAG, 1, **about, queue=queue)
                known[f"{name}/{queue}"] = (LAG.name, frozenset({**about, "queue": queue}.items()))
        port.record(TIMES, 1)
        known["times"] = (TIMES.name, frozenset())
        assert series_of(port) == set(known.values())
        port.forget(*metrics, **labels)
        assert series_of(port) == {series for key, series in known.items() if key not in gone}

    def test_what_was_forgotten_starts_from_zero(
        self, make: Callable[[], PrometheusTelemetry | MemoryTelemetry]
    ) -> None:
        port = make()
        for _ in range(2):
            port.record(JOBS, 1, namespace="shop", name="pool")
            port.forget(JOBS, namespace="shop", name="pool")
            port.forget(JOBS, namespace="shop", name="pool")
        assert series_of(port) == set()
        port.record(JOBS, 1, namespace="shop", name="pool")
        assert len(series_of(port)) == 1


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


class TestLogs:
    def test_json_names_the_object(self, stream: io.StringIO) -> None:
        configure_logs("json", "INFO", stream)
        with working_on("ReplicaSet", METADATA):
            logging.getLogger("headroom.x").warning("lag is %d s", 3)
        logging.getLogger("headroom.x").debug("not shown")
        (line,) = stream.getvalue().splitlines()
        found = json.loads(line)
        assert found["ts"].endswith("Z")
        assert (found["level"], found["logger"], found["message"]) == ("warning", "headroom.x", "lag is 3 s")
        assert found["object"] == {"kind": "ReplicaSet", "namespace": "shop", "name": "store", "uid": "u-1"}

    def test_an_exception_stays_on_the_line(self, stream: io.StringIO) -> None:
        configure_logs("json", "INFO", stream)
        try:
            int("password=hunter2")
        except ValueError:
            logging.getLogger("x").exception("failed")
        (line,) = stream.getvalue().splitlines()
        assert "ValueError" in json.loads(line)["exception"]
        assert "hunter2" not in line
        assert "object" not in json.loads(line)

    def test_text_is_for_people(self, stream: io.StringIO) -> None:
        configure_logs("text", "INFO", stream)
        with working_on("ReplicaSet", METADATA):
            logging.getLogger("x").info("ready, password=hunter2")
        assert stream.getvalue().endswith("INFO    ReplicaSet shop/store: ready, password=***\n")

    def test_what_kopf_attaches_is_used(self, stream: io.StringIO) -> None:
        configure_logs("json", "INFO", stream)
        reference = {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "p", "uid": None}
        logging.getLogger("kopf.objects").warning("x", extra={"k8s_ref": reference})
        found = json.loads(stream.getvalue())["object"]
        assert found == {"kind": "Pod", "namespace": "shop", "name": "p", "uid": ""}

    def test_a_line_has_our_fields_only_and_keeps_letters_as_they_are(self, stream: io.StringIO) -> None:
        configure_logs("json", "INFO", stream)
        attached = {"k8s_skip": True, "settings": build_kopf_settings()}
        logging.getLogger("kopf.objects").warning("Jürgen → %s", {"a": 1}, extra=attached)
        assert "Jürgen → {'a': 1}" in stream.getvalue()
        assert list(json.loads(stream.getvalue())) == ["ts", "level", "logger", "message"]

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"])
    @pytest.mark.parametrize("kind", ["text", "json"])
    def test_a_text_from_outside_makes_no_line_of_its_own(self, stream: io.StringIO, kind: str, end: str) -> None:
        forged = f"no such role{end}2026-01-01T00:00:00.000Z ERROR   DatabaseGuard prod/main: the primary is down"
        configure_logs(kind, "INFO", stream)
        with working_on("WorkerPool", {"namespace": "shop", "name": f"a{end}b"}):
            logging.getLogger("x").warning("%s", forged)
        assert len(stream.getvalue().splitlines()) == 1
        assert stream.getvalue().endswith("\n")

    @pytest.mark.parametrize("end", ["\n", "\r", "\u2028"])
    @pytest.mark.parametrize("kind", ["text", "json"])
    def test_nor_does_one_in_an_exception(self, stream: io.StringIO, kind: str, end: str) -> None:
        configure_logs(kind, "INFO", stream)
        try:
            int(f"x{end}2026-01-01T00:00:00.000Z ERROR   forged{end}")
        except ValueError:
            logging.getLogger("x").exception("failed")
        first, *others = stream.getvalue().splitlines()
        assert "failed" in first
        assert all(line.startswith("    ") for line in others)
        assert (kind == "json") == (not others)

    @pytest.mark.parametrize("kind", ["text", "json"])
    def test_terminals_and_streams_get_nothing_unseen(
        self, stream: io.StringIO, kind: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure_logs(kind, "INFO", stream)
        logging.getLogger("x").warning("a\x1b[2Jb\u202ec\ud800d\x00")
        assert "a\ufffd[2Jb\ufffdc\ufffdd\ufffd" in stream.getvalue()
        stream.getvalue().encode()
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize("kind", ["text", "json"])
    def test_a_line_is_bounded_and_hides_passwords_all_the_same(self, stream: io.StringIO, kind: str) -> None:
        configure_logs(kind, "INFO", stream)
        logging.getLogger("x").warning("password=hunter2 %s", "x" * 1_000_000)
        assert len(stream.getvalue()) < 10_000
        assert "hunter2" not in stream.getvalue()

    async def test_tasks_do_not_mix_their_objects(self) -> None:
        async def work(name: str) -> str:
            with working_on("ReplicaSet", {"name": name}):
                await asyncio.sleep(0)
                subject = current_subject()
                assert subject is not None
                return subject.name

        assert await asyncio.gather(*(work(str(number)) for number in range(5))) == ["0", "1", "2", "3", "4"]
        assert current_subject() is None

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("host=db password=hunter2 port=5432", "host=db password=*** port=5432"),
            ("password='hun ter' x", "password=*** x"),
            ("postgresql://bob:hunter2@db/app", "postgresql://bob:***@db/app"),
            ('{"password": "hunter2", "a": 1}', '{"password": ***, "a": 1}'),
            ("Token: abc.def", "Token: ***"),
            ("the password was rejected", "the password was rejected"),
            ("http://prometheus:9090/api", "http://prometheus:9090/api"),
            ("http://prometheus:9090/api?token=abc x", "http://prometheus:9090/api?token=*** x"),
            ("a.b-c+1.postgresql://bob:hunter2@db, x://y:z@w", "a.b-c+1.postgresql://bob:***@db, x://y:***@w"),
            (f"{'a' * 99}://bob:hunter2@db", f"{'a' * 99}://bob:***@db"),
            ("password='cut off", "password=***"),
            ('password="cut off', "password=***"),
        ],
    )
    def test_passwords_are_hidden(self, text: str, expected: str) -> None:
        assert hide_secrets(text) == expected

    @pytest.mark.parametrize("kind", ["text", "json"])
    def test_a_password_that_is_cut_off_is_hidden_too(self, stream: io.StringIO, kind: str) -> None:
        configure_logs(kind, "INFO", stream)
        logging.getLogger("x").warning("%s", "password=" + "q" * 9000 + f" postgresql://bob:{'hunter2' * 5000}")
        assert "password=***" in stream.getvalue()
        assert "hunter" not in stream.getvalue()

    @pytest.mark.parametrize(
        "unit",
        ["a.", "a-", "a", "://a:", "://a:b", "a://b:", "password ", 'password "= ', "password='", "token: ", "'\""],
    )
    def test_what_a_line_costs_does_not_grow_faster_than_its_length(self, stream: io.StringIO, unit: str) -> None:
        """200 KB of `a.a.` in an answer of a server held the event loop for 20 s, in one line of the log."""
        configure_logs("json", "INFO", stream)

        def measure(call: Callable[[], object]) -> float:
            began = time.process_time()
            call()
            return time.process_time() - began

        short, long = (min(measure(lambda n=n: hide_secrets(unit * n)) for _ in range(3)) for n in (4_000, 16_000))
        assert long < max(12 * short, 0.02), "four times as much, and a margin for a busy machine"
        text = unit * 200_000
        error = ValueError("\n".join([text] * 3 + [text[:15_000]] * 300))
        took = measure(lambda: logging.getLogger("x").error("%s", text, exc_info=error))
        assert took < 0.5
        assert len(stream.getvalue()) < 100_000


class TestLoopMonitor:
    async def test_it_measures_by_how_much_it_overslept(self) -> None:
        class Late(MemoryClock):
            late = 0.0

            async def sleep(self, seconds: float) -> None:
                await super().sleep(seconds + self.late)

        clock, telemetry = Late(spins=5), MemoryTelemetry()
        monitor = LoopMonitor(clock, telemetry)
        task = asyncio.create_task(monitor.run())
        await clock.advance(10)
        assert monitor.percentile(99) == pytest.approx(0, abs=1e-6)
        clock.late = 0.3
        await clock.advance(3)
        assert monitor.percentile(99) == pytest.approx(0.3)
        assert monitor.percentile(50) == pytest.approx(0, abs=1e-6)
        await clock.advance(20)
        assert telemetry.value(LOOP_LAG_P99) == pytest.approx(0.3)
        assert max(telemetry.observations[LOOP_LAG.name, ()]) == pytest.approx(0.3)
        assert monitor.age_seconds() <= 0.4
        task.cancel()
        await clock.advance(20)
        assert monitor.age_seconds() >= 20


async def test_forty_scrapes_at_once_are_one_exposition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wrote the text in a thread that look-ups of names shared: at 300 pools one waited for 4.9 s."""
    clock = MemoryClock()
    telemetry = PrometheusTelemetry(clock)
    written: list[str] = []
    expose = Registry.expose

    def count(registry: Registry, accept: str = "") -> tuple[bytes, str]:
        written.append(accept)
        time.sleep(0.05)
        return expose(registry, accept)

    monkeypatch.setattr(Registry, "expose", count)
    answers = await asyncio.gather(*(telemetry.exposition.get("text/plain") for _ in range(40)))
    assert len(written) == 1
    assert len({body for body, _ in answers}) == 1
    await telemetry.exposition.get("application/openmetrics-text")
    await telemetry.exposition.get("text/plain")
    assert len(written) == 2, "each format is kept for itself"
    await clock.advance(KEPT_SECONDS + 0.1)
    await telemetry.exposition.get("text/plain")
    assert len(written) == 3
    assert len(telemetry.exposition._written) == 1, "a format that nobody asks for is not kept"
