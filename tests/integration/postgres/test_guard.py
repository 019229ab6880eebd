"""A DatabaseGuard over a real server: ready, precise when it is not, and ready again by itself."""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from headroom.reconcilers.board import GuardBoard, GuardView

from headroom.adapters.clock import SystemClock
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.policy.replicaset.replay_lag import ReplayLag, measure_replay_lag
from headroom.ports.kube import DATABASE_GUARD, SECRET, ObjectRef
from headroom.ports.postgres import Postgres
from headroom.reconcilers.databaseguard import GuardReconciler, Sweeper
from headroom.reconcilers.reporter import StatusReporter
from tests.postgres_server import DATABASE, MONITOR, REPLICATION, Server, ServerMaker

RECOVERY_SECONDS = 6.0
"""What a person may have to wait for after the cause is gone, this machine's load included."""
LONGEST_PASS_SECONDS = 5.0
REF = ObjectRef(DATABASE_GUARD, "shop", "store")


class Switch:
    """A TCP proxy that stands for a Service: what is open stays where it is, what is new goes to the present target."""

    def __init__(self, port: int) -> None:
        self.target = port
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
        finally:
            sink.close()

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()


class Guard:
    """The reconciler with its level loop played by a task."""

    def __init__(self, postgres: Postgres, server: Server, *, port: int | None = None, **spec: Any) -> None:
        self.clock, self.telemetry, self.board = SystemClock(), MemoryTelemetry(), GuardBoard()
        self.kube = MemoryKube(clock=self.clock)
        self.cluster = Cluster(self.kube)
        self.passes: list[float] = []
        self._seed(port or server.port, spec)
        reporter = StatusReporter(self.kube, self.clock, DATABASE_GUARD)
        sweeper = Sweeper(self.kube, self.clock, self.telemetry, "0123abcd")
        self.reconciler = GuardReconciler(
            self.kube, reporter, postgres, self.clock, self.telemetry, self.board, sweeper
        )
        self._task = asyncio.create_task(self._loop())

    def _seed(self, port: int, spec: dict[str, Any]) -> None:
        for name, login in (("monitor", MONITOR), ("replication", REPLICATION)):
            metadata = {"name": name, "namespace": "shop"}
            self.cluster.seed({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {}})
            self.set_login(name, login.username, login.password)
        connection = {
            "host": "127.0.0.1",
            "port": port,
            "database": DATABASE,
            "tls": {"mode": "disable"},
            "credentialsSecretRef": {"name": "monitor"},
            "replicationSecretRef": {"name": "replication"},
        }
        guard = {
            "apiVersion": DATABASE_GUARD.api_version,
            "kind": DATABASE_GUARD.name,
            "metadata": {"name": "store", "namespace": "shop"},
            "spec": {"connection": connection, **spec},
        }
        self.cluster.seed(guard)

    def set_login(self, name: str, username: str, password: str) -> None:
        data = {
            key: base64.b64encode(value.encode()).decode()
            for key, value in (("username", username), ("password", password))
        }
        self.cluster.edit(ObjectRef(SECRET, "shop", name), lambda secret: secret.update(data=data))

    async def _loop(self) -> None:
        while True:
            body = self.cluster.read(REF)
            assert body is not None
            began = time.monotonic()
            pause = await self.reconciler.reconcile(body)
            self.passes.append(time.monotonic() - began)
            await asyncio.sleep(pause.total_seconds())

    @property
    def status(self) -> dict[str, Any]:
        body = self.cluster.read(REF)
        assert body is not None
        return dict(body.get("status", {}))

    @property
    def ready(self) -> tuple[str, str]:
        for entry in self.status.get("conditions", []):
            if entry["type"] == "Ready":
                return entry["status"], entry["reason"]
        return "", ""

    @property
    def view(self) -> GuardView:
        found = self.board.read("shop", "store")
        assert found is not None
        return found

    async def becomes(self, status: str, reason: str, *, seconds: float = RECOVERY_SECONDS) -> None:
        await self.until(lambda: self.ready == (status, reason), f"Ready={status} {reason}", seconds=seconds)

    async def until(self, is_true: Callable[[], bool], what: str, *, seconds: float = RECOVERY_SECONDS) -> None:
        end = time.monotonic() + seconds
        while not is_true():
            if self._task.done():
                self._task.result()
            assert time.monotonic() < end, f"waited {seconds:g} s for {what}; status is {self.status}"
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        body = self.cluster.read(REF)
        assert body is not None
        await self.reconciler.forget(body["metadata"]["uid"])


@pytest_asyncio.fixture
async def guard(postgres: Postgres, primary: Server) -> AsyncIterator[Guard]:
    made = Guard(postgres, primary)
    yield made
    await made.close()


async def test_it_becomes_ready_and_measures(guard: Guard, primary: Server) -> None:
    await guard.becomes("True", "Connected")
    await guard.until(lambda: guard.status.get("state") == "Healthy", "Healthy", seconds=15)
    status = guard.status
    expected = primary.sql("SELECT system_identifier::text AS id FROM pg_control_system()")[0]["id"]
    assert status["systemIdentifier"] == expected
    assert status["serverVersion"].startswith(str(primary.installation.major))
    assert status["connections"]["usable"] == 40 - 3 - 5
    assert status["commitLatencyMilliseconds"] > 0
    assert [mark.lsn for mark in guard.view.marks] == sorted({mark.lsn for mark in guard.view.marks})


async def test_its_marks_tell_a_replicas_lag(
    guard: Guard, primary: Server, servers: ServerMaker, postgres: Postgres
) -> None:
    replica = servers.make_replica(primary)
    member = await postgres.open_replica(replica.target())
    await guard.becomes("True", "Connected")
    await asyncio.sleep(2)
    link = guard.view.primary
    assert link is not None
    marks = [*guard.view.marks, await link.position()]
    lag = measure_replay_lag(marks, await member.probe(), guard.clock.monotonic())
    assert isinstance(lag, ReplayLag)
    assert lag.seconds < 1, "an idle primary and a replica that streams"
    replica.sql("SELECT pg_wal_replay_pause()")
    await asyncio.sleep(4)
    lag = measure_replay_lag(guard.view.marks, await member.probe(), guard.clock.monotonic(), previous=lag)
    assert isinstance(lag, ReplayLag)
    assert lag.seconds > 1.5
    assert lag.bytes > 0


async def test_a_wrong_password_is_named_and_a_corrected_secret_heals_it(guard: Guard, primary: Server) -> None:
    await guard.becomes("True", "Connected")
    primary.sql(f"ALTER ROLE \"{MONITOR.username}\" PASSWORD 'rotated'")
    primary.restart()
    await guard.becomes("False", "PasswordRejected", seconds=15)
    assert not guard.view.is_ready
    guard.set_login("monitor", MONITOR.username, "rotated")
    await guard.becomes("True", "Connected")
    assert "rotated" not in str(guard.status)


async def test_down_for_a_while_and_back(guard: Guard, primary: Server) -> None:
    await guard.becomes("True", "Connected")
    primary.stop()
    await guard.becomes("False", "PrimaryUnreachable")
    await asyncio.sleep(5)
    primary.start()
    await guard.becomes("True", "Connected")
    answered = guard.clock.monotonic()
    await guard.until(lambda: guard.view.marks[-1].taken_at > answered, "a fresh mark")


async def test_a_hung_server_holds_no_pass_and_is_named(guard: Guard, primary: Server) -> None:
    await guard.becomes("True", "Connected")
    guard.passes.clear()
    primary.freeze()
    try:
        await guard.becomes("False", "PrimaryTimeout", seconds=10)
        await asyncio.sleep(6)
    finally:
        primary.thaw()
    await guard.becomes("True", "Connected", seconds=10)
    assert max(guard.passes) < LONGEST_PASS_SECONDS


async def test_a_missing_right_is_named_until_it_is_granted(guard: Guard, primary: Server) -> None:
    await guard.becomes("True", "Connected")
    primary.sql(f'REVOKE pg_signal_backend FROM "{MONITOR.username}"')
    await guard.becomes("True", "MissingRight")
    message = next(entry["message"] for entry in guard.status["conditions"] if entry["type"] == "Ready")
    statement = message.split("run: ")[1].split(";")[0]
    assert statement == f'GRANT pg_signal_backend TO "{MONITOR.username}"'
    primary.sql(statement)
    await guard.becomes("True", "Connected")


async def test_a_server_that_became_a_standby_is_no_primary(guard: Guard, primary: Server) -> None:
    await guard.becomes("True", "Connected")
    primary.stop()
    (primary.data / "standby.signal").touch()
    primary.start()
    await guard.becomes("False", "NotAPrimary", seconds=10)
    primary.sql("SELECT pg_promote()")
    await guard.becomes("True", "Connected", seconds=10)
    assert guard.view.server is not None
    assert guard.view.server.timeline == 2


async def test_another_server_at_the_same_address_is_held(guard: Guard, primary: Server, servers: ServerMaker) -> None:
    await guard.becomes("True", "Connected")
    primary.stop()
    other = servers.make_anew(port=primary.port)
    await guard.becomes("False", "PrimaryReplaced", seconds=10)
    found = other.sql("SELECT system_identifier::text AS id FROM pg_control_system()")[0]["id"]
    annotation = {"headroom.dev/accept-system-identifier": found}
    guard.cluster.edit(REF, lambda item: item["metadata"].update(annotations=annotation))
    await guard.becomes("True", "Connected", seconds=10)
    assert guard.status["systemIdentifier"] == found


async def test_a_service_that_moved_is_followed_though_the_old_primary_still_answers(
    postgres: Postgres, primary: Server, servers: ServerMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headroom.adapters.postgres.server.PROBES_MAX_AGE_SECONDS", 1.0)
    replica = servers.make_replica(primary)
    switch = Switch(primary.port)
    guard = Guard(postgres, primary, port=await switch.start())
    try:
        await guard.becomes("True", "Connected")
        await guard.until(lambda: bool(guard.view.marks), "a mark")
        replica.sql("SELECT pg_promote()")
        switch.target = replica.port
        await guard.until(
            lambda: bool(guard.view.marks) and guard.view.marks[-1].timeline == 2,
            "marks of the new primary",
            seconds=15,
        )
        await guard.becomes("True", "Connected")
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'headroom/%'"
        assert primary.sql(count)[0]["count"] == 0, "nothing is left on the old one"
    finally:
        await guard.close()
        await switch.close()


async def test_its_slots_link_reserves_and_drops(guard: Guard) -> None:
    await guard.becomes("True", "Connected")
    slots, link = guard.view.slots, guard.view.primary
    assert slots is not None
    assert link is not None
    await slots.ensure_slot("hr_a")
    assert [slot.name for slot in await link.slots("hr_")] == ["hr_a"]
    assert await slots.drop_slot("hr_a")


async def test_four_connections_in_all_and_none_after_it_is_forgotten(guard: Guard, primary: Server) -> None:
    await guard.becomes("True", "Connected")
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'headroom/%'"
    assert primary.sql(count)[0]["count"] == 4, "canary, guard, probes; slots with a login of its own"
    await guard.close()
    end = time.monotonic() + 5
    while primary.sql(count)[0]["count"]:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
