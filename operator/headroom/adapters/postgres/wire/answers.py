"""What libpq may read of a server's answers: whole messages of known kinds, bounded in bytes and number."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from headroom.adapters.postgres.wire.messages import (
    HEADER,
    Violation,
    build,
    build_parameter,
    clean_error,
    parse_parameter,
)
from headroom.adapters.postgres.wire.meter import Meter
from headroom.adapters.postgres.wire.records import MOST_RECORDS

MOST_ANSWER_BYTES = 1 << 20
"""Of all messages that answer one request; the largest of ours, one statement for 100 pools, has some 100 KiB."""
MOST_MESSAGES = 4000
"""Of an answer, rows among them: the statements of ours have 1000 rows at most. Each costs some microseconds."""
OWN_ANSWER_BYTES = 128 << 10
"""Of an answer about a server itself, to a guard or a replica's probe: its statements have limits."""
FREE_BYTES = 64 << 10
"""Of an answer; what has come beyond that is counted for the namespace."""
LARGE_BYTES = 256 << 10
"""libpq keeps the room it once made: a connection that had a larger answer is opened again."""
PIECE_MESSAGES = 100
"""Passed on in one turn of the loop: about 0.5 ms."""
MOST_NOTES = 10_000
NOTES_EACH_SECOND = 500
"""Notifications at once, and without end: a library makes one for each item. One costs 3 us, a long one more."""
NOTE_BYTES = 512
"""Each count once more for so many bytes."""
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


def _ignore(_: Violation) -> None:
    return None


def _loop_seconds() -> float:
    return asyncio.get_running_loop().time()


@dataclass(slots=True, eq=False)
class AnswerFilter:
    """Takes what a server sends, piece by piece, and returns what libpq may have.

    Notices are dropped, errors cut, notifications stripped of their text; `hears` is False where none is expected.
    `end` is called to end the connection because there is no room.
    """

    meter: Meter
    namespace: str = ""
    hears: bool = False
    most_bytes: int = MOST_ANSWER_BYTES
    clock: Callable[[], float] = _loop_seconds
    end: Callable[[Violation], None] = _ignore
    largest: int = 0
    """Bytes of the largest answer so far."""
    taken: int = 0
    """Bytes that the meter counts."""
    _bytes: int = 0
    _messages: int = 0
    _passed: int = 0
    """Bytes of this answer that have come and that libpq has."""
    _noted: float = 0.0
    _noted_at: float = 0.0
    _heard: set[bytes] = field(default_factory=set)
    """Channels of notifications in this piece: another one of the same adds nothing."""
    _pending: bytearray = field(default_factory=bytearray)
    _passing: int = 0
    _skipping: int = 0
    _begun: int = 0
    """Messages in this piece."""

    @property
    def most_records(self) -> int:
        """Records of TLS that may carry its messages at once."""
        return MOST_NOTES if self.hears else MOST_RECORDS

    def begin(self) -> None:
        """A request was sent: what follows is its answer."""
        self._bytes = self._messages = self._passed = 0

    def feed(self, data: bytes) -> bytes:
        """What libpq may read of it; raises Violation, after which nothing more may be passed on."""
        passed, at = b"", 0
        while at < len(data):
            piece, count = self.feed_some(data[at:])
            passed, at = passed + piece, at + count
        return passed

    def feed_some(self, data: bytes) -> tuple[bytes, int]:
        """The same of what is in the first messages, and how many bytes these are."""
        passed, at = bytearray(), 0
        self._heard.clear()
        self._begun = 0
        while at < len(data) and self._begun <= PIECE_MESSAGES:
            if self._passing:
                part = data[at : at + self._passing]
                self._pass(part, passed)
                self._passing -= len(part)
                at += len(part)
            elif self._skipping:
                count = min(self._skipping, len(data) - at)
                self._skipping -= count
                at += count
            else:
                at += self._read_message(data, at, passed)
        return bytes(passed), at

    def close(self) -> None:
        """The connection is gone."""
        self.meter.give_back(self)

    def _pass(self, part: bytes | bytearray, passed: bytearray) -> None:
        """Let libpq have a part of an answer, and count it."""
        self._passed += len(part)
        beyond = self._passed - FREE_BYTES - self.taken
        if beyond > 0:
            self.meter.take(self, beyond)
        passed += part

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
        self._begun += 1
        self._count(kind, HEADER + length)
        if length > most:
            raise Violation(f"the server sent a message of {length} bytes where {most} are the most")
        if kind == _NOTICE or (kind == _NOTIFICATION and not self.hears):
            self._skipping = length
            self._pending.clear()
        elif kind not in (_ERROR, _PARAMETER, _NOTIFICATION):
            self._pass(self._pending, passed)
            self._passing = length
            self._pending.clear()
        elif length == 0:
            self._finish(passed)

    def _count(self, kind: int, size: int) -> None:
        """Refuse a message by the length it claims, before any of it is in memory."""
        if kind == _NOTIFICATION and self.hears:
            self._count_note(size)
            return
        self._bytes += size
        self._messages += 1
        if self._bytes > self.most_bytes:
            raise Violation(f"the answer is larger than {self.most_bytes >> 10} KiB")
        if self._messages > MOST_MESSAGES:
            raise Violation(f"the answer has more than {MOST_MESSAGES} rows or other messages")
        self.largest = max(self.largest, self._bytes)

    def _count_note(self, size: int) -> None:
        now = self.clock()
        self._noted = max(0.0, self._noted - NOTES_EACH_SECOND * (now - self._noted_at)) + 1 + size / NOTE_BYTES
        self._noted_at = now
        if self._noted > MOST_NOTES:
            raise Violation(f"more than {MOST_NOTES} notifications at once, or {NOTES_EACH_SECOND} a second")

    def _finish(self, passed: bytearray) -> None:
        kind, body = self._pending[0], bytes(self._pending[HEADER:])
        self._pending.clear()
        if kind == _ERROR:
            self._pass(build(b"E", clean_error(body)), passed)
        elif kind == _PARAMETER:
            found = parse_parameter(body)
            self._pass(build_parameter(*found) if found is not None else b"", passed)
        else:
            # The process that notified, the channel, and no text: which channel is all that is asked.
            channel = body[4:].split(b"\0")[0][:64]
            if channel not in self._heard:
                self._heard.add(channel)
                passed += build(b"A", body[:4].ljust(4, b"\0") + channel + b"\0\0")
