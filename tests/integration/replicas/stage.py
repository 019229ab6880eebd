"""The stage of a failover: two servers that may be the primary, and members that find it by a name."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from headroom.adapters.clock import SystemClock
from headroom.adapters.postgres.server import PsycopgPostgres
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.model.conditions import Finding
from headroom.model.database import Credentials, DatabaseView, Mark, ReplicaProbe
from headroom.model.moments import Moment
from headroom.model.replica import ContainerFacts, MemberId, PodFacts, Role
from headroom.model.timelines import TimelineHistory
from headroom.policy import Outcome
from headroom.policy.replicaset.decide import SetDecision, decide
from headroom.policy.replicaset.facts import Answer, MemberFacts, PrimaryFacts, SetFacts
from headroom.policy.replicaset.memory import SetMemory
from headroom.reasons import Reason
from tests.postgres_server import REPLICATION, Server, ServerMaker

PATIENCE_SECONDS = 60.0
SPEC = ReplicaSetSpec.model_validate(
    {
        "databaseRef": {"name": "store"},
        "image": "postgres:17",
        "storage": {"size": "1Gi"},
        "replicas": 2,
        "standbys": 0,
        "provisioning": {"method": "BaseBackup", "maxSlotWAL": "1Gi"},
    }
)


class OpenFence:
    """This process leads."""

    def check(self, timeout_seconds: float) -> None:
        """Nothing to refuse."""


def eventually(what: str, look: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not look():
        assert time.monotonic() < end, f"not within {PATIENCE_SECONDS:g} s: {what}"
        time.sleep(0.05)


@dataclass
class Name:
    """A name that leads to one server and later to another, as a Service does; `is_cut` leads nowhere."""

    port_of_server: int
    is_cut: bool = False
    _connections: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._spawn(self._accept)

    def _spawn(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)

    def lead_to(self, server: Server | None) -> None:
        """From now on; connections that stand are cut."""
        self.is_cut = server is None
        if server is not None:
            self.port_of_server = server.port
        self.cut()

    def cut(self) -> None:
        while self._connections:
            with contextlib.suppress(OSError):
                self._connections.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.is_cut = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.is_cut:
                    client.close()
                    continue
                with contextlib.suppress(OSError):
                    server = socket.create_connection(("127.0.0.1", self.port_of_server))
                    self._connections += [client, server]
                    for one, other in ((client, server), (server, client)):
                        self._spawn(_pump, one, other)
                    continue
                client.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (sink, source):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    source.close()


@dataclass
class Stage:
    """Two servers that may be the primary, two members, and the name by which each member finds the primary."""

    old: Server
    new: Server
    before: Server
    past: Server
    names: dict[str, Name]
    postgres: PsycopgPostgres
    memory: SetMemory = field(default_factory=SetMemory)
    _is_writing: bool = True

    def write(self) -> None:
        """Rows, as fast as a server takes them, until the end; errors are those of a failover."""
        while self._is_writing:
            with contextlib.suppress(psycopg.Error), self.old.connect() as connection:
                while self._is_writing:
                    connection.execute("INSERT INTO load SELECT generate_series(1, 20)")

    def stop_writing(self) -> None:
        self._is_writing = False

    async def read(self) -> tuple[Mark, TimelineHistory, dict[str, ReplicaProbe]]:
        """What a pass gathers of the new primary and both members."""
        link = await self.postgres.open_primary(self.new.target(), is_observer=True)
        slots = await self.postgres.open_slots(self.new.target(), REPLICATION)
        try:
            position = await link.position()
            history = await slots.read_history(position.system_identifier, position.timeline)
            probes = {"before": await self.probe(self.before), "past": await self.probe(self.past)}
            return position, history, probes
        finally:
            await link.close()
            await slots.close()

    async def probe(self, server: Server) -> ReplicaProbe:
        link = await self.postgres.open_replica(server.target())
        try:
            return await link.probe()
        finally:
            await link.close()

    async def decide(self) -> SetDecision:
        """One pass of the policy over both, which serve."""
        position, history, probes = await self.read()
        link = await self.postgres.open_primary(self.new.target(), is_observer=True)
        try:
            server = await link.identify()
        finally:
            await link.close()
        view = DatabaseView(
            "g",
            is_ready=True,
            finding=Finding(Reason.CONNECTED, ""),
            observed_at=position.taken_at,
            target=self.new.target(),
            replication=Credentials("replication", ""),
            server=server,
        )
        found = tuple(_find(number, name, probe) for number, (name, probe) in enumerate(probes.items()))
        clock = SystemClock()
        now = Moment(clock.monotonic(), clock.now())
        facts = SetFacts("store", 1, found, PrimaryFacts(view, (position,), history=history), None, template="t")
        outcome: Outcome[SetDecision, SetMemory] = decide(SPEC, facts, self.memory, now)
        self.memory = outcome.memory
        return outcome.decision


def _find(number: int, name: str, probe: ReplicaProbe) -> MemberFacts:
    clock = SystemClock()
    ran = ContainerFacts(is_running=True)
    pod = PodFacts(
        name=name,
        uid=name,
        resource_version="1",
        role=Role.SERVING,
        created_at=clock.now(),
        phase="Running",
        is_ready=True,
        ip="127.0.0.1",
        template="t",
        seed=ContainerFacts(is_done=True, exit_code=0),
        server=ran,
    )
    return MemberFacts(MemberId(number, "a"), name, f"hr_{name}", pod=pod, is_listed=True, reading=Answer(probe))


def make_member(servers: ServerMaker, primary: Server, name: Name, slot: str) -> Server:
    """A standby that finds the primary by a name, and keeps its slot there."""
    primary.sql("SELECT pg_create_physical_replication_slot(%s, true)", [slot])
    member = servers.make_replica(primary, settings={"cluster_name": slot, "hot_standby_feedback": "on"})
    follow(member, name, slot)
    return member


def follow(server: Server, name: Name, slot: str = "") -> None:
    conninfo = f"host=127.0.0.1 port={name.port} user={REPLICATION.username} password={REPLICATION.password}"
    server.sql(f"ALTER SYSTEM SET primary_conninfo = '{conninfo}'")
    server.sql(f"ALTER SYSTEM SET primary_slot_name = '{slot}'")
    server.sql("SELECT pg_reload_conf()")


def is_streaming(server: Server) -> bool:
    return bool(server.sql("SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'"))


def follows(server: Server) -> bool:
    """It streams the new timeline: the new primary sends the old one first, up to the fork."""
    query = "SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming' AND received_tli = 2"
    return bool(server.sql(query))


def positions(server: Server) -> int:
    query = "SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0' AS bytes"
    return int(server.sql(query)[0]["bytes"])
