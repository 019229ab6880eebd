"""TLS of replicas that a running set gets: pods from before run on, and are reached as they were started."""

from headroom.ports.kube import POD, ObjectRef
from headroom.reasons import Reason
from tests.manifests import NAMESPACE
from tests.unit.reconcilers.replicaset.world import World

TLS = {"certificateSecretRef": {"name": "store-read-tls"}}


async def make_calm(**spec: object) -> World:
    world = World()
    world.add_set(**spec)
    await world.run(40)
    return world


async def test_enabling_tls_and_a_change_of_leader_keep_all_serving() -> None:
    world = await make_calm(replicas=3, standbys=0)
    serving = world.serving()
    world.edit_spec(tls=TLS)
    await world.run(5)
    world.restart()
    for _ in range(30):
        await world.run(1)
        assert world.serving() == serving
    assert world.condition("Ready")["status"] == "True"
    assert Reason.MEMBER_UNREACHABLE not in world.telemetry.reasons("store")


async def test_with_a_standby_the_members_are_swapped_for_ones_with_tls() -> None:
    world = await make_calm(replicas=2, standbys=1)
    world.edit_spec(tls=TLS)
    await world.run(5)
    world.restart()
    for _ in range(60):
        await world.run(2)
        assert len(world.serving()) >= 2
    servers = [world.replica(pod["metadata"]["name"]) for pod in world.children(POD)]
    assert [server.has_tls for server in servers] == [True, True, True]


async def test_a_standby_of_an_older_template_that_cannot_be_reached_is_made_anew_on_its_claim() -> None:
    world = await make_calm(replicas=1, standbys=1)
    [name] = {pod["metadata"]["name"] for pod in world.children(POD)} - set(world.serving())
    ref = ObjectRef(POD, NAMESPACE, name)
    uid = world.read(ref)["metadata"]["uid"]
    world.replica(name).is_hung = True
    await world.run(20)
    assert world.read(ref)["metadata"]["uid"] == uid, "another copy of the same pod would be no better"
    world.edit_spec(postgresql={"parameters": {"work_mem": "32MB"}})
    await world.run(4)
    found = world.cluster.read(ref)
    assert found is None or found["metadata"]["uid"] != uid
    world.replica(name).is_hung = False
    await world.run(40)
    assert world.roles() == ["serving", "standby"]
    assert world.condition("WarmPoolReady")["status"] == "True"
