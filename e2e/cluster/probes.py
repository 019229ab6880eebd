"""Is a server answering? Asked often, so each question is short."""

from __future__ import annotations

import http.client
import socket
import ssl
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 0.5


def is_answering(check: str) -> bool:
    """Tell whether `running`, `socket:PATH` or an http(s) URL holds; the certificate is not verified."""
    if check == "running":
        return True
    if check.startswith("socket:"):
        return _is_listening(check.removeprefix("socket:"))
    return _is_healthy(check)


def _is_listening(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT_SECONDS)
        try:
            client.connect(path)
        except OSError:
            return False
        return True


def _is_healthy(url: str) -> bool:
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl._create_unverified_context()  # noqa: SLF001  a health check inside the box
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
