"""Every condition type and reason is one CamelCase word, with a meaning and what to do."""

import re

import pytest

from headroom.api.reference import describe
from headroom.model.condition_types import ConditionType
from headroom.reasons import Reason

TEXTS = {**describe(ConditionType), **describe(Reason)}
ACRONYMS = ("CPU", "TLS", "WAL", "DB")


@pytest.mark.parametrize("member", [*ConditionType, *Reason], ids=str)
def test_a_reason_has_a_meaning_and_a_fix(member: ConditionType | Reason) -> None:
    meaning, fix = TEXTS[member]

    assert meaning.endswith(".")
    assert fix.endswith(".")


@pytest.mark.parametrize("member", [*ConditionType, *Reason], ids=str)
def test_a_reason_is_one_camel_case_word(member: ConditionType | Reason) -> None:
    assert re.fullmatch("([A-Z][a-z]*)+", member)


def test_no_value_is_used_twice() -> None:
    for members in (ConditionType, Reason):
        assert len(members) == len(members.__members__)
