"""Log lines, as JSON or as text. Each line names the object it is about and hides passwords.

No text from outside begins a line: what cannot be seen is replaced, and a text log indents an exception.
"""

import logging
import re
import sys
from datetime import UTC, datetime
from logging import LogRecord
from typing import Any, TextIO

from pythonjsonlogger import json

from headroom.model.text import MAX_TEXT, clean_text
from headroom.ports.telemetry import current_subject

PAIRS = re.compile(
    r"(?P<key>\b(?:password|passwd|sslpassword|token|secret)\b[\"']?\s*[=:]\s*)"
    r"(?:'[^']*(?:'|\Z)|\"[^\"]*(?:\"|\Z)|[^\s,;&)]+)",
    re.IGNORECASE,
)
URLS = re.compile(r"(?P<start>://[^\s:/@]+:)[^\s@]+(?P<at>@?)")
"""What may be a password is taken whether or not an @ follows: to give it up and begin again would be quadratic."""
HIDDEN = "***"
MAX_RAW = 2 * MAX_TEXT
"""Of a message, what is searched for passwords at all."""
MAX_EXCEPTION = 4 * MAX_TEXT
"""Characters of an exception, whatever the number of its lines."""
MAX_LINES = 200
INDENT = "    "
# These loggers repeat at INFO what our own lines already say.
QUIET = ("aiohttp.access", "asyncio", "kopf.activities.probe", "kopf.objects")


def hide_secrets(text: str) -> str:
    """Replace what looks like a password in connection strings, URLs and key-value pairs."""
    without_pairs = PAIRS.sub(lambda found: f"{found['key']}{HIDDEN}", text)
    return URLS.sub(lambda found: f"{found['start']}{HIDDEN}@" if found["at"] else found[0], without_pairs)


class JsonFormatter(json.JsonFormatter):
    """One JSON object a line: ts, level, logger, message, object, exception."""

    def __init__(self) -> None:
        super().__init__(json_ensure_ascii=False)

    def add_fields(self, log_data: dict[str, Any], record: LogRecord, message_dict: dict[str, Any]) -> None:
        """Fill in the fields of a line; `message_dict` holds the rendered exception."""
        # The fields that the library would add are left out: Kopf attaches whole objects to its records.
        log_data |= {
            "ts": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record.getMessage()),
        }
        about = find_object(record)
        if about:
            log_data["object"] = about
        if record.exc_info:
            log_data["exception"] = "\n".join(_lines(message_dict["exc_info"]))


class TextFormatter(logging.Formatter):
    """A line for people: time, level, object and message, with the exception below it."""

    def format(self, record: LogRecord) -> str:
        """Render a record."""
        about = find_object(record)
        where = f"{about['kind']} {about['namespace']}/{about['name']}: " if about else ""
        text = f"{_timestamp(record)} {record.levelname:<7} {where}{_message(record.getMessage())}"
        if record.exc_info:
            text = "\n".join((text, *(INDENT + line for line in _lines(self.formatException(record.exc_info)))))
        return text


def find_object(record: LogRecord) -> dict[str, str] | None:
    """The object a record is about: the subject of the running task, else the one that Kopf attached."""
    subject = current_subject()
    if subject is not None:
        found = {"kind": subject.kind, "namespace": subject.namespace, "name": subject.name, "uid": subject.uid}
        return {key: clean_text(value) for key, value in found.items()}
    attached = getattr(record, "k8s_ref", None)
    if not isinstance(attached, dict):
        return None
    return {name: clean_text(str(attached.get(name) or "")) for name in ("kind", "namespace", "name", "uid")}


def configure_logs(format_: str, level: str, stream: TextIO | None = None) -> logging.Handler:
    """Send all logs from `level` on to `stream` (default: stderr) as `json` or `text`; replaces earlier handlers."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if format_ == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    return handler


def _message(text: str) -> str:
    if len(text) > MAX_RAW:
        # A password that is cut off is one all the same: as if its @ came next.
        text = text[:MAX_RAW] + "@"
    return clean_text(hide_secrets(text))


def _lines(text: str) -> list[str]:
    """The last lines of an exception, which name the cause."""
    lines: list[str] = []
    room = MAX_EXCEPTION
    # By "\n" alone: any other line end that a text has is not ours, and is replaced.
    for line in reversed(text.split("\n")[-MAX_LINES:]):
        lines.append(_message(line))
        room -= min(len(line), MAX_RAW)
        if room < 0:
            break
    return lines[::-1]


def _timestamp(record: LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
