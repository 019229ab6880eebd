"""A slot that the primary creates after nobody waits for it any more, while the set is being deleted."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from headroom.adapters.inmemory.postgres_server import MemoryServer
from headroom.errors import PrimaryUnavailable
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.actions.reserve import LATE_SECONDS
from tests.unit.reconcilers.replicaset.world import World


async def test_a_deletion_waits_for_a_slot_that_may_still_be_created(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.add_set(replicas=1, standbys=0)
    create, late = MemoryServer.create_slot, list[Callable[[], object]]()

    def time_out(*arguments: Any, **options: Any) -> object:
        late.append(lambda: create(*arguments, **options))
        raise PrimaryUnavailable("no answer in time", reason=Reason.PRIMARY_TIMEOUT)

    monkeypatch.setattr(MemoryServer, "create_slot", time_out)
    while not late:
        await world.one_pass()
    assert not await world.delete(LATE_SECONDS - 3)
    for each in late:
        each()
    assert await world.delete(LATE_SECONDS + 5)
    await asyncio.sleep(0)
    assert not world.primary.slots


@pytest.mark.parametrize("reason", [Reason.SLOTS_EXHAUSTED, Reason.PRIMARY_TIMEOUT])
async def test_what_was_asked_for_long_ago_or_refused_is_not_awaited(
    reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, asked = World(), []
    world.add_set(replicas=1, standbys=0)

    def refuse(_: object, name: str, *__: Any, **___: Any) -> object:
        asked.append(name)
        raise PrimaryUnavailable("no", reason=reason)

    monkeypatch.setattr(MemoryServer, "create_slot", refuse)
    await world.run(90)
    assert len(set(asked)) > LATE_SECONDS
    unanswered = world.reconciler._states[world.body["metadata"]["uid"]].handles.unanswered
    assert len(unanswered) <= (0 if reason is Reason.SLOTS_EXHAUSTED else LATE_SECONDS)


async def test_a_deletion_waits_for_nothing_that_was_answered() -> None:
    world = World()
    world.add_set(replicas=1, standbys=0)
    await world.run(10)
    assert world.reconciler._states[world.body["metadata"]["uid"]].handles.unanswered == {}
    assert await world.delete(10)
