"""A DatabaseGuard over a real server: ready, precise when it is not, and ready again by itself."""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from headroom.adapters.clock import SystemClock
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cache import MemoryCache
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.inmemory.queues import MemoryQueueProbes
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.model.database import Credentials, DatabaseView
from headroom.policy.replicaset.replay_lag import ReplayLag, measure_replay_lag
from headroom.ports.kube import DATABASE_GUARD, SECRET, ObjectRef
from headroom.ports.postgres import Postgres
from headroom.reconcilers.context import Services
from headroom.reconcilers.databaseguard import GuardReconciler
from headroom.reconcilers.reporter import StatusReporter
from headroom.reconcilers.servers import GuardLinks, Servers
from tests.postgres_server import DATABASE, MONITOR, REPLICATION, Server, ServerMaker

RECOVERY_SECONDS = 6.0
"""What a person may have to wait for after the cause is gone, this machine's load included."""
LONGEST_PASS_SECONDS = 5.0
WELL = "TLSWeak"
"""The reason of a guard that has nothing worse to remark than its connection without TLS."""
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
    """The reconciler with its level loop played by a task for each guard."""

    def __init__(self, postgres: Postgres, server: Server, *, port: int | None = None, **spec: Any) -> None:
        self.clock, self.telemetry = SystemClock(), MemoryTelemetry()
        self.servers = Servers(self.clock)
        self.kube = MemoryKube(clock=self.clock)
        self.cluster = Cluster(self.kube)
        self.passes: list[float] = []
        self.port = port or server.port
        self.reconciler = GuardReconciler(
            Services(
                kube=self.kube,
                cache=MemoryCache(self.kube.store),
                postgres=postgres,
                probes=MemoryQueueProbes(),
                clock=self.clock,
                telemetry=self.telemetry,
                reporter=StatusReporter(self.kube, self.clock, DATABASE_GUARD),
                servers=self.servers,
                install_id="0123abcd",
            )
        )
        self._tasks: dict[ObjectRef, asyncio.Task[None]] = {}
        self.add("store", MONITOR, replicationSecretRef={"name": "replication"}, **spec)

    def add(self, name: str, login: Credentials, **connection: Any) -> None:
        """One more guard of the same server, with a login of its own."""
        logins = {f"{name}-monitor": login, "replication": REPLICATION}
        for secret, credentials in logins.items():
            if self.cluster.read(ObjectRef(SECRET, "shop", secret)) is None:
                metadata = {"name": secret, "namespace": "shop"}
                self.cluster.seed({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {}})
                self.set_login(secret, credentials.username, credentials.password)
        fixed = {
            "host": "127.0.0.1",
            "port": self.port,
            "database": DATABASE,
            "tls": {"mode": "disable"},
            "credentialsSecretRef": {"name": f"{name}-monitor"},
        }
        guard = {
            "apiVersion": DATABASE_GUARD.api_version,
            "kind": DATABASE_GUARD.name,
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"connection": {**fixed, **connection}},
        }
        self.cluster.seed(guard)
        ref = ObjectRef(DATABASE_GUARD, "shop", name)
        self._tasks[ref] = asyncio.create_task(self._loop(ref))

    def set_login(self, name: str, username: str, password: str) -> None:
        data = {
            key: base64.b64encode(value.encode()).decode()
            for key, value in (("username", username), ("password", password))
        }
        self.cluster.edit(ObjectRef(SECRET, "shop", name), lambda secret: secret.update(data=data))

    async def _loop(self, ref: ObjectRef) -> None:
        while True:
            body = self.cluster.read(ref)
            assert body is not None
            began = time.monotonic()
            pause = await self.reconciler.reconcile(body)
            self.passes.append(time.monotonic() - began)
            await asyncio.sleep(pause.total_seconds())

    @property
    def status(self) -> dict[str, Any]:
        return self.status_of("store")

    def status_of(self, name: str) -> dict[str, Any]:
        body = self.cluster.read(ObjectRef(DATABASE_GUARD, "shop", name))
        assert body is not None
        return dict(body.get("status", {}))

    @property
    def ready(self) -> tuple[str, str]:
        return self.ready_of("store")

    def ready_of(self, name: str) -> tuple[str, str]:
        for entry in self.status_of(name).get("conditions", []):
            if entry["type"] == "Ready":
                return entry["status"], entry["reason"]
        return "", ""

    @property
    def view(self) -> DatabaseView:
        found = self.servers.view(("shop", "store"))
        assert found is not None
        return found

    @property
    def links(self) -> GuardLinks:
        found = self.servers.links(("shop", "store"))
        assert found is not None
        return found

    async def becomes(self, status: str, reason: str, *, seconds: float = RECOVERY_SECONDS) -> None:
        await self.until(lambda: self.ready == (status, reason), f"Ready={status} {reason}", seconds=seconds)

    async def until(self, is_true: Callable[[], bool], what: str, *, seconds: float = RECOVERY_SECONDS) -> None:
        end = time.monotonic() + seconds
        while not is_true():
            for task in self._tasks.values():
                if task.done():
                    task.result()
            assert time.monotonic() < end, f"waited {seconds:g} s for {what}; status is {self.status}"
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for ref in self._tasks:
            body = self.cluster.read(ref)
            assert body is not None
            await self.reconciler.forget(body["metadata"]["uid"])


@pytest_asyncio.fixture
async def guard(postgres: Postgres, primary: Server) -> AsyncIterator[Guard]:
    made = Guard(postgres, primary)
    yield made
    await made.close()


async def test_it_becomes_ready_and_measures(guard: Guard, primary: Server) -> None:
    await guard.becomes("True", WELL)
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
    await guard.becomes("True", WELL)
    await asyncio.sleep(2)
    marks = [*guard.view.marks, await guard.links.primary.position()]
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
    await guard.becomes("True", WELL)
    primary.sql(f"ALTER ROLE \"{MONITOR.username}\" PASSWORD 'rotated'")
    primary.restart()
    await guard.becomes("False", "PasswordRejected", seconds=15)
    assert not guard.view.is_ready
    guard.set_login("store-monitor", MONITOR.username, "rotated")
    await guard.becomes("True", WELL)
    assert "rotated" not in str(guard.status)


async def test_down_for_a_while_and_back(guard: Guard, primary: Server) -> None:
    await guard.becomes("True", WELL)
    primary.stop()
    await guard.becomes("False", "PrimaryUnreachable")
    await asyncio.sleep(5)
    primary.start()
    await guard.becomes("True", WELL)
    answered = guard.clock.monotonic()
    await guard.until(lambda: guard.view.marks[-1].taken_at > answered, "a fresh mark")


async def test_a_hung_server_holds_no_pass_and_is_named(guard: Guard, primary: Server) -> None:
    await guard.becomes("True", WELL)
    guard.passes.clear()
    primary.freeze()
    try:
        await guard.becomes("False", "PrimaryTimeout", seconds=10)
        await asyncio.sleep(6)
    finally:
        primary.thaw()
    await guard.becomes("True", WELL, seconds=10)
    assert max(guard.passes) < LONGEST_PASS_SECONDS


async def test_a_missing_right_is_named_until_it_is_granted(guard: Guard, primary: Server) -> None:
    await guard.becomes("True", WELL)
    primary.sql(f'REVOKE pg_signal_backend FROM "{MONITOR.username}"')
    await guard.becomes("True", "MissingRight")
    message = next(entry["message"] for entry in guard.status["conditions"] if entry["type"] == "Ready")
    statement = message.split("run: ")[1].split(";")[0]
    assert statement == f'GRANT pg_signal_backend TO "{MONITOR.username}"'
    primary.sql(statement)
    await guard.becomes("True", WELL)


async def test_a_server_that_became_a_standby_is_no_primary(guard: Guard, primary: Server) -> None:
    await guard.becomes("True", WELL)
    primary.stop()
    (primary.data / "standby.signal").touch()
    primary.start()
    await guard.becomes("False", "NotAPrimary", seconds=10)
    primary.sql("SELECT pg_promote()")
    await guard.becomes("True", WELL, seconds=10)
    assert guard.view.server is not None
    assert guard.view.server.timeline == 2


async def test_another_server_at_the_same_address_is_held(guard: Guard, primary: Server, servers: ServerMaker) -> None:
    await guard.becomes("True", WELL)
    primary.stop()
    other = servers.make_anew(port=primary.port)
    await guard.becomes("False", "PrimaryReplaced", seconds=10)
    found = other.sql("SELECT system_identifier::text AS id FROM pg_control_system()")[0]["id"]
    annotation = {"headroom.dev/accept-system-identifier": found}
    guard.cluster.edit(REF, lambda item: item["metadata"].update(annotations=annotation))
    await guard.becomes("True", WELL, seconds=10)
    assert guard.status["systemIdentifier"] == found


async def test_a_service_that_moved_is_followed_though_the_old_primary_still_answers(
    postgres: Postgres, primary: Server, servers: ServerMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headroom.adapters.postgres.server.PROBES_MAX_AGE_SECONDS", 1.0)
    replica = servers.make_replica(primary)
    switch = Switch(primary.port)
    guard = Guard(postgres, primary, port=await switch.start())
    try:
        await guard.becomes("True", WELL)
        await guard.until(lambda: bool(guard.view.marks), "a mark")
        replica.sql("SELECT pg_promote()")
        switch.target = replica.port
        await guard.until(
            lambda: bool(guard.view.marks) and guard.view.marks[-1].timeline == 2,
            "marks of the new primary",
            seconds=15,
        )
        await guard.becomes("True", WELL)
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'headroom/%'"
        assert primary.sql(count)[0]["count"] == 0, "nothing is left on the old one"
    finally:
        await guard.close()
        await switch.close()


async def test_the_lock_follows_the_probes_to_another_server(
    postgres: Postgres, primary: Server, servers: ServerMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a timed canary nothing else tells that the guard's own connection stayed at the old primary."""
    monkeypatch.setattr("headroom.adapters.postgres.server.PROBES_MAX_AGE_SECONDS", 0.2)
    replica = servers.make_replica(primary)
    switch = Switch(primary.port)
    link = await postgres.open_primary(primary.target(port=await switch.start()))
    try:
        assert (await link.identify()).has_installation_lock
        replica.sql("SELECT pg_promote()")
        switch.target = replica.port
        await asyncio.sleep(0.5)
        facts = await link.identify()
        assert (facts.timeline, facts.has_installation_lock) == (2, True)
    finally:
        await link.close()
        await switch.close()


async def test_its_slots_link_reserves_and_drops(guard: Guard) -> None:
    await guard.becomes("True", WELL)
    slots, link = guard.links.slots, guard.links.primary
    assert slots is not None
    await slots.ensure_slot("hr_a")
    assert [slot.name for slot in await link.slots("hr_")] == ["hr_a"]
    assert await slots.drop_slot("hr_a")


async def test_four_connections_in_all_and_none_after_it_is_forgotten(guard: Guard, primary: Server) -> None:
    await guard.becomes("True", WELL)
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'headroom/%'"
    assert primary.sql(count)[0]["count"] == 4, "canary, guard, probes; slots with a login of its own"
    await guard.close()
    end = time.monotonic() + 5
    while primary.sql(count)[0]["count"]:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def test_a_second_guard_adds_one_connection_for_its_login_and_takes_over(guard: Guard, primary: Server) -> None:
    primary.sql("CREATE ROLE second_monitor LOGIN PASSWORD 'second' IN ROLE pg_monitor, pg_signal_backend")
    await guard.becomes("True", WELL)
    guard.add("second", Credentials("second_monitor", "second"))
    await guard.until(lambda: guard.ready_of("second")[0] == "True", "the second guard's Ready")
    await guard.becomes("True", "SharedInstance")
    by_role = (
        "SELECT usename AS login, split_part(application_name, '/', 2) AS role FROM pg_stat_activity"
        " WHERE application_name LIKE 'headroom/%' AND usename = 'second_monitor' ORDER BY 2"
    )
    assert [row["role"] for row in primary.sql(by_role)] == ["probes"]
    assert guard.status_of("second")["connections"]["budget"] == guard.status["connections"]["budget"]
    primary.sql(f'ALTER ROLE "{MONITOR.username}" NOLOGIN')
    terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
    primary.sql(terminate, [MONITOR.username])
    await guard.until(lambda: guard.ready[0] == "False", "the first guard's failure")
    await guard.until(lambda: len(primary.sql(by_role)) == 3, "canary and lock of the second")
    answered = guard.clock.monotonic()
    view = guard.servers.view
    await guard.until(lambda: view(("shop", "second")).marks[-1].taken_at > answered, "marks of the second")
    assert guard.ready_of("second")[0] == "True"
    primary.sql(f'ALTER ROLE "{MONITOR.username}" LOGIN')
    await guard.becomes("True", "SharedInstance", seconds=20)
    await guard.until(lambda: len(primary.sql(by_role)) == 1, "the second to step down")
