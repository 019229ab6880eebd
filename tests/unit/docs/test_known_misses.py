"""The page of measurements hides no goal that the simulation is known to miss."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "explanation" / "measurements.md"
MISSES = ROOT / "tests" / "unit" / "simulation" / "known_misses.json"
LINE = re.compile(r"^\* ([\w-]+), start delay (\S+) s, target lag (\S+) s: (\w+) ", re.MULTILINE)


def read_page(text: str) -> set[str]:
    """The misses of the page, keyed as the known ones are."""
    return {f"{load}/start-{delay}/target-{lag}/{goal}" for load, delay, lag, goal in LINE.findall(text)}


def test_a_line_of_the_page_is_read_as_the_key_of_its_miss() -> None:
    line = "* race-16, start delay 5 s, target lag 30 s: late 2310.83, the goal is 2308.78\n"
    assert read_page(line) == {"race-16/start-5/target-30/late"}


def test_each_known_miss_is_on_the_page() -> None:
    assert set(json.loads(MISSES.read_text())) <= read_page(PAGE.read_text())
