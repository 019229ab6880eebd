"""Images and Secrets that the installation does not permit: nothing is made of them, and what serves stays."""

from typing import Any

import pytest

from headroom.api.v1alpha1 import ReplicaSetSpec, parse_spec
from headroom.policy.permitted import Permitted
from headroom.ports.kube import CLAIM, POD, SECRET, ObjectRef
from headroom.reconcilers.replicaset.permission import find_mounted
from tests.controllers import find_all
from tests.manifests import NAMESPACE
from tests.unit.reconcilers.replicaset.world import World
from tests.unit.reconcilers.stepped import GUARD_REF

COMPANY = Permitted(images=("registry.example.com/db/", "postgres"))
EVIL = "evil.example/postgres:17"
TLS = {"certificateSecretRef": {"name": "cloud-admin"}}
LABEL = Permitted(secret_label="headroom.dev/use")


def make_world(permitted: Permitted) -> World:
    class Ruled(World):
        pass

    Ruled.permitted = permitted
    return Ruled()


def label(world: World, *names: str) -> None:
    for name in names:
        world.cluster.edit(
            ObjectRef(SECRET, NAMESPACE, name),
            lambda secret: secret["metadata"].update(labels={"headroom.dev/use": ""}),
        )


def made(world: World) -> list[str]:
    """What was made for the set: pods, claims and slots."""
    return [*world.names(POD), *world.names(CLAIM), *world.slots()]


async def test_an_image_that_is_not_permitted_makes_nothing_and_says_which_are() -> None:
    world = make_world(COMPANY)
    world.add_set(image=EVIL)
    await world.run(8)
    assert made(world) == []
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ImageNotPermitted")
    assert "registry.example.com/db/, postgres" in ready["message"]
    assert world.condition("WarmPoolReady")["reason"] == "ImageNotPermitted"
    world.edit_spec(image="postgres:17")
    await world.run(30)
    assert world.roles() == ["serving", "standby"]


async def test_an_image_that_is_forbidden_later_keeps_its_replicas_and_makes_no_others() -> None:
    world = make_world(COMPANY)
    world.add_set(replicas=1, standbys=1)
    await world.run(30)
    pods = {pod["metadata"]["uid"] for pod in world.children(POD)}
    serving = world.serving()
    for change in ({"image": EVIL}, {"replicas": 2}):
        world.edit_spec(**change)
        await world.run(8)
        assert {pod["metadata"]["uid"] for pod in world.children(POD)} == pods
        assert set(serving) <= set(world.serving())
    images = {c["image"] for pod in world.children(POD) for c in pod["spec"]["containers"]}
    assert images == {"postgres:17"}
    assert world.condition("Ready")["reason"] == "ImageNotPermitted"


async def test_a_replica_that_is_lost_is_not_made_anew_with_a_forbidden_image() -> None:
    world = make_world(COMPANY)
    world.add_set(replicas=1, standbys=1)
    await world.run(30)
    world.edit_spec(image=EVIL)
    await world.run(2)
    world.cluster.remove(ObjectRef(POD, NAMESPACE, world.serving()[0]))
    await world.run(30)
    assert EVIL not in {c["image"] for pod in find_all(world.kube, POD) for c in pod["spec"]["containers"]}
    assert len(world.serving()) == 1, "the standby took over"


@pytest.mark.parametrize("permitted", [Permitted(secret_prefix="store-"), LABEL])
async def test_a_secret_that_is_not_permitted_is_not_mounted(permitted: Permitted) -> None:
    world = make_world(permitted)
    world.set_secret("cloud-admin", **{"tls.crt": "x", "tls.key": "y"})
    label(world, "store-monitor", "store-replication")
    world.add_set(tls=TLS)
    await world.run(8)
    assert made(world) == []
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "SecretNotPermitted")
    assert ready["message"].startswith("spec.tls.certificateSecretRef: Secret cloud-admin may not be used")


async def test_a_label_that_is_added_permits_it_within_seconds() -> None:
    world = make_world(LABEL)
    label(world, "store-monitor", "store-replication")
    world.set_secret("cloud-admin", **{"tls.crt": "x", "tls.key": "y"})
    world.add_set(tls=TLS)
    await world.run(10)
    assert made(world) == []
    label(world, "cloud-admin")
    await world.run(40)
    assert world.roles() == ["serving", "standby"]


@pytest.mark.parametrize("permitted", [Permitted(secret_prefix="none-"), LABEL])
async def test_a_guard_uses_no_login_of_a_secret_that_is_not_permitted(permitted: Permitted) -> None:
    world = make_world(permitted)
    world.add_set()
    await world.run(10)
    found = world.find_condition(GUARD_REF, "Ready")
    assert (found["status"], found["reason"]) == ("False", "SecretNotPermitted")
    assert world.postgres.opened == []
    assert made(world) == []


async def test_a_secret_that_is_ruled_out_by_its_name_is_not_even_read() -> None:
    world = make_world(Permitted(secret_prefix="none-"))
    world.add_set()
    await world.run(10)
    assert SECRET not in {ref.kind for _, ref in [*world.kube.calls, *world.guard_kube.calls]}


async def test_a_guard_that_names_another_secret_in_between_gets_no_pod_with_it() -> None:
    """The set sees the guard's object before the guard has read the Secret that it names now."""
    world = make_world(Permitted(secret_prefix="store-"))
    world.add_set(replicas=1, standbys=0)
    await world.run(30)
    world.stop_guards()
    world.set_secret("cloud-admin", username="a", password="b")
    world.cluster.edit(
        GUARD_REF,
        lambda guard: guard["spec"]["connection"].update(replicationSecretRef={"name": "cloud-admin"}),
    )
    world.edit_spec(replicas=2)
    await world.run(2)
    assert mounted(world) <= {"store-replication"}
    assert world.condition("Ready")["reason"] == "SecretNotPermitted"


def mounted(world: World) -> set[str]:
    volumes: list[dict[str, Any]] = [v for pod in find_all(world.kube, POD) for v in pod["spec"]["volumes"]]
    return {volume["secret"]["secretName"] for volume in volumes if "secret" in volume}


async def test_a_calm_set_asks_nothing_for_a_rule_about_names() -> None:
    world = make_world(Permitted(images=("postgres",), secret_prefix="store-"))
    world.add_set()
    await world.run(40)
    world.kube.calls.clear()
    await world.run(70)
    assert [call for call in world.kube.calls if call[0] != "replace_status"] == []


async def test_each_secret_that_a_pod_mounts_is_one_that_was_checked() -> None:
    """Also one that a later version mounts: it must be added to what is checked."""
    world = World()
    world.set_secret("read-tls", **{"tls.crt": "x", "tls.key": "y"})
    world.add_set(replicas=1, standbys=0, tls={"certificateSecretRef": {"name": "read-tls"}})
    await world.run(10)
    checked = find_mounted(parse_spec(ReplicaSetSpec, world.body), world.read(GUARD_REF))
    assert mounted(world) == {name for name, _ in checked} == {"read-tls", "store-replication"}
