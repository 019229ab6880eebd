"""Which volumes outlive their members under `retention.volumes: Retain`: complete copies, and no failed attempts."""

from typing import Any

from headroom.model.replica import SEEDED_ANNOTATION
from headroom.ports.kube import CLAIM, POD, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.replicaset import metrics
from tests.manifests import NAMESPACE
from tests.unit.reconcilers.replicaset.world import World

RETAIN: dict[str, Any] = {"volumes": "Retain"}


def retained(world: World) -> list[str]:
    """Claims that no set owns any more."""
    return [claim["metadata"]["name"] for claim in world.children(CLAIM) if "ownerReferences" not in claim["metadata"]]


async def make_world(**spec: Any) -> World:
    world = World()
    world.add_set(replicas=1, standbys=1, retention=RETAIN, **spec)
    await world.run(20)
    assert len(world.children(CLAIM)) == 2
    return world


async def test_failed_attempts_are_not_retained() -> None:
    """Without a volume or a copy there is nothing to keep: there would be one more every few minutes."""
    world = World(copies=False)
    world.add_set(replicas=1, standbys=0, retention=RETAIN)
    await world.run(40 * 60, step=30)
    assert world.telemetry.value(metrics.ATTEMPTS_FAILED, namespace=NAMESPACE, name="store", reason="Seeding")
    assert len(world.children(CLAIM)) <= 1
    assert retained(world) == []


async def test_an_attempt_that_fails_after_its_copy_is_not_retained() -> None:
    """The copy is complete and the server never starts: the next attempt makes another copy."""
    world = World(copies=False)
    world.add_set(replicas=1, standbys=0, retention=RETAIN)
    await world.run(5)
    for _ in range(3):
        for pod in world.children(POD):
            ref = ObjectRef(POD, NAMESPACE, pod["metadata"]["name"])
            world.cluster.set_status(
                ref,
                {
                    "phase": "Running",
                    "initContainerStatuses": [{"name": "seed", "state": {"terminated": {"exitCode": 0}}}],
                    "containerStatuses": [
                        {
                            "name": "postgresql",
                            "restartCount": 9,
                            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                            "lastState": {"terminated": {"exitCode": 1, "message": "out of disk"}},
                        }
                    ],
                },
            )
        await world.run(60, step=2)
    assert Reason.POD_FAILING in world.telemetry.reasons("store")
    assert retained(world) == []
    assert len(world.children(CLAIM)) <= 1


async def test_a_member_that_is_scaled_away_leaves_its_volume() -> None:
    world = await make_world()
    world.edit_spec(standbys=0)
    await world.run(60)
    assert len(retained(world)) == 1
    assert len(world.children(POD)) == 1


async def test_a_member_whose_pod_is_gone_when_it_goes_leaves_its_volume() -> None:
    """That it had a copy is on the claim: the pod cannot say it any more."""
    world = await make_world()
    assert all(claim["metadata"]["annotations"][SEEDED_ANNOTATION] == "true" for claim in world.children(CLAIM))
    world.members.copies = False
    for name in world.names(POD):
        world.cluster.remove(ObjectRef(POD, NAMESPACE, name))
    for slot in world.primary.slots.values():
        slot.is_active = False
    world.restart()
    assert await world.delete(60)
    assert len(retained(world)) == 2


async def test_a_set_is_deleted_with_an_attempt_that_failed_under_way() -> None:
    world = World(copies=False)
    world.add_set(replicas=1, standbys=0, retention=RETAIN)
    await world.run(20)
    assert len(world.children(CLAIM)) == 1
    assert await world.delete(60)
    assert world.children(CLAIM) == []
    assert world.slots() == []


async def test_a_set_that_deletes_volumes_writes_nothing_more() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    assert not any(SEEDED_ANNOTATION in claim["metadata"]["annotations"] for claim in world.children(CLAIM))
