"""Which slots a guard sweeps, driven without any shell."""

import pytest

from headroom.model.conditions import Finding
from headroom.model.database import SlotFacts
from headroom.model.replica import hash8
from headroom.reasons import Reason
from tests.unit.policy.databaseguard.make import (
    GuardPolicyWorld,
    make_slot,
)

GONE, ALIVE = hash8("gone"), hash8("alive")


class TestSweep:
    """Slots whose set is gone: named once nobody has used them for ten minutes."""

    def world(self, *slots: SlotFacts) -> GuardPolicyWorld:
        world = GuardPolicyWorld()
        world.run(3)
        world.extra = {"is_sweep_due": True, "slots": slots, "live_sets": frozenset({ALIVE})}
        return world

    def sweep(self, *slots: SlotFacts) -> tuple[str, ...]:
        return self.world(*slots).step().sweep

    def test_an_idle_slot_of_a_set_that_is_gone_goes(self) -> None:
        name = f"hr_0123abcd_{GONE}_0_a"
        assert self.sweep(make_slot(name, inactive_seconds=600.0)) == (name,)
        assert self.sweep(make_slot(name, inactive_seconds=599.0)) == ()

    @pytest.mark.parametrize(
        "slot",
        [
            make_slot(f"hr_0123abcd_{GONE}_0_a", is_active=True),
            make_slot(f"hr_0123abcd_{ALIVE}_0_a", inactive_seconds=9000.0),
            make_slot("hr_0123abcd_something_else", inactive_seconds=9000.0),
            make_slot("patroni_1", inactive_seconds=9000.0),
        ],
        ids=["in use", "of a set that is there", "another form", "somebody else's"],
    )
    def test_any_other_slot_is_left(self, slot: SlotFacts) -> None:
        assert self.sweep(slot) == ()

    def test_where_the_server_does_not_tell_we_count_ourselves(self) -> None:
        name = f"hr_0123abcd_{GONE}_0_a"
        world = self.world(make_slot(name))
        assert world.step(599).sweep == ()
        assert world.step(1).sweep == ()
        assert world.step().sweep == (name,)

    def test_use_in_between_begins_the_count_again(self) -> None:
        name = f"hr_0123abcd_{GONE}_0_a"
        world = self.world(make_slot(name))
        world.step(590)
        world.extra["slots"] = (make_slot(name, is_active=True),)
        world.step(60)
        assert world.memory.idle_since == {}
        world.extra["slots"] = (make_slot(name),)
        assert world.step(599).sweep == ()
        assert world.step(1).sweep == ()

    def test_slots_that_could_not_be_read_sweep_nothing_and_forget_nothing(self) -> None:
        world = self.world(make_slot(f"hr_0123abcd_{GONE}_0_a"))
        world.step()
        world.extra["slots"] = None
        assert world.step().sweep == ()
        assert len(world.memory.idle_since) == 1

    def test_a_guard_that_is_not_ready_sweeps_nothing(self) -> None:
        world = self.world(make_slot(f"hr_0123abcd_{GONE}_0_a", inactive_seconds=9000.0))
        world.replication_problem = Finding(Reason.SECRET_NOT_FOUND, "no Secret")
        assert world.step().sweep == ()
        assert world.memory.swept_at is None

    def test_the_next_sweep_is_a_minute_later(self) -> None:
        world = self.world()
        world.step()
        assert world.memory.swept_at == 4.0
