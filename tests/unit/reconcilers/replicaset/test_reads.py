"""What a pass asks the API server: nothing while all is calm, and the object itself before anything is destroyed."""

from collections.abc import Sequence
from typing import Any

import pytest

from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.errors import Conflict, KubeUnavailable
from headroom.model.database import ConnectionTarget, SlotFacts
from headroom.model.replica import ROLE_LABEL
from headroom.ports.clock import Clock
from headroom.ports.kube import CONFIG_MAP, POD, SERVICE, ObjectRef
from headroom.ports.postgres import PrimaryLink
from headroom.reasons import Reason
from tests.manifests import NAMESPACE
from tests.unit.reconcilers.replicaset.test_autoscaling import make_scaling
from tests.unit.reconcilers.replicaset.world import SET, World

MINUTES = 5


async def make_calm(**spec: Any) -> World:
    world = World()
    world.add_set(**spec)
    await world.run(60)
    world.kube.calls.clear()
    return world


@pytest.mark.parametrize("spec", [{}, {"autoscaling": make_scaling()}], ids=["by hand", "autoscaling"])
async def test_a_calm_set_sends_nothing_to_the_api_server(spec: dict[str, Any]) -> None:
    world = await make_calm(**spec)
    await world.run(60 * MINUTES)
    assert world.roles() == ["serving", "standby"]
    assert world.kube.calls == []


async def test_a_set_without_a_guard_is_calm_too() -> None:
    world = await make_calm(databaseRef={"name": "nowhere"})
    await world.run(60 * MINUTES, step=2)
    assert world.kube.calls == []


async def test_sessions_that_move_all_the_time_are_written_every_ten_seconds() -> None:
    world = await make_calm(replicas=2, standbys=0)
    seconds = 0
    while seconds < 60:
        for name in world.serving():
            world.replica(name).sessions = [MemorySession() for _ in range(10 + 7 * (seconds % 9))]
        await world.run(2)
        seconds += 2
    writes = [ref for verb, ref in world.kube.calls if verb == "replace_status"]
    assert 4 <= len(writes) <= 7
    assert len(world.kube.calls) == len(writes)
    assert all(member["sessions"] for member in world.status["members"])


async def test_a_lag_that_moves_all_the_time_is_written_every_ten_seconds() -> None:
    world = await make_calm(replicas=1, standbys=0)
    [name] = world.serving()
    for second in range(30):
        world.replica(name).is_paused = second % 4 > 0
        world.primary.write(1024**2)
        await world.run(2)
    writes = [verb for verb, _ in world.kube.calls]
    assert set(writes) == {"replace_status"}
    assert 4 <= len(writes) <= 7


async def test_a_service_that_somebody_edits_is_put_right_within_a_pass() -> None:
    world = await make_calm()
    service = ObjectRef(SERVICE, NAMESPACE, "store-read")
    world.cluster.edit(service, lambda item: item["spec"].update(selector={"app": "other"}))
    await world.run(3)
    live = world.cluster.read(service)
    assert live is not None
    assert live["spec"]["selector"][ROLE_LABEL] == "serving"
    assert [verb for verb, ref in world.kube.calls if ref == service] == ["apply"]


async def test_what_something_else_keeps_changing_is_written_at_most_every_thirty_seconds() -> None:
    world = await make_calm()
    service = ObjectRef(SERVICE, NAMESPACE, "store-read")
    for _ in range(30):
        world.cluster.edit(service, lambda item: item["spec"].update(ports=[]))
        await world.run(2)
    assert 2 <= [verb for verb, _ in world.kube.calls].count("apply") <= 3


async def test_a_pod_that_changed_since_the_watch_brought_it_is_not_deleted() -> None:
    world = await make_calm()
    [name] = [pod["metadata"]["name"] for pod in world.children(POD) if pod["metadata"]["name"] not in world.serving()]
    ref = ObjectRef(POD, NAMESPACE, name)
    world.cluster.end_pod(ref)
    world.cache.freeze()
    world.cluster.edit(ref, lambda item: item["metadata"]["labels"].update(mark="debug"))
    with pytest.raises(Conflict):
        await world.reconciler.reconcile(world.body)
    assert world.cluster.read(ref) is not None
    world.cache.thaw()
    await world.run(10)
    assert world.roles() == ["serving", "standby"]


async def test_a_watch_that_is_late_labels_nobody_twice() -> None:
    world = await make_calm(replicas=1, standbys=1)
    world.kube.writes.clear()
    world.cache.freeze()
    world.edit_spec(replicas=2)
    await world.run(27)
    patches = [ref for verb, ref in world.kube.writes if verb == "patch" and ref.kind == POD]
    assert len(patches) == 1, "into the Service; the version that the watch has no longer fits"
    assert len(world.serving()) == 2
    world.cache.thaw()
    await world.run(20)
    assert world.roles() == ["serving", "serving", "standby"]


async def test_a_scale_down_waits_while_the_set_itself_cannot_be_read() -> None:
    world = await make_calm(replicas=2, standbys=0)
    world.edit_spec(replicas=1)
    world.kube.faults.fail(
        KubeUnavailable("busy", reason=Reason.KUBE_UNAVAILABLE), verb="get", kind=SET.kind, times=1000
    )
    await world.run(10)
    assert world.roles() == ["serving", "serving"]
    assert world.status["desiredReplicas"] == 1
    world.kube.faults.clear()
    await world.run(30)
    assert world.roles() == ["serving"]


async def test_a_config_that_no_pod_reads_is_read_live_before_it_goes() -> None:
    world = await make_calm(replicas=1, standbys=0)
    world.edit_spec(standbys=1, postgresql={"parameters": {"work_mem": "32MB"}})
    await world.run(60)
    assert len(world.children(CONFIG_MAP)) == 1
    deleted = [ref for verb, ref in world.kube.calls if verb == "delete" and ref.kind == CONFIG_MAP]
    assert [ref for verb, ref in world.kube.calls if verb == "get" and ref in deleted] == deleted


class SlowPrimary:
    """A link whose slots take their time; all else is the link's own."""

    def __init__(self, link: PrimaryLink, clock: Clock) -> None:
        self.link, self.clock = link, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self.link, name)

    async def slots(self, prefix: str) -> Sequence[SlotFacts]:
        await self.clock.sleep(2.0)
        return await self.link.slots(prefix)


class SlowPostgres(MemoryPostgres):
    """Opens such links."""

    async def open_primary(self, target: ConnectionTarget, *, is_observer: bool = False) -> Any:
        return SlowPrimary(await MemoryPostgres.open_primary(self, target, is_observer=is_observer), self.clock)


class SlowWorld(World):
    postgres_class = SlowPostgres


async def test_no_wait_of_ours_is_part_of_a_lag() -> None:
    world = SlowWorld()
    world.add_set(replicas=1, standbys=1)
    await world.run(90)
    assert [member["replayLagSeconds"] for member in world.status["members"]] == [0, 0]
    world.edit_spec(replicas=2)
    await world.run(4)
    assert len(world.serving()) == 2
