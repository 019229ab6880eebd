"""Text from outside, such as names, messages of servers and answers: made safe to show, and read as numbers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

MAX_TEXT = 8192
"""Characters of one text in status, an event or a log line: a quarter of what a condition's message may have."""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""Shown in place of what cannot be seen, so that two different names never look the same."""
ELLIPSIS = "..."
_COUNT = re.compile(r"[0-9]{1,18}")


def clean_text(text: str, limit: int = MAX_TEXT) -> str:
    """One line of at most `limit` visible characters.

    Line ends and other white space become spaces; control characters, those that turn the direction of writing or have
    no width, and halves of surrogate pairs become U+FFFD.
    """
    if len(text) > limit:
        text = text[: limit - len(ELLIPSIS)] + ELLIPSIS
    if text.isprintable():
        return text
    return "".join(map(_clean_character, text))


def clean_tree(value: Any, limit: int = MAX_TEXT) -> Any:
    """The same for every text in nested mappings and sequences, their keys too."""
    if isinstance(value, str):
        return clean_text(str(value), limit)
    if isinstance(value, Mapping):
        return {clean_text(str(key), limit): clean_tree(inner, limit) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [clean_tree(inner, limit) for inner in value]
    return value


def parse_count(text: str) -> int | None:
    """A number of ASCII digits that fits 64 bits, else None: `str.isdigit` also accepts superscripts, which `int`
    refuses, and `int` refuses thousands of digits.
    """
    return int(text) if _COUNT.fullmatch(text) else None


def _clean_character(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else REPLACEMENT
