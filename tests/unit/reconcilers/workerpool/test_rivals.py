"""Somebody else sets the count of workers too: a person, an autoscaler, or a second pool."""

from headroom.errors import Conflict
from headroom.ports.kube import HORIZONTAL_POD_AUTOSCALER, ObjectRef
from headroom.reasons import Reason
from tests.manifests import NAMESPACE, make_autoscaler, make_pool
from tests.memory_world import LATE
from tests.unit.reconcilers.workerpool.world import POOL, TARGET, PoolWorld


async def test_an_autoscaler_on_the_target_wins_until_it_is_gone() -> None:
    world = PoolWorld()
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "mailer", "uid": "x", "controller": True}
    world.cluster.seed(make_autoscaler("mailer-hpa", TARGET.name, ownerReferences=[owner]))
    world.queue(**LATE)
    await world.advance(30)
    assert world.asked_for() == 2
    assert world.condition("Ready") == ("False", Reason.TARGET_CONFLICT)
    assert "the ScaledObject mailer scales deployment/mailer too" in world.message("Ready")
    assert world.status()["lastDecision"]["limit"] == "TargetConflict"
    world.cluster.remove(ObjectRef(HORIZONTAL_POD_AUTOSCALER, NAMESPACE, "mailer-hpa"))
    await world.advance(15)
    assert world.condition("Ready")[0] == "True"
    assert world.asked_for() > 2


async def test_of_two_pools_on_one_target_the_younger_stands_back() -> None:
    world = PoolWorld()
    await world.follow_guards()
    await world.clock.advance(60)
    world.cluster.seed(make_pool("younger", TARGET.name))
    world.queue(**LATE)
    younger = ObjectRef(POOL.kind, NAMESPACE, "younger")
    for _ in range(3):
        body = world.cluster.read(younger)
        assert body is not None
        try:
            await world.reconciler.reconcile(body)
        except Conflict:
            continue
    assert world.scale_writes() == 0
    live = world.cluster.read(younger)
    assert live is not None
    ready = next(entry for entry in live["status"]["conditions"] if entry["type"] == "Ready")
    assert ready["reason"] == Reason.TARGET_CONFLICT
    assert "the older WorkerPool mail" in ready["message"]
    await world.make_pass()
    assert world.condition("Ready")[0] == "True"
    older = ObjectRef(POOL.kind, NAMESPACE, "mail")
    world.cluster.edit(older, lambda pool: pool["metadata"].update(finalizers=["headroom.dev/finalizer"]))
    world.cluster.delete(older)
    await world.clock.advance(15)
    body = world.cluster.read(younger)
    assert body is not None
    await world.reconciler.reconcile(body)
    live = world.cluster.read(younger)
    assert live is not None
    ready = next(entry for entry in live["status"]["conditions"] if entry["type"] == "Ready")
    assert ready["status"] == "True", "a pool that is being deleted claims nothing any more"


async def test_a_person_may_change_the_count_once_and_a_rival_makes_us_hold() -> None:
    world = PoolWorld()
    await world.advance(10)
    world.queue(**LATE, in_flight=1)
    await world.advance(5)
    world.scale_by_hand(1)
    await world.advance(5)
    assert world.asked_for() > 1
    assert world.condition("Ready")[0] == "True"
    world.scale_by_hand(1)
    await world.advance(300)
    assert world.asked_for() == 1
    assert world.condition("Ready") == ("False", Reason.TARGET_CONFLICT)
    assert "Remove `replicas` from the manifest in Git" in world.message("Ready")
    held_until = world.status()["scaling"]["heldUntil"]
    assert f"held until {held_until[11:19]} UTC" in world.message("Ready")
    assert "1 present, left alone" in world.message("Ready")
    world.restart()
    await world.advance(200)
    assert world.asked_for() == 1, "a new process keeps the promise"
    await world.advance(150)
    assert world.asked_for() > 1


async def test_a_paused_pool_lets_a_person_scale_by_hand_and_then_goes_on() -> None:
    world = PoolWorld()
    await world.advance(10)
    world.queue(**LATE)
    for _ in range(2):
        await world.advance(5)
        world.scale_by_hand(1)
    await world.advance(5)
    assert world.condition("Ready") == ("False", Reason.TARGET_CONFLICT)
    world.cluster.edit(POOL, lambda pool: pool["spec"].update(mode="Paused"))
    for count in (7, 3):
        world.scale_by_hand(count)
        await world.advance(10)
        assert world.asked_for() == count
    assert world.condition("Ready") == ("True", Reason.PAUSED)
    world.cluster.edit(POOL, lambda pool: pool["spec"].update(mode="Active"))
    await world.advance(10)
    assert world.condition("Ready")[0] == "True"
    assert world.asked_for() > 3
