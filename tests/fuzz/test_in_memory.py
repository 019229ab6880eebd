"""Made-up specs, one after the other, through the real reconcilers in memory: refused or a condition, never a crash."""

import pytest

from tests.fuzz.play import FuzzWorld
from tests.fuzz.specs import FIRST, SPECS, build_object

BATCH = 25


@pytest.mark.parametrize("first", range(FIRST, FIRST + SPECS, BATCH))
async def test_a_made_up_spec_is_refused_or_gets_a_condition_and_touches_nothing_of_others(first: int) -> None:
    for number in range(first, min(first + BATCH, FIRST + SPECS)):
        body = build_object(number)
        try:
            world = FuzzWorld(body)
            await world.make_passes()
            world.check()
            await world.tear_down()
        except Exception as error:
            error.add_note(f"object {number}: FUZZ_FIRST={number} FUZZ_SPECS=1 pytest tests/fuzz")
            raise
