"""A mapping for frozen values: equal to a dict, and changed by nobody."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.frozen import FrozenMap

entries = st.dictionaries(st.text(), st.integers())


@given(entries, entries)
def test_it_is_equal_to_any_mapping_with_its_entries(one: dict[str, int], other: dict[str, int]) -> None:
    frozen = FrozenMap(one)
    assert (frozen == FrozenMap(other), frozen == other) == (one == other, one == other)
    assert frozen == FrozenMap(one.items())
    assert hash(frozen) == hash(FrozenMap(reversed(one.items())))
    assert (dict(frozen), len(frozen)) == (one, len(one))
    assert frozen != list(one)


@given(entries)
def test_a_deep_copy_is_equal(values: dict[str, int]) -> None:
    assert copy.deepcopy(FrozenMap(values)) == values


def test_its_source_may_change_and_it_does_not() -> None:
    source = {"a": 1}
    frozen = FrozenMap(source)
    source["b"] = 2
    assert frozen == {"a": 1}
    assert (frozen["a"], frozen.get("b")) == (1, None)
    with pytest.raises(TypeError):
        frozen["a"] = 2  # type: ignore[index]
    assert repr(frozen) == "FrozenMap({'a': 1})"
