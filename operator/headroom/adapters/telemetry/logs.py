"""Log lines: JSON for machines, text for people; each names the object it is about and hides passwords."""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from headroom.ports.subject import current_subject

SECRETS = re.compile(
    r"(?P<key>\b(?:password|passwd|sslpassword|token|secret)\b[\"']?\s*[=:]\s*)(?P<value>'[^']*'|\"[^\"]*\"|[^\s,;&)]+)"
    r"|(?P<scheme>\b[a-z][a-z0-9+.-]*://[^\s:/@]+:)[^\s@]+(?=@)",
    re.IGNORECASE,
)
HIDDEN = "***"
# Chatty at INFO about what our own lines say better.
QUIET = ("aiohttp.access", "asyncio", "kopf.activities.probe", "kopf.objects")


def hide_secrets(text: str) -> str:
    """Replace what looks like a password in connection strings, URLs and key-value pairs."""
    return SECRETS.sub(lambda found: f"{found['key'] or found['scheme']}{HIDDEN}", text)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, logger, message, object, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record."""
        line: dict[str, Any] = {
            "ts": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": hide_secrets(record.getMessage()),
        }
        about = find_object(record)
        if about:
            line["object"] = about
        if record.exc_info:
            line["exception"] = hide_secrets(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """A line a person reads: time, level, object, message; the exception below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record."""
        about = find_object(record)
        where = f"{about['kind']} {about['namespace']}/{about['name']}: " if about else ""
        text = f"{_timestamp(record)} {record.levelname:<7} {where}{record.getMessage()}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return hide_secrets(text)


def find_object(record: logging.LogRecord) -> dict[str, str] | None:
    """The object a record is about: of the running task, or what Kopf attached."""
    subject = current_subject()
    if subject is not None:
        return {"kind": subject.kind, "namespace": subject.namespace, "name": subject.name, "uid": subject.uid}
    attached = getattr(record, "k8s_ref", None)
    if not isinstance(attached, dict):
        return None
    return {name: str(attached.get(name) or "") for name in ("kind", "namespace", "name", "uid")}


def configure_logs(format_: str, level: str, stream: TextIO | None = None) -> logging.Handler:
    """Send all logs to `stream` (stderr unless told) in `json` or `text`, from `level` on; replaces what was set up."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if format_ == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    return handler


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
