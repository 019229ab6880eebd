"""A primary whose commits wait for our members: it is said at once, and no deletion leaves commits hanging unsaid."""

import pytest

from headroom.model.replica import ABANDON_AFTER
from headroom.ports.kube import POD
from headroom.reasons import Reason
from tests.unit.reconcilers.replicaset.world import SET, World
from tests.unit.reconcilers.stepped import GUARD_REF

REMEDY = "ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf();"


def warnings(world: World) -> list[str]:
    return [
        event.message
        for event in world.telemetry.events
        if event.reason is Reason.WOULD_BECOME_SYNCHRONOUS and event.type_ == "Warning"
    ]


async def make_world() -> World:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    assert world.roles() == ["serving", "standby"]
    assert world.find_condition(GUARD_REF, "Ready")["reason"] != Reason.WOULD_BECOME_SYNCHRONOUS
    return world


async def test_it_is_said_on_set_and_guard_with_what_a_deletion_would_do() -> None:
    world = await make_world()
    world.primary.settings["synchronous_standby_names"] = "*"
    await world.run(20)
    stalled, ready = world.condition("Stalled"), world.find_condition(GUARD_REF, "Ready")
    for condition in (stalled, ready):
        assert (condition["status"], condition["reason"]) == ("True", Reason.WOULD_BECOME_SYNCHRONOUS)
        assert REMEDY in condition["message"]
        assert "hang once they are deleted" in condition["message"]
    assert world.status["reason"] == "Stalled:WouldBecomeSynchronous"
    assert any("Stalled: " in message and REMEDY in message for message in warnings(world))
    assert world.roles() == ["serving", "standby"]


async def test_a_standby_of_the_user_that_begins_as_ours_do_is_not_ours() -> None:
    world = World()
    world.primary.settings["synchronous_standby_names"] = "FIRST 1 (hr_standby1)"
    world.add_set(replicas=1, standbys=1)
    await world.run(60)
    assert world.roles() == ["serving", "standby"]
    assert world.condition("Stalled")["status"] == "False"
    assert world.find_condition(GUARD_REF, "Ready")["reason"] != Reason.WOULD_BECOME_SYNCHRONOUS
    assert await world.delete(60)


@pytest.mark.parametrize("list_", ["ANY 1 (s1,\t*)", "FIRST 2 (s1,\n\t{slot})", '"{slot}"'])
async def test_white_space_and_quotes_hide_no_member_of_ours(list_: str) -> None:
    world = await make_world()
    world.primary.settings["synchronous_standby_names"] = list_.format(slot=world.slots()[0].upper())
    await world.run(20)
    assert world.condition("Stalled")["reason"] == Reason.WOULD_BECOME_SYNCHRONOUS


async def test_a_deletion_holds_until_commits_need_no_member_of_ours() -> None:
    world = await make_world()
    world.primary.settings["synchronous_standby_names"] = "ANY 1 (*)"
    await world.run(20)
    assert not await world.delete(60, step=2)
    assert len(world.children(POD)) == 2
    assert all(slot.is_active for slot in world.primary.slots.values())
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", Reason.DELETING)
    assert REMEDY in ready["message"]
    assert any("its replicas stay for now" in message for message in warnings(world))
    world.primary.settings["synchronous_standby_names"] = ""
    assert await world.delete(60)
    assert not world.primary.slots


@pytest.mark.parametrize("is_abandoned", [False, True])
async def test_a_deletion_never_holds_for_ever(*, is_abandoned: bool) -> None:
    world = await make_world()
    world.primary.settings["synchronous_standby_names"] = "*"
    await world.run(20)
    if is_abandoned:
        annotation = {"headroom.dev/abandon": "true"}
        world.cluster.edit(SET, lambda item: item["metadata"].update(annotations=annotation))
    else:
        assert not await world.delete(ABANDON_AFTER.total_seconds() - 10, step=10)
        assert len(world.children(POD)) == 2
    assert await world.delete(60)
    assert not world.primary.slots, "the primary is well: none has to stay"
    assert Reason.ABANDONED not in world.telemetry.reasons("store")


async def test_the_text_of_the_hold_ends_with_the_command() -> None:
    world = await make_world()
    world.primary.settings["synchronous_standby_names"] = "*"
    await world.run(20)
    assert not await world.delete(10, step=2)
    message = world.condition("Ready")["message"]
    assert message.endswith(f"or run: {REMEDY}")
    assert "for 10 minutes at most or until it is annotated with headroom.dev/abandon=true" in message


async def test_a_guard_without_sets_says_nothing_of_standbys() -> None:
    world = World()
    world.primary.settings["synchronous_standby_names"] = "*"
    for _ in range(30):
        await world.pass_time(1)
    assert world.find_condition(GUARD_REF, "Ready")["reason"] == Reason.CONNECTED
