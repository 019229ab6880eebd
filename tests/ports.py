"""Ports for the servers of tests, which no other test process takes."""

import contextlib
import fcntl
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

FIRST_PORT, LAST_PORT, PORTS_OF_PROCESS = 12_000, 28_000, 500


@cache
def _own_ports() -> Iterator[int]:
    """This process's own block of ports, in turn, for as long as it lives.

    The kernel's pick would be free only until somebody else took it, as another test process or as the near end of a
    connection: these are below the ports it picks from, and locked against the other processes of a test run.
    """
    folder = Path(tempfile.gettempdir()) / "headroom-test-ports"
    folder.mkdir(mode=0o777, exist_ok=True)
    for first in range(FIRST_PORT, LAST_PORT, PORTS_OF_PROCESS):
        lock = os.open(folder / str(first), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return itertools.cycle(range(first, first + PORTS_OF_PROCESS))  # the lock stays open: it is the claim
    raise RuntimeError(f"every block of ports in {folder} is locked by a test process")


def find_free_port() -> int:
    """A loopback port nobody listens on now, and that no other test process takes."""
    for port in itertools.islice(_own_ports(), PORTS_OF_PROCESS):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port of this process's block is free")
