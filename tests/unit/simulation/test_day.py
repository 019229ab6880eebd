"""A whole day of load takes seconds of one processor, so that it can be played before each change."""

import math
import time
from dataclasses import replace

import pytest

from headroom.simulation.run import play_headroom
from tests.unit.simulation.make import make_case, make_shape

DAY = 86_400.0
MOST_CPU_SECONDS = 90.0
"""31 s on the machine of docs/explanation/measurements.md, beside other work: most of it is 17,281 decisions."""


def _rate_of_day(at: float) -> float:
    """2/s at night, 14/s at noon."""
    return 8 - 6 * math.cos(2 * math.pi * at / DAY)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_day_of_load_is_played_in_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.process_time()
    shape = replace(make_shape(14, duration=DAY, start_workers=6, measured_from=600.0), rate=_rate_of_day)
    figures, scaler, world = play_headroom(make_case(shape))
    seconds = time.process_time() - began
    with capsys.disabled():
        print(f"\na day: {world.tally.arrived:,} jobs, {len(scaler.steps):,} passes, {seconds:.1f} s of CPU, {figures}")
    assert world.tally.arrived == pytest.approx(8 * DAY, rel=0.02)
    assert figures.late_seconds == 0
    assert figures.highest_workers <= 1.5 * 14
    assert seconds <= MOST_CPU_SECONDS
