"""The caches of standbys: filled beside the passes, ended when the standby is needed, and off with one sentence."""

import asyncio
from collections.abc import Sequence
from typing import ClassVar

import pytest

from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_server import MemoryRole, MemoryServer
from headroom.adapters.inmemory.postgres_warmup import READS_ALL, MemoryWarmup
from headroom.errors import PrimaryUnavailable
from headroom.model.database import ConnectionTarget, Credentials
from headroom.model.warmup import BlockRange
from headroom.policy.replicaset.warmup import REFRESH_SECONDS, RETRY_SECONDS
from headroom.ports.kube import POD, SECRET, Manifest, ObjectRef
from headroom.ports.postgres import WarmupLink
from headroom.reconcilers.replicaset.metrics import WARMED_BLOCKS
from headroom.reconcilers.replicaset.warmer import Place, fill_cache
from headroom.reconcilers.replicaset.warmup_task import WarmupTask
from tests.manifests import NAMESPACE
from tests.unit.reconcilers.replicaset.world import SET, World
from tests.unit.reconcilers.stepped import GUARD_REF

HOT, FILE, BLOCKS = 16_400, 16_401, 500


class HeldWarmup(MemoryWarmup):
    """Waits in each batch."""

    async def warm(self, ranges: Sequence[BlockRange]) -> int | None:
        await asyncio.Event().wait()
        return await MemoryWarmup.warm(self, ranges)


class HeldPostgres(MemoryPostgres):
    """Links that wait while `is_held`."""

    is_held: ClassVar[bool] = False

    async def open_warmup(self, target: ConnectionTarget) -> WarmupLink:
        link = await MemoryPostgres.open_warmup(self, target)
        assert isinstance(link, MemoryWarmup)
        return HeldWarmup(link.session) if type(self).is_held else link


class WarmWorld(World):
    """A set whose guard has the login for caches; its first member serves."""

    postgres_class = HeldPostgres

    def __init__(self) -> None:
        HeldPostgres.is_held = False
        super().__init__()
        self.primary.roles["warmup"] = MemoryRole("w", rights=frozenset({READS_ALL}))
        self.set_secret("store-warmup", username="warmup", password="w")
        self.cluster.edit(GUARD_REF, self._name_login)

    @staticmethod
    def _name_login(guard: dict[str, dict[str, dict[str, object]]]) -> None:
        guard["spec"]["connection"]["warmupSecretRef"] = {"name": "store-warmup"}

    async def serve(self, **spec: object) -> tuple[MemoryServer, MemoryServer]:
        """A serving member with something hot, and a standby with nothing."""
        self.add_set(replicas=1, standbys=0, **spec)
        await self.run(20)
        source = self.replica(self.serving()[0])
        source.cache.sizes[HOT, FILE] = BLOCKS
        for _ in range(3):
            source.cache.read(HOT, 0, BLOCKS - 1)
        self.edit_spec(standbys=1)
        for _ in range(200):
            await self.one_pass()
            await self.pass_time(0.25)
            if self.roles() == ["serving", "standby"]:
                break
        standby = self.replica(self.standby)
        standby.cache.sizes[HOT, FILE] = BLOCKS
        return source, standby

    @property
    def standby(self) -> str:
        [name] = set(self.names_of_pods()) - set(self.serving())
        return name

    def names_of_pods(self) -> list[str]:
        return [entry["name"] for entry in self.status["members"]]

    @property
    def task(self) -> WarmupTask:
        """The run that fills the standby's cache."""
        return self.reconciler._states[self.body["metadata"]["uid"]].handles.members[self.standby].warmup

    def let_pass(self, seconds: float) -> None:
        """As if the last run had ended so much earlier."""
        assert self.task.ended_at is not None
        self.task.ended_at -= seconds

    @property
    def note(self) -> str:
        return str(self.condition("WarmPoolReady")["message"])


def cached(server: MemoryServer) -> int:
    return len(server.cache.usage)


async def test_what_is_hot_where_readers_are_comes_into_the_standbys_cache_and_again_every_ten_minutes() -> None:
    world = WarmWorld()
    source, standby = await world.serve()
    await world.run(10)
    assert cached(standby) == BLOCKS
    assert source.questions["hot"] == 1
    assert world.telemetry.value(WARMED_BLOCKS, namespace=NAMESPACE, name=SET.name, member=world.standby) == BLOCKS
    assert world.note == "1 standby is warm"
    world.let_pass(REFRESH_SECONDS - 60)
    await world.run(10)
    assert source.questions["hot"] == 1
    world.let_pass(60)
    await world.run(10)
    assert source.questions["hot"] == 2


async def test_no_more_than_its_share_of_the_buffers() -> None:
    world = WarmWorld()
    _, standby = await world.serve()
    standby.cache.buffers = 500
    await world.run(10)
    assert 0 < cached(standby) <= 350


async def test_a_locked_relation_is_skipped_and_the_rest_is_read() -> None:
    world = WarmWorld()
    source, standby = await world.serve()
    source.cache.sizes[HOT + 10, FILE + 10] = standby.cache.sizes[HOT + 10, FILE + 10] = 100
    for _ in range(3):
        source.cache.read(HOT + 10, 0, 99)
    standby.cache.locked.add(HOT)
    await world.run(10)
    assert cached(standby) == 100


async def test_activation_does_not_wait_for_a_run_and_ends_it() -> None:
    world = WarmWorld()
    await world.serve()
    HeldPostgres.is_held = True
    await world.run(4)
    task = world.task
    assert task.state.is_running
    world.edit_spec(replicas=2, standbys=0)
    ended: list[bool] = []
    world.kube.on_write = lambda _: ended.append(task.is_stopping or not task.state.is_running)
    began = world.clock.monotonic()
    await world.one_pass()
    assert world.roles() == ["serving", "serving"]
    assert ended[0], "before the label was written"
    assert world.clock.monotonic() - began < 0.5
    await world.run(2)
    assert not task.state.is_running


async def test_a_run_ends_when_replay_falls_behind_and_comes_back_later() -> None:
    world = WarmWorld()
    source, standby = await world.serve()
    HeldPostgres.is_held = True
    await world.run(4)
    assert source.questions["hot"] == 1
    standby.is_paused = True
    await world.run(8)
    task = world.task
    assert not task.state.is_running
    HeldPostgres.is_held, standby.is_paused = False, False
    world.let_pass(RETRY_SECONDS - 30)
    await world.run(10)
    assert source.questions["hot"] == 1
    world.let_pass(30)
    await world.run(10)
    assert source.questions["hot"] == 2
    assert cached(standby) == BLOCKS


async def test_its_budget_ends_a_run() -> None:
    world = WarmWorld()
    await world.serve(warmup={"budget": "1s"})
    HeldPostgres.is_held = True
    await world.run(4)
    task = world.task
    assert task.state.is_running
    await asyncio.sleep(1.2)  # the budget is of real seconds
    await world.run(3)
    assert task.state.is_done


async def test_without_the_login_nothing_is_asked_and_the_set_says_once_what_to_run() -> None:
    world = WarmWorld()
    world.cluster.edit(GUARD_REF, lambda guard: guard["spec"]["connection"].pop("warmupSecretRef"))
    source, standby = await world.serve()
    await world.run(20)
    assert (cached(standby), source.questions["hot"]) == (0, 0)
    assert "warmup" not in world.postgres.opened
    warm = world.condition("WarmPoolReady")
    assert warm["status"] == "True"
    assert "connection.warmupSecretRef; run headroom-setup.sql with -v warmup=1" in warm["message"]
    assert "warmup.prewarm: false" in warm["message"]
    assert world.condition("Ready")["status"] == "True"
    world.kube.writes.clear()
    await world.run(60)
    assert world.kube.writes == []
    world.edit_spec(warmup={"prewarm": False})
    await world.run(10)
    assert world.note == "1 standby is warm"


async def test_a_missing_secret_an_extension_and_a_wrong_password_are_each_said_with_the_remedy() -> None:
    world = WarmWorld()
    source, standby = await world.serve()
    await world.run(6)
    standby.cache.extensions.clear()
    world.let_pass(REFRESH_SECONDS)
    await world.run(10)
    assert "the database has no extension pg_buffercache" in world.note
    assert world.condition("WarmPoolReady")["status"] == "True"
    standby.cache.extensions |= source.cache.extensions
    world.let_pass(RETRY_SECONDS)
    await world.run(10)
    assert world.note == "1 standby is warm"
    world.cluster.delete(ObjectRef(SECRET, NAMESPACE, "store-warmup"))
    await world.run(70, step=1)
    assert "Secret store-warmup does not exist" in world.note
    world.set_secret("store-warmup", username="warmup", password="wrong")
    world.let_pass(REFRESH_SECONDS)
    await world.run(10)
    assert "password authentication failed" in world.note


async def test_prewarm_false_and_a_paused_set_ask_nothing() -> None:
    world = WarmWorld()
    source, _ = await world.serve(warmup={"prewarm": False})
    await world.run(10)
    world.edit_spec(warmup={"prewarm": True}, mode="Paused")
    await world.run(10)
    assert source.questions["hot"] == 0
    world.edit_spec(mode="Active")
    await world.run(10)
    assert source.questions["hot"] == 1


async def test_a_restarted_server_has_an_empty_cache_and_is_filled_at_once() -> None:
    world = WarmWorld()
    source, standby = await world.serve()
    await world.run(10)
    standby.restart()
    world.cluster.edit(ObjectRef(POD, NAMESPACE, world.standby), count_restart)
    await world.run(6)
    assert cached(standby) == BLOCKS
    assert source.questions["hot"] == 2


def count_restart(pod: Manifest) -> None:
    pod["status"]["containerStatuses"][0]["restartCount"] = 1


@pytest.mark.parametrize("what", ["standby", "source"])
async def test_another_server_at_the_address_is_not_touched(what: str) -> None:
    world = WarmWorld()
    source, standby = await world.serve()
    servers = {"source": source, "standby": standby}
    login = Credentials("warmup", "w")
    places = {
        name: Place(
            server.settings["cluster_name"],
            ConnectionTarget(server.host, 5432, "store", login, "require" if server.has_tls else "disable"),
        )
        for name, server in servers.items()
    }
    servers[what].settings["cluster_name"] = "someone-else"
    with pytest.raises(PrimaryUnavailable, match="someone-else"):
        await fill_cache(world.postgres, world.clock, places["standby"], places["source"], 30.0)
    assert cached(standby) == 0
    assert source.questions["hot"] == 0
