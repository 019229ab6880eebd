"""The records of TLS as they come from a server: whole ones only, and not more of them than answers need."""

import asyncio
from dataclasses import dataclass

from headroom.adapters.postgres.wire.messages import NotPostgres, Violation

RECORD_HEADER = 5
MOST_RECORD = (1 << 14) + (1 << 11)
"""Of a record's content: RFC 5246, section 6.2.3."""
KINDS = range(20, 25)
"""Change of cipher, alert, handshake, data, heartbeat."""
SMALL_BYTES = 1 << 10
"""A record with less data is a small one. PostgreSQL sends up to 8 KiB in one, some proxies 1.2 KiB."""
MOST_RECORDS = 1000
"""Small ones of an answer. One costs some 5 us."""
RECORDS_EACH_SECOND = 500
"""And without end, for a listener: as many as it may hear notifications."""
EMPTY_RECORDS = 10
EMPTY_BYTES = 32
"""A record without data counts for so many, and once more for so many bytes: it tells tickets or changes keys, and one
of 16 KiB may hold 900 tickets."""


class Records:
    """Cuts what comes into records."""

    def __init__(self) -> None:
        self._raw = bytearray()

    def __len__(self) -> int:
        """Bytes that wait."""
        return len(self._raw)

    def add(self, data: bytes) -> None:
        """Data of the server."""
        self._raw += data

    def take(self) -> bytes | None:
        """The next record with its header, None while it is not whole; raises NotPostgres if it is not one of TLS."""
        if len(self._raw) < RECORD_HEADER:
            return None
        size = self._raw[3] << 8 | self._raw[4]
        if self._raw[0] not in KINDS or self._raw[1] != 3 or size > MOST_RECORD:
            raise NotPostgres
        end = RECORD_HEADER + size
        if len(self._raw) < end:
            return None
        record = bytes(self._raw[:end])
        del self._raw[:end]
        return record

    def clear(self) -> None:
        """Forget what waits."""
        self._raw.clear()


@dataclass(slots=True)
class RecordMeter:
    """Counts small records, and forgets them at a rate."""

    most: int = MOST_RECORDS
    _counted: float = 0.0
    _counted_at: float = 0.0

    def begin(self) -> None:
        """A request was sent: what follows is its answer."""
        self._counted = 0.0

    def count(self, size: int, data: int) -> None:
        """One more of so many bytes, with so many bytes of data; raises Violation beyond the bound."""
        if data >= SMALL_BYTES:
            return
        now = asyncio.get_running_loop().time()
        self._counted = max(0.0, self._counted - RECORDS_EACH_SECOND * (now - self._counted_at))
        self._counted_at = now
        self._counted += 1 if data else EMPTY_RECORDS + size / EMPTY_BYTES
        if self._counted > self.most:
            raise Violation(f"more than {self.most} small records of TLS at once, or {RECORDS_EACH_SECOND} a second")
