"""What the sessions of a role wait for, as one statement on the server saw it."""

import re
from dataclasses import dataclass

CPU = "CPU"
"""What a session that runs and waits for nothing is counted under."""
LOCK_PREFIX = "Lock:"
LONGEST_STATEMENT = 120
MOST_READ = 4096
"""Characters of a statement that are read: servers are asked for fewer, and one may send more."""
_PARTS = re.compile(
    r"""
    (?P<comment>--[^\n]*|/\*(?:.*\*/|.*\Z))
  | (?P<dollar>\$(?P<tag>[A-Za-z_]\w*|)\$.*?(?:\$(?P=tag)\$|\Z))
  | (?P<escaped>[Ee]'(?:[^'\\]|''|\\.)*(?:'|\Z))
  | (?P<text>(?:[BbXxNn]|[Uu]&)?'(?:[^']|'')*(?:'|\Z))
  | (?P<name>"(?:[^"]|"")*(?:"|\Z))
  | (?P<parameter>\$\d+)
  | (?P<word>[^\W\d]\w*)
  | (?P<number>\.?\d\w*(?:\.\w*)?(?:(?<=[eE])[+-]\d+)?)
    """,
    re.VERBOSE | re.DOTALL,
)
_PLAIN_NAME = re.compile(r'"[A-Za-z_]\w*"')
_LISTS = re.compile(r"\(\s*\?(?:\s*,\s*\?)+\s*\)")
_SPACES = re.compile(r"\s+")
_SETTING = re.compile(r"^(SET\s+(?:LOCAL\s+|SESSION\s+)?[\w.]+\s*(?:=|TO\b)).*", re.IGNORECASE)
"""The value of a setting may be a plain word."""


@dataclass(frozen=True, slots=True)
class Blocker:
    """What holds the lock that most waiting sessions need.

    `statement` is its shape, without any value of it; `is_idle` says that the transaction is open and runs nothing.
    """

    statement: str
    waiters: int
    is_idle: bool = False


@dataclass(frozen=True, slots=True)
class WaitSample:
    """The busy sessions of a role by wait event: `Lock:transactionid`, `IO:DataFileRead`, or CPU; without idle ones.

    `events` is sorted by name. `blocker` is None while nothing waits for a lock, and where it was not asked for.
    """

    events: tuple[tuple[str, int], ...] = ()
    blocker: Blocker | None = None

    @property
    def sessions(self) -> int:
        """Sessions that were in a statement or in an open transaction."""
        return sum(count for _, count in self.events)

    @property
    def lock_waiters(self) -> int:
        """Sessions that wait for a heavyweight lock."""
        return sum(count for name, count in self.events if name.startswith(LOCK_PREFIX))


def describe_statement(query: str) -> str:
    """The shape of a statement: keywords and names, with `?` for each value, and at most 120 characters.

    A statement may be cut off anywhere: what begins as a text and does not end counts as one. Comments go, with all
    between two of them, since they nest and may have values in them. So do names that are not plain words.
    """
    shape = _LISTS.sub("(?)", _PARTS.sub(_replace, query[:MOST_READ]))
    shape = _SETTING.sub(r"\1 ?", _SPACES.sub(" ", shape).strip(" ;"))
    return shape if len(shape) <= LONGEST_STATEMENT else f"{shape[: LONGEST_STATEMENT - 1]}…"


def _replace(found: re.Match[str]) -> str:
    if found["comment"] is not None:
        return " "
    if found["parameter"] is not None or found["word"] is not None:
        return found[0]
    if found["name"] is not None:
        return found[0] if _PLAIN_NAME.fullmatch(found[0]) else "?"
    return "?"
