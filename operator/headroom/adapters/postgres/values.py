"""Values of answers, bounded: what is read of a row may stay in memory for as long as its object does.

Statements of ours have fixed types and a LIMIT where they return many rows. An answer beyond that is not theirs: it
raises ValueError or TypeError, which `connection` reports as AnswerRefused.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from headroom.errors import PrimaryUnavailable
from headroom.reasons import Reason

WHERE = "the queue's database"
logger = logging.getLogger(__name__)

MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, RecursionError)
"""What comes of an answer with other columns or types than the statement has."""
MOST_NAME = 63
"""Bytes of an identifier: NAMEDATALEN less one, as PostgreSQL is built everywhere."""
MOST_PLAIN, MOST_PLAIN_TEXT, MOST_DEPTH = 1000, 4000, 2
MOST_WHOLE = 2**63
"""Above every bigint. The type of a column is the server's choice: int() of the numeric 1e999999999 takes minutes."""


@contextmanager
def understood(where: str) -> Iterator[None]:
    """Raise PrimaryUnavailable where an answer was not understood."""
    try:
        yield
    except MALFORMED as error:
        raise refuse_answer(where, error) from error


def refuse_answer(where: str, error: Exception) -> PrimaryUnavailable:
    """The error for an answer that was not understood. A hostile server may send one each second, so that the trace is
    only logged for who looks for it.
    """
    logger.debug("%s: an answer was not understood", where, exc_info=error)
    message = f"{where}: the answer was not understood ({type(error).__name__})"
    return PrimaryUnavailable(message, reason=Reason.ANSWER_REFUSED)


def read_text(value: object, most: int = MOST_NAME) -> str:
    """A text, cut to `most` characters."""
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where a text should be")
    return value[:most]


def read_optional_text(value: object, most: int = MOST_NAME) -> str | None:
    """The same; None for NULL."""
    return None if value is None else read_text(value, most)


def read_whole(value: object) -> int:
    """A whole number that a bigint can hold."""
    if not isinstance(value, int) or abs(value) >= MOST_WHOLE:
        raise ValueError(f"{type(value).__name__} where a whole number should be")
    return int(value)


def read_optional_whole(value: object) -> int | None:
    """The same; None for NULL."""
    return None if value is None else read_whole(value)


def read_number(value: object) -> float:
    """A number that a float can hold."""
    if isinstance(value, float) and math.isfinite(value):
        return value
    return float(read_whole(value))


def read_plain(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of numbers, short texts, and arrays of them; parts of it are kept until the next question."""
    for value in row.values():
        _check_plain(value, MOST_DEPTH)
    return row


def _check_plain(value: object, depth: int) -> None:
    if isinstance(value, list) and depth > 0:
        for entry in read_entries(value, MOST_PLAIN):
            _check_plain(entry, depth - 1)
    elif isinstance(value, str):
        if len(value) > MOST_PLAIN_TEXT:
            raise ValueError(f"a text of {len(value)} characters")
    elif value is not None:
        read_number(value)


def read_entries(value: Any, most: int) -> Sequence[Any]:
    """An array of at most so many entries; NULL is an empty one."""
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"{type(value).__name__} where an array of at most {most} entries should be")
    return value
