"""Servers that mean harm: they speak PostgreSQL's protocol as far as their attack needs.

    python -m tests.hostile_server ATTACK

prints its port and serves in a process of its own, so that what it sends is in no memory of the test's.
"""

import asyncio
import contextlib
import os
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headroom.model.database import ConnectionTarget
from tests import hostile_records
from tests.hostile_conversation import (
    DONE,
    HELLO,
    LOGIN,
    MEBIBYTE,
    PID,
    PIECE,
    PREPARED,
    READY,
    TEXT,
    Conversation,
    describe,
    message,
    row,
)

Handler = Callable[[Conversation], Awaitable[None]]


async def ask_cleartext(talk: Conversation) -> None:
    await talk.ask(3)
    talk.server.answers.append((await talk.receive())[1])


async def ask_md5(talk: Conversation) -> None:
    await talk.ask(5, b"salt")
    talk.server.answers.append((await talk.receive())[1])


async def ask_nothing(talk: Conversation) -> None:
    await talk.ask(0)
    await talk.send(message(b"K", struct.pack("!ii", PID, 1)) + READY)
    await talk.answer_hello()


async def prove_falsely(talk: Conversation) -> None:
    await talk.prove(is_true=False)
    await talk.ask(0)
    await talk.receive()


async def ask_for_many_rounds(talk: Conversation) -> None:
    await talk.prove(tell=2_000_000_000)


async def authenticate_forever(talk: Conversation) -> None:
    await talk.ask(10, b"SCRAM-SHA-256\0\0")
    await talk.endless(message(b"N", b"SNOTICE\0C00000\0Mwait\0\0") * 50)


async def authenticate_slowly(talk: Conversation) -> None:
    for byte in message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0") * 100:
        await talk.send(bytes((byte,)))
        await asyncio.sleep(0.2)


async def send_parameters(talk: Conversation) -> None:
    await talk.prove()
    await talk.ask(0)
    number = 0
    while True:
        number += 1
        await talk.send(message(b"S", b"parameter_%d\0" % number + PIECE[:1900] + b"\0"))


async def send_parameters_later(talk: Conversation) -> None:
    """Little with each answer, and for ever."""
    await talk.welcome()
    number = 0
    while True:
        await talk.await_request()
        number += 1
        names = (b"parameter_%d_%d\0" % (number, at) for at in range(60))
        await talk.send(b"".join(message(b"S", name + PIECE[:1000] + b"\0") for name in names) + HELLO)


async def send_field(talk: Conversation, size: int = 200 * MEBIBYTE) -> None:
    """A row with one field of 200 MiB."""
    await talk.log_in_and_answer_hello()
    await talk.await_request()
    body = struct.pack("!hi", 1, size)
    await talk.send(PREPARED + describe(("value", 25)))
    await talk.send(b"D" + struct.pack("!I", 4 + len(body) + size) + body)
    for _ in range(size // len(PIECE)):
        await talk.send(PIECE)
    await talk.send(DONE)


async def send_field_at_once(talk: Conversation, size: int = 160 * MEBIBYTE) -> None:
    """The same in the answer to the very first statement."""
    await talk.welcome()
    await talk.await_request()
    body = struct.pack("!hi", 1, size)
    await talk.send(PREPARED + describe(("backend_pid", 25)))
    await talk.send(b"D" + struct.pack("!I", 4 + len(body) + size) + body)
    for _ in range(size // len(PIECE)):
        await talk.send(PIECE)
    await talk.send(DONE)


async def claim_a_gibibyte(talk: Conversation) -> None:
    await talk.log_in_and_answer_hello()
    await talk.await_request()
    await talk.send(PREPARED + describe(("value", 25)) + b"D" + struct.pack("!I", 1 << 30))
    await asyncio.sleep(60)


async def send_rows(talk: Conversation) -> None:
    await talk.log_in_and_answer_hello()
    await talk.await_request()
    await talk.send(PREPARED + describe())
    await talk.endless(row() * 9000)


async def send_notices(talk: Conversation) -> None:
    await talk.log_in_and_answer_hello()
    await talk.await_request()
    await talk.endless(message(b"N", b"SNOTICE\0VNOTICE\0C00000\0M" + PIECE + b"\0\0"))


async def send_notifications(talk: Conversation) -> None:
    await talk.log_in_and_answer_hello()
    await talk.await_request()
    await talk.endless(message(b"A", struct.pack("!i", 1) + b"channel\0" + PIECE[:4000] + b"\0"))


async def send_error(talk: Conversation) -> None:
    await talk.log_in_and_answer_hello()
    await talk.await_request()
    size = 200 * MEBIBYTE
    start = b"SERROR\0VERROR\0C22023\0M"
    await talk.send(b"E" + struct.pack("!I", 4 + len(start) + size + 2) + start)
    for _ in range(size // len(PIECE)):
        await talk.send(PIECE)
    await talk.send(b"\0\0" + READY)


async def send_text_in_error(talk: Conversation) -> None:
    """An error that forges lines and turns the reading direction."""
    await talk.log_in_and_answer_hello()
    await talk.await_request()
    text = "bad\x1b[31m\r\n\u202egnp.exe\x00".encode()
    await talk.send(message(b"E", b"SERROR\0VERROR\0C22023\0M" + text + PIECE[:20_000] + b"\0\0") + READY)
    await talk.receive()


async def drip(talk: Conversation) -> None:
    await talk.log_in_and_answer_hello()
    await talk.await_request()
    for byte in PREPARED + describe(("value", 23)) + row(b"1") * 1000:
        await talk.send(bytes((byte,)))
        await asyncio.sleep(0.2)


async def copy_out(talk: Conversation) -> None:
    await talk.log_in_and_answer_hello()
    await talk.await_request()
    await talk.send(message(b"H", b"\0\0\0"))
    await talk.endless(message(b"d", PIECE))


async def answer_nonsense(talk: Conversation) -> None:
    """The right messages with other columns and types than the statement has."""
    await talk.log_in_and_answer_hello()
    while True:
        await talk.await_request()
        await talk.send(PREPARED + describe(("value", 23)) + row(b"not a number") + DONE)


async def nest_deeply(talk: Conversation) -> None:
    await talk.log_in_and_answer_hello()
    while True:
        await talk.await_request()
        await talk.send(PREPARED + describe(("value", 114)) + row(b"[" * 200_000) + DONE)


JSON, BIGINT, INT, BOOL, DOUBLE, TIME = 114, 20, 23, 16, 701, 1184
IDENTITY = (
    ("system_identifier", TEXT), ("started_at", TIME), ("version", INT), ("is_in_recovery", BOOL), ("timeline", INT),
    ("flush_lsn", TEXT), ("settings", JSON), ("wal_senders_used", BIGINT), ("slots_used", BIGINT),
    ("missing_rights", 1009), ("has_user_tablespaces", BOOL), ("is_superuser", BOOL),
)  # fmt: skip
COUNTS = (
    ("used", BIGINT), ("active", BIGINT), ("idle_in_transaction", BIGINT), ("lock_waiters", BIGINT),
    ("oldest_transaction_seconds", DOUBLE), ("usable", INT), ("roles", JSON), ("databases", JSON),
)  # fmt: skip
START = b"2026-01-01 00:00:00+00"
NAME = b"\xc3\xa9" * 30
"""Characters outside of Latin take four bytes each where they stand beside others."""


@dataclass
class Crowd:
    """A primary that answers each statement of a guard with as many entries as fit into `size` bytes, or `entries`."""

    size: int
    entries: int

    async def __call__(self, talk: Conversation) -> None:
        await talk.log_in_and_answer_hello()
        while True:
            await talk.send(PREPARED + self.answer(await talk.await_request()) + DONE)

    def answer(self, asked: bytes) -> bytes:
        if b"wal_senders_used" in asked:
            settings = b"{" + self.fill(b'"%x":""') + b"}"
            parts = (b"1", START, b"170002", b"f", b"1", b"0/1", settings, b"1", b"1", b"{}", b"f", b"f")
            return describe(*IDENTITY) + row(*parts)
        if b"is_held" in asked:
            return describe(("is_held", BOOL), ("rival", TEXT)) + row(b"t", None)
        if b"pg_terminate_backend" in asked:
            return describe(("ended", BIGINT)) + row(b"0")
        if b"datconnlimit" in asked:
            entries = b"[" + self.fill(b'["\xf0\x9f\x90\x98%x' + NAME + b'",1,1]') + b"]"
            return describe(*COUNTS) + row(b"1", b"1", b"0", b"0", b"0", b"100", entries, entries)
        if b"wal_status" in asked:
            slots = (row(b"slot_%d" % at, b"t", b"0/1", b"reserved", b"f", None, None) for at in range(self.entries))
            kinds = ("name", TEXT), ("is_active", BOOL), ("restart_lsn", TEXT), ("wal_status", TEXT)
            return describe(
                *kinds, ("has_xmin", BOOL), ("inactive_seconds", DOUBLE), ("invalidation", TEXT)
            ) + b"".join(slots)
        return describe(("system_identifier", TEXT), ("started_at", TIME)) + row(b"1", START)

    def fill(self, entry: bytes) -> bytes:
        return b",".join(entry % at for at in range(min(self.entries, self.size // len(entry % self.entries))))


async def answer_with_crowds(talk: Conversation) -> None:
    """As large as an answer may be at all."""
    await Crowd(1_000_000, 100_000)(talk)


async def answer_within_bounds(talk: Conversation) -> None:
    """As much as a guard takes."""
    await Crowd(50_000, 500)(talk)


async def answer_with_endless_digits(talk: Conversation) -> None:
    """A number whose whole digits take minutes and gibibytes to write out."""
    await talk.log_in_and_answer_hello()
    while True:
        await talk.await_request()
        columns = [(name, 1700 if kind in (BIGINT, INT, DOUBLE) else kind) for name, kind in IDENTITY]
        parts = (b"1", START, b"170002", b"f", b"1e999999999", b"0/1", b"{}", b"1", b"1", b"{}", b"f", b"f")
        await talk.send(PREPARED + describe(*columns) + row(*parts) + DONE)


async def notify_for_ever(talk: Conversation) -> None:
    """The smallest message there is."""
    await talk.log_in_and_answer_hello()
    for _ in range(2):
        await talk.await_request()
        await talk.send(PREPARED + message(b"C", b"LISTEN\0") + READY)
    await talk.endless(message(b"A") * 20_000)


async def stop_in_a_row(talk: Conversation) -> None:
    """Most of a large answer, and never its end."""
    await talk.log_in_and_answer_hello()
    await talk.await_request()
    size = MEBIBYTE - 4096
    await talk.send(PREPARED + describe(("value", TEXT)) + b"D" + struct.pack("!IhI", 10 + size, 1, size))
    await talk.send(b"x" * (size - 10))
    await asyncio.sleep(60)


async def answer_largely(talk: Conversation) -> None:
    """100 KiB, as a sane server may."""
    await talk.log_in_and_answer_hello()
    while True:
        await talk.await_request()
        await talk.send(PREPARED + describe(("value", TEXT)) + row(b"y" * 100_000) + DONE)


async def answer_shortly(talk: Conversation) -> None:
    await talk.log_in_and_answer_hello()
    while True:
        await talk.await_request()
        await talk.send(PREPARED + describe(("value", INT)) + row(b"1") + DONE)


async def greet_as_ssh(talk: Conversation) -> None:
    await talk.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    await talk.reader.read()


async def greet_as_http(talk: Conversation) -> None:
    await talk.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


ATTACKS: dict[str, Handler] = {
    name: function
    for name, function in (*globals().items(), *vars(hostile_records).items())
    if asyncio.iscoroutinefunction(function) and name != "send_bytes_apart"
}
UNGREETED = {greet_as_ssh, greet_as_http}


@dataclass
class HostileServer:
    """Serves one attack to everybody; `answers` is what clients said when they were asked for the password."""

    attack: Handler
    encryption: ssl.SSLContext | None = None
    answers: list[bytes] = field(default_factory=list)
    port: int = 0
    connections: int = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        talk = Conversation(reader, writer, self)
        try:
            with contextlib.suppress(OSError, EOFError, ssl.SSLError):
                if self.attack not in UNGREETED:
                    await talk.start()
                await self.attack(talk)
                await reader.read()
        finally:
            writer.transport.abort()

    @asynccontextmanager
    async def listen(self) -> AsyncIterator["HostileServer"]:
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await self._serve(reader, writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)

    def target(self, **changes: Any) -> ConnectionTarget:
        return make_target(self.port, **changes)


def make_target(port: int, **changes: Any) -> ConnectionTarget:
    parts = {"host": "127.0.0.1", "port": port, "database": "store", "tls_mode": "disable", "namespace": "tenant"}
    return ConnectionTarget(**{**parts, **changes}, credentials=LOGIN)


@contextmanager
def run_apart(attack: Handler, certificate: Path | None = None, *, tickets: int = 0) -> Iterator[ConnectionTarget]:
    """The same in a process of its own; with TLS if a file holds a certificate and its key."""
    command = [sys.executable, "-m", "tests.hostile_server", attack.__name__]
    if certificate is not None:
        command += [str(certificate), str(tickets)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield make_target(int(process.stdout.readline()))
        finally:
            process.kill()


async def _main(name: str, certificate: str = "", tickets: str = "") -> None:
    encryption = None
    if certificate:
        encryption = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        encryption.load_cert_chain(certificate)
        encryption.num_tickets = int(tickets)
    async with HostileServer(ATTACKS[name], encryption).listen() as server:
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
