"""What libpq may read of a server's answers: whole messages of known kinds, bounded in bytes and number."""

from dataclasses import dataclass, field

from headroom.adapters.postgres.wire.messages import (
    HEADER,
    Violation,
    build,
    build_parameter,
    clean_error,
    parse_parameter,
)

MOST_ANSWER_BYTES = 1 << 20
"""Of all messages that answer one request; the largest of ours, one statement for 100 pools, has some 100 KiB."""
MOST_MESSAGES = 4000
"""Of an answer, rows among them: the statements of ours have 1000 rows at most. Each costs some microseconds."""
FREE_BYTES = 64 << 10
"""Of an answer; what is beyond is counted for the namespace."""
LARGE_BYTES = 256 << 10
"""libpq keeps the room it once made: a connection that had a larger answer is opened again."""
MOST_NAMESPACE_BYTES = 16 << 20
MOST_PROCESS_BYTES = 48 << 20
"""Held by all connections beyond their free bytes; libpq and Python take about three times as much."""
MOST_DESCRIPTION = 64 << 10
MOST_ERROR = 64 << 10
MOST_SMALL = 8 << 10

_DATA, _ERROR, _NOTICE, _PARAMETER, _NOTIFICATION = b"D"[0], b"E"[0], b"N"[0], b"S"[0], b"A"[0]
_MOST = {
    **dict.fromkeys(b"123nsI", 0),  # parse, bind and close complete, no data, portal suspended, empty query
    b"Z"[0]: 1,
    b"C"[0]: MOST_SMALL,
    b"T"[0]: MOST_DESCRIPTION,
    b"t"[0]: MOST_DESCRIPTION,
    _DATA: MOST_ANSWER_BYTES,
    _ERROR: MOST_ERROR,
    _NOTICE: MOST_ANSWER_BYTES,
    _PARAMETER: MOST_SMALL,
    _NOTIFICATION: MOST_SMALL + 128,
}
"""The longest body of each message that we expect. COPY, a second login and function calls are not among them."""


@dataclass(slots=True)
class Meter:
    """Bytes that answers hold beyond what is free, of one namespace and, by `parent`, of the process."""

    most: int
    parent: "Meter | None" = None
    held: int = 0

    def take(self, amount: int) -> None:
        """Raise Violation if too much is held already."""
        if self.held + amount > self.most:
            raise Violation("large answers of other connections take all the room there is for them")
        if self.parent is not None:
            self.parent.take(amount)
        self.held += amount

    def give_back(self, amount: int) -> None:
        """The connection is gone, and its buffers with it."""
        self.held -= amount
        if self.parent is not None:
            self.parent.give_back(amount)


@dataclass(slots=True)
class AnswerFilter:
    """Takes what a server sends, piece by piece, and returns what libpq may have.

    Notices are dropped, errors cut, notifications stripped of their text; `hears` is False where none is expected.
    """

    meter: Meter
    hears: bool = False
    most_bytes: int = MOST_ANSWER_BYTES
    largest: int = 0
    """Bytes of the largest answer so far."""
    _taken: int = 0
    _bytes: int = 0
    _messages: int = 0
    _heard: set[bytes] = field(default_factory=set)
    """Channels of notifications in this piece: another one of the same adds nothing."""
    _pending: bytearray = field(default_factory=bytearray)
    _passing: int = 0
    _skipping: int = 0

    def begin(self) -> None:
        """A request was sent: what follows is its answer."""
        self._bytes = self._messages = 0

    def feed(self, data: bytes) -> bytes:
        """What libpq may read of it; raises Violation, after which nothing more may be passed on."""
        passed = bytearray()
        self._heard.clear()
        at = 0
        while at < len(data):
            if self._passing:
                part = data[at : at + self._passing]
                passed += part
                self._passing -= len(part)
                at += len(part)
            elif self._skipping:
                count = min(self._skipping, len(data) - at)
                self._skipping -= count
                at += count
            else:
                at += self._read_message(data, at, passed)
        return bytes(passed)

    def close(self) -> None:
        """The connection is gone."""
        self.meter.give_back(self._taken)
        self._taken = 0

    def _read_message(self, data: bytes, at: int, passed: bytearray) -> int:
        """Read into the message that begins or continues at `at`; returns how many bytes of it were taken."""
        wanted = HEADER - len(self._pending)
        if wanted > 0:
            part = data[at : at + wanted]
            self._pending += part
            if len(self._pending) == HEADER:
                self._start(passed)
            return len(part)
        length = HEADER + self._length
        part = data[at : at + length - len(self._pending)]
        self._pending += part
        if len(self._pending) == length:
            self._finish(passed)
        return len(part)

    @property
    def _length(self) -> int:
        return int.from_bytes(self._pending[1:HEADER], "big") - 4

    def _start(self, passed: bytearray) -> None:
        kind, length = self._pending[0], self._length
        most = _MOST.get(kind)
        if most is None or length < 0:
            raise Violation(f"the server sent a message of kind {chr(kind)!a}, which answers nothing that was asked")
        self._count(kind, HEADER + length)
        if length > most:
            raise Violation(f"the server sent a message of {length} bytes where {most} are the most")
        if kind == _NOTICE or (kind == _NOTIFICATION and not self.hears):
            self._skipping = length
            self._pending.clear()
        elif kind not in (_ERROR, _PARAMETER, _NOTIFICATION):
            passed += self._pending
            self._passing = length
            self._pending.clear()
        elif length == 0:
            self._finish(passed)

    def _count(self, kind: int, size: int) -> None:
        """Charge a message by the length it claims, before any of it is in memory."""
        if kind == _NOTIFICATION and self.hears:
            return
        self._bytes += size
        self._messages += 1
        if self._bytes > self.most_bytes:
            raise Violation(f"the answer is larger than {self.most_bytes >> 10} KiB")
        if self._messages > MOST_MESSAGES:
            raise Violation(f"the answer has more than {MOST_MESSAGES} rows or other messages")
        beyond = self._bytes - FREE_BYTES
        if beyond > self._taken:
            self.meter.take(beyond - self._taken)
            self._taken = beyond
        self.largest = max(self.largest, self._bytes)

    def _finish(self, passed: bytearray) -> None:
        kind, body = self._pending[0], bytes(self._pending[HEADER:])
        self._pending.clear()
        if kind == _ERROR:
            passed += build(b"E", clean_error(body))
        elif kind == _PARAMETER:
            found = parse_parameter(body)
            passed += build_parameter(*found) if found is not None else b""
        else:
            # The process that notified, the channel, and no text: which channel is all that is asked.
            channel = body[4:].split(b"\0")[0][:64]
            if channel not in self._heard:
                self._heard.add(channel)
                passed += build(b"A", body[:4].ljust(4, b"\0") + channel + b"\0\0")
