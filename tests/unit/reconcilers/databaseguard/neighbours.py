"""More guards of the same server, beside the one that the world begins with."""

from headroom.adapters.inmemory.postgres_server import MemoryRole, MemoryServer
from tests.manifests import NAMESPACE
from tests.unit.reconcilers.databaseguard.world import GuardWorld, make_guard

FIRST, SECOND = (NAMESPACE, "store"), (NAMESPACE, "second")
BOTH = (FIRST, SECOND)
OTHER = ("other", "theirs")
WAITERS = {"lockWaiters": {"brownout": 2, "overloaded": 4, "emergency": 50}}


def add_second(world: GuardWorld, **spec: object) -> None:
    """A younger guard of the same server, with a login of its own."""
    world.primary.roles["second_monitor"] = MemoryRole("second-password")
    world.set_secret("second-monitor", username="second_monitor", password="second-password")
    connection = {"credentialsSecretRef": {"name": "second-monitor"}, "replicationSecretRef": None}
    world.cluster.seed(make_guard("second", connection=connection, **spec))


def add_foreign(world: GuardWorld, server: MemoryServer | None = None) -> None:
    """A guard of another namespace, for the same server or for one that claims to be it."""
    namespace, name = OTHER
    host = "db.other.svc"
    world.postgres.servers[host, 5432] = server or world.primary
    world.set_secret("store-monitor", namespace, username="monitor", password="monitor-password")
    connection = {"host": "db", "replicationSecretRef": None}
    world.cluster.seed(make_guard(name, namespace, connection=connection))


def twin_of(server: MemoryServer, host: str) -> MemoryServer:
    """A server that claims the identity of another."""
    return MemoryServer(
        host, roles=server.roles, system_identifier=server.system_identifier, started_at=server.started_at
    )
