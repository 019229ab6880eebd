"""What a namespace has for itself goes with its last use, unless it remembers something."""

import asyncio
from dataclasses import dataclass

import pytest

from headroom.adapters.network import Network, Peer
from headroom.adapters.network.dialing import MOST_SLOW, REMEMBERED_SECONDS, SLOW_SECONDS
from headroom.adapters.postgres.wire.contexts import KEPT_SECONDS, Contexts
from headroom.adapters.postgres.wire.scram import KeyDeriver
from headroom.adapters.shares import SWEEP_SECONDS, Shares
from headroom.model.database import ConnectionTarget, Credentials
from headroom.policy.hosts import HostPolicy
from tests.certificates import Authority


@dataclass
class Note:
    until: float = 0.0

    def is_idle(self, now: float) -> bool:
        return now >= self.until


@pytest.mark.looptime(start=0)
async def test_a_share_stays_while_it_is_used_or_remembers() -> None:
    shares = Shares(Note)
    with shares.use("shop") as one:
        with shares.use("shop") as other:
            assert one is other
        assert len(shares) == 1
    assert len(shares) == 0
    with shares.use("shop") as one:
        one.until = 100.0
    assert len(shares) == 1
    await asyncio.sleep(50)
    with shares.use("shop") as other:
        assert one is other
    await asyncio.sleep(max(51, SWEEP_SECONDS))
    with shares.use("another"):
        pass
    assert len(shares) == 0, "nobody came back to it"


@pytest.mark.looptime(start=0)
async def test_a_namespace_that_had_a_thousand_slow_hosts_leaves_nothing() -> None:
    """100 such namespaces, long deleted, kept 43 MiB."""
    network = Network(HostPolicy())

    async def dial(host: str, namespace: str) -> None:
        async with network.turn(Peer(host, 5432, namespace)):
            await asyncio.sleep(SLOW_SECONDS)
            raise TimeoutError

    for number in range(200):
        with pytest.raises(TimeoutError):
            await dial(f"n{number}", "gone")
    with network._gates.use("gone") as gate:
        assert len(gate.slow) == MOST_SLOW
        assert gate.is_slow(("n199", 5432), asyncio.get_running_loop().time())
    await asyncio.sleep(REMEMBERED_SECONDS)
    async with network.turn(Peer("db", 5432, "shop")):
        assert len(network._gates) == 2, "its own, and one that is looked at afterwards"
    assert len(network._gates) <= 1
    async with network.turn(Peer("db", 5432, "shop")):
        pass
    assert len(network._gates) == 0


async def test_namespaces_that_come_and_go_are_not_remembered() -> None:
    network, deriver = Network(HostPolicy()), KeyDeriver()
    for number in range(200):
        async with network.turn(Peer("db", 5432, f"ns{number}")):
            pass
        await network.find_addresses(Peer("10.0.0.7", 5432, f"ns{number}"))
        await deriver.derive("p", b"salt", 1, f"ns{number}")
    assert (len(network._gates), len(deriver._turns)) == (0, 0)


async def test_contexts_that_nobody_uses_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    contexts, loop = Contexts(), asyncio.get_running_loop()
    used = await contexts.get(make_target("busy"))
    for number in range(20):
        await contexts.get(make_target(f"ns{number}"))
    assert len(contexts._shares) == 21
    later = loop.time() + KEPT_SECONDS
    monkeypatch.setattr(loop, "time", lambda: later)
    await contexts.get(make_target("new"))
    assert len(contexts._shares) == 2, "a connection uses the one, and the other is new"
    assert await contexts.get(make_target("busy")) is used


def make_target(namespace: str) -> ConnectionTarget:
    login = Credentials("m", "p")
    ca = AUTHORITY.ca_pem
    return ConnectionTarget("db", 5432, "store", login, tls_mode="verify-full", ca_pem=ca, namespace=namespace)


AUTHORITY = Authority()
