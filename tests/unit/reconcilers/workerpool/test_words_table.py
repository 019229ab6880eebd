"""Case, condition, reason, message: what a person reads of each pool in trouble, beside the file it must equal.

`HEADROOM_UPDATE_GOLDEN=1 pytest tests/unit/reconcilers/workerpool/test_words_table.py` writes the file anew; read each
sentence that changed as somebody on call would.
"""

import os
import re
from pathlib import Path

import pytest

from tests.unit.reconcilers.workerpool import cases, cases_faults
from tests.unit.reconcilers.workerpool.cases import Case
from tests.unit.reconcilers.workerpool.world import POOL, PoolWorld

GOLDEN = Path(__file__).parents[3] / "golden" / "words.txt"
CASES = (*cases.CASES, *cases_faults.CASES)
SHOWN = ("Ready", "KeepingUp", "SignalAvailable", "ScalingLimited", "Effective")
POD = re.compile(r"(?<=pod )mailer-[\w-]+")
IS_UPDATE = os.environ.get("HEADROOM_UPDATE_GOLDEN") == "1"


def title(case: Case) -> str:
    return case.__name__.replace("_", " ")


def describe(world: PoolWorld) -> str:
    """The conditions and the last decision, a line each."""
    lines = []
    for kind in SHOWN:
        entry = world.find_condition(POOL, kind)
        lines.append(f"  {kind}={entry['status']} {entry['reason']}: {entry['message']}")
    found = world.status().get("lastDecision")
    if found:
        limit = f", limit {found['limit']}" if "limit" in found else ""
        counts = f"{found['wanted']} wanted, {found['allowed']} allowed{limit}"
        lines.append(f"  lastDecision {found['reason']} ({counts}): {found['message']}")
    return POD.sub("mailer-0", "\n".join(lines))


def kept() -> dict[str, str]:
    """The file by case."""
    parts = GOLDEN.read_text().strip("\n").split("\n\n") if GOLDEN.exists() else []
    return dict(part.split("\n", 1) for part in parts)


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_the_words_of_a_case_are_as_kept(case: Case) -> None:
    found, words = describe(await case()), kept()
    if IS_UPDATE:
        words[title(case)] = found
        known = [title(one) for one in CASES if title(one) in words]
        GOLDEN.write_text("\n\n".join(f"{name}\n{words[name]}" for name in known) + "\n")
        return
    assert found == words[title(case)]


def test_the_file_holds_each_case_and_no_other() -> None:
    assert list(kept()) == [title(case) for case in CASES]
