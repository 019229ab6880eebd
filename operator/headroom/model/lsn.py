"""Positions in PostgreSQL's write-ahead log."""

from typing import Self


class Lsn(int):
    """A byte position in the WAL; prints as PostgreSQL does (`16/B374D848`); differences are bytes."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `high/low` in hexadecimal; raises ValueError for anything else."""
        high, separator, low = text.partition("/")
        if not separator:
            raise ValueError(f"not an LSN: {text!r}")
        return cls((int(high, 16) << 32) | int(low, 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn({self})"
