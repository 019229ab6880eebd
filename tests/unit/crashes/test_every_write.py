"""The operator dies before and after each of its writes, in each life: the next process reaches the same end."""

import pytest

from tests.unit.crashes.enumerator import Life, find_differences
from tests.unit.crashes.lives import LIVES

# A process that is killed leaves steps that it never began.
pytestmark = [
    pytest.mark.looptime(start=0),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),
    pytest.mark.timeout(600),
]


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.name)
async def test_a_crash_at_any_write_changes_nothing_of_the_end(life: Life) -> None:
    killed, differences = await find_differences(life)
    assert not differences, "\n".join(differences)
    assert killed > 0
