"""Guards as members of a server, and who is woken: for tests of the servers without any pass."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from headroom.model.database import ServerFacts
from headroom.policy.databaseguard.identity import ServerId
from headroom.policy.databaseguard.limits import ConnectionLimits
from headroom.policy.databaseguard.membership import Membership
from headroom.ports.kube import WORKER_POOL, ObjectRef

START = datetime(2026, 1, 1, tzinfo=UTC)
SERVER = ServerId("7", START, "10.0.0.7:5432")
FACTS = ServerFacts("7", 170_002, False, 1, None, {}, 0, 0, True, started_at=START)
POOL = ObjectRef(WORKER_POOL, "shop", "mail")


def member(name: str, age: int = 0, namespace: str = "shop", **changes: Any) -> Membership:
    """The younger the higher `age`."""
    made = Membership(
        (namespace, name), f"uid-{name}", f"2026-01-0{1 + age}T00:00:00Z", SERVER, ConnectionLimits(60, 5), 1.0, True
    )
    return replace(made, **changes)


class Woken(list[ObjectRef]):
    def names(self) -> list[str]:
        found = sorted(ref.name for ref in self)
        self.clear()
        return found
