import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.database import Lsn


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_prints_and_parses_back(position: int) -> None:
    assert Lsn.parse(str(Lsn(position))) == position


def test_prints_as_postgresql_does() -> None:
    assert str(Lsn.parse("16/B374D848")) == "16/B374D848"


def test_difference_is_bytes() -> None:
    assert Lsn.parse("1/0") - Lsn.parse("0/FFFFFFFF") == 1


@pytest.mark.parametrize("text", ["", "16", "x/y"])
def test_refuses_what_is_no_lsn(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Lsn.parse(text)
