"""Text from outside: what is shown of it, and which of it is a number."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.text import MAX_TEXT, clean_text, clean_tree, parse_count

ANY_TEXT = st.text(st.characters(exclude_categories=()))
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the queue is late", "the queue is late"),
        ("Jürgen → 東京 😀", "Jürgen → 東京 😀"),
        ("two\nlines\r\n", "two lines  "),
        ("tab\there", "tab here"),
        ("next\x85line\u2028and\u2029more", "next line and more"),
        ("\x1b[31mred\x1b[0m", "�[31mred�[0m"),
        ("\x00\x7f\x9b", "���"),
        ("nogard\u202eevil\u2066x\u2069", "nogard�evil�x�"),
        ("mail\u200bs", "mail�s"),
        ("half \ud800 a pair", "half � a pair"),
    ],
)
def test_what_cannot_be_seen_is_replaced(text: str, shown: str) -> None:
    assert clean_text(text) == shown


@given(ANY_TEXT)
def test_whatever_comes_one_visible_line_of_bounded_length_goes(text: str) -> None:
    shown = clean_text(text, 20)
    assert len(shown) <= 20
    assert not {unicodedata.category(character) for character in shown} & UNSEEN
    assert len(shown.splitlines()) <= 1
    assert clean_text(shown, 20) == shown
    shown.encode()


def test_a_long_text_is_cut() -> None:
    assert clean_text("x" * (2 * MAX_TEXT)) == "x" * (MAX_TEXT - 3) + "..."


def test_all_texts_of_a_status_are_cleaned_their_names_too() -> None:
    found = clean_tree({"a\n": ["b\x00", {"c": "d\t", "n": 1, "t": True, "none": None}], "e": ("f\x1b",)})
    assert found == {"a ": ["b�", {"c": "d ", "n": 1, "t": True, "none": None}], "e": ["f�"]}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("00120", 120),
        ("9" * 18, 999_999_999_999_999_999),
        ("²", None),
        ("1²", None),
        ("٣", None),
        ("", None),
        ("-1", None),
        ("+1", None),
        (" 1", None),
        ("1\n", None),
        ("1_000", None),
        ("9" * 19, None),
        ("1" * 5000, None),
    ],
)
def test_a_count_is_of_plain_digits(text: str, count: int | None) -> None:
    assert parse_count(text) == count


@given(ANY_TEXT)
def test_no_text_is_an_error(text: str) -> None:
    parse_count(text)
