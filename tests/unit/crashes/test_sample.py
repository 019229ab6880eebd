"""One crash of each life, at a place that differs from life to life: what `make check` has time for."""

import zlib

import pytest

from tests.unit.crashes.enumerator import Crash, Life, find_differences
from tests.unit.crashes.lives import LIVES

pytestmark = [pytest.mark.looptime(start=0), pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")]


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.name)
async def test_a_crash_in_the_course_of_a_life_changes_nothing_of_its_end(life: Life) -> None:
    def choose(crashes: list[Crash]) -> list[Crash]:
        return crashes[zlib.crc32(life.name.encode()) % len(crashes) :][:1]

    _, differences = await find_differences(life, choose)
    assert not differences, "\n".join(differences)
