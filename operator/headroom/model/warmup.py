"""What a cache holds, as ranges of blocks: read on one replica, and read into the cache of another.

Both are physical copies of one primary: relations have the same oids and files on each.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

RANGE_BLOCKS = 256
"""The longest range, 2 MiB: what is read in one statement, and for how long a lock on the relation is held."""
MOST_RANGES = 8000
"""Of one reading: 16 GiB if each has its full length. They are in memory for as long as the warm-up runs."""
SHARE_OF_BUFFERS = 0.7
"""Of a standby's shared_buffers, at most: the rest is for what its replay touches."""


class BlockRange(NamedTuple):
    """Blocks `first` to `last` of a relation's main fork; `file` is its file node, which changes if it is rewritten."""

    relation: int
    file: int
    first: int
    last: int

    @property
    def blocks(self) -> int:
        """How many there are."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Warmed:
    """A warm-up that has ended: blocks that were read, ranges that were skipped, and how long it took.

    `is_whole`: it came to the end of what was hot, and neither to that of its budget nor to a stop.
    """

    blocks: int = 0
    skipped: int = 0
    seconds: float = 0.0
    is_whole: bool = True


def batch(ranges: Iterable[BlockRange]) -> Iterator[tuple[BlockRange, ...]]:
    """Neighbours in the list that are of one relation, no more blocks together than one range may have."""
    taken: list[BlockRange] = []
    for each in ranges:
        is_other = bool(taken) and (each.relation, each.file) != (taken[0].relation, taken[0].file)
        if is_other or sum(one.blocks for one in taken) + each.blocks > RANGE_BLOCKS:
            if taken:
                yield tuple(taken)
            taken = []
        taken.append(each)
    if taken:
        yield tuple(taken)
