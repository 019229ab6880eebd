"""The messages of PostgreSQL's protocol 3.0, as far as a client reads and writes them.

Source: the manual's chapter "Frontend/Backend Protocol", sections "Message Formats" and "Message Flow".
"""

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headroom.model.text import clean_text

PROTOCOL = 196608
SSL_REQUEST = struct.pack("!II", 8, 80877103)
CANCEL_CODE = 80877102
HEADER = 5
MOST_TEXT = 1000
"""Bytes of a field of an error that are kept; PostgreSQL's own messages have some 100."""
KEPT_FIELDS = b"SVCMDH"
KEPT_PARAMETERS = frozenset(
    (
        "server_version",
        "server_encoding",
        "client_encoding",
        "application_name",
        "is_superuser",
        "session_authorization",
        "DateStyle",
        "IntervalStyle",
        "TimeZone",
        "integer_datetimes",
        "standard_conforming_strings",
        "in_hot_standby",
        "default_transaction_read_only",
        "scram_iterations",
        "search_path",
    )
)
"""The parameters a server reports by itself; libpq keeps all that it gets, so others are dropped."""


class Violation(Exception):
    """The server broke the protocol or a bound; the message is ours and safe to show."""


class NotPostgres(Violation):
    """What answers does not speak PostgreSQL's protocol; nothing of it is shown."""

    def __init__(self) -> None:
        super().__init__("what answers is not PostgreSQL")


@dataclass(frozen=True, slots=True)
class ServerError:
    """An ErrorResponse: SQLSTATE and message, bounded and without control characters."""

    state: str
    severity: str
    text: str


def build(kind: bytes, body: bytes = b"") -> bytes:
    """One message."""
    return kind + struct.pack("!I", len(body) + 4) + body


def build_startup(parameters: Mapping[str, str]) -> bytes:
    """The first message of a client; raises ValueError for a value that would end early."""
    if any("\0" in part for pair in parameters.items() for part in pair):
        raise ValueError("a connection parameter holds a NUL character")
    pairs = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items())
    body = struct.pack("!I", PROTOCOL) + pairs + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def build_cancel(pid: int, key: bytes) -> bytes:
    """The request to cancel what the session does now."""
    return struct.pack("!IIi", 12 + len(key), CANCEL_CODE, pid) + key


def build_parameter(name: str, value: str) -> bytes:
    """A ParameterStatus."""
    return build(b"S", f"{name}\0{value}\0".encode())


def parse_parameter(body: bytes) -> tuple[str, str] | None:
    """Name and value of a ParameterStatus, or None for one that is not kept."""
    parts = body.split(b"\0")
    name, value = (part.decode(errors="replace") for part in (*parts, b"", b"")[:2])
    if name not in KEPT_PARAMETERS or len(value) > MOST_TEXT:
        return None
    return name, value


def clean(raw: bytes, most: int = MOST_TEXT) -> str:
    """Text of a server: one line, bounded, of characters that can be seen."""
    return clean_text(raw[:most].decode(errors="replace"), most)


def clean_error(body: bytes) -> bytes:
    """The body of an ErrorResponse with the fields that we show."""
    kept = [(kind, clean(text).encode()) for kind, text in _split_fields(body) if kind in KEPT_FIELDS]
    return b"".join(bytes((kind,)) + text + b"\0" for kind, text in kept) + b"\0"


def parse_error(body: bytes) -> ServerError:
    """What an ErrorResponse says; raises Violation for what is none."""
    fields = {chr(kind): clean(text) for kind, text in _split_fields(body)}
    if not {"S", "C", "M"} <= fields.keys() or not re.fullmatch(r"[0-9A-Z]{5}", fields["C"]):
        raise NotPostgres
    detail = f" {fields['D']}" if "D" in fields else ""
    return ServerError(fields["C"], fields.get("V", fields["S"]), f"{fields['S']}:  {fields['M']}{detail}")


def _split_fields(body: bytes) -> Iterable[tuple[int, bytes]]:
    for field in body.split(b"\0"):
        if field:
            yield field[0], field[1:]
