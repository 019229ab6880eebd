"""What a false server says: messages of PostgreSQL's protocol, and the login up to the first answer."""

import asyncio
import base64
import hashlib
import hmac
import ssl
import struct
from dataclasses import dataclass
from typing import Protocol

from headroom.model.database import Credentials

LOGIN = Credentials("tenant", "tenant-password")
SALT = b"0123456789abcdef"
PIECE = b"x" * 65536
MEBIBYTE = 1 << 20
TEXT = 25
"""The type's oid."""


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def describe(*columns: tuple[str, int]) -> bytes:
    """A RowDescription of columns (name, type)."""
    body = b"".join(name.encode() + b"\0" + struct.pack("!IhIhih", 0, 0, kind, -1, -1, 0) for name, kind in columns)
    return message(b"T", struct.pack("!h", len(columns)) + body)


def row(*values: bytes | None) -> bytes:
    parts = [struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value for value in values]
    return message(b"D", struct.pack("!h", len(values)) + b"".join(parts))


READY = message(b"Z", b"I")
PREPARED = message(b"1") + message(b"2")
DONE = message(b"C", b"SELECT 1\0") + READY
PID = 4242
HELLO = (
    PREPARED
    + describe(("backend_pid", 23), ("version", 23), ("role", 25))
    + row(str(PID).encode(), b"170002", LOGIN.username.encode())
    + DONE
)


class Listener(Protocol):
    """What a conversation needs of the server it belongs to."""

    encryption: ssl.SSLContext | None
    answers: list[bytes]


@dataclass
class Conversation:
    """One connection, from the server's side."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: Listener

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def endless(self, piece: bytes) -> None:
        while True:
            await self.send(piece)

    async def receive(self) -> tuple[bytes, bytes]:
        header = await self.reader.readexactly(5)
        return header[:1], await self.reader.readexactly(int.from_bytes(header[1:], "big") - 4)

    async def start(self) -> None:
        """The startup message, after TLS if the server has it."""
        length = int.from_bytes(await self.reader.readexactly(4), "big")
        body = await self.reader.readexactly(length - 4)
        if body == struct.pack("!I", 80877103):
            if self.server.encryption is None:
                await self.send(b"N")
            else:
                await self.send(b"S")
                await self.writer.start_tls(self.server.encryption)
            await self.start()

    async def ask(self, code: int, body: bytes = b"") -> None:
        await self.send(message(b"R", struct.pack("!I", code) + body))

    async def prove(self, rounds: int = 4096, *, tell: int | None = None, is_true: bool = True) -> None:
        """Ask for SCRAM and answer as one that knows the password, or pretends to."""
        await self.ask(10, b"SCRAM-SHA-256\0\0")
        _, first = await self.receive()
        bare = first.split(b"n,,")[-1] if b"n,," in first else first.split(b"y,,")[-1]
        nonce = bare.split(b"r=")[1] + b"served"
        told = b"r=" + nonce + b",s=" + base64.b64encode(SALT) + b",i=" + str(tell or rounds).encode()
        await self.ask(11, told)
        _, final = await self.receive()
        self.server.answers.append(final)
        without_proof = final.split(b",p=")[0]
        salted = hashlib.pbkdf2_hmac("sha256", LOGIN.password.encode(), SALT, rounds)
        key = hmac.digest(salted, b"Server Key", "sha256")
        proof = hmac.digest(key, b",".join((bare, told, without_proof)), "sha256") if is_true else b"?" * 32
        await self.ask(12, b"v=" + base64.b64encode(proof))

    async def welcome(self) -> None:
        """Log the client in and answer the first statement of each connection."""
        await self.prove()
        await self.ask(0)
        await self.send(message(b"S", b"server_version\x0017.2\0") + message(b"S", b"client_encoding\0UTF8\0"))
        await self.send(message(b"K", struct.pack("!ii", PID, 1)) + READY)

    async def await_request(self) -> bytes:
        """The text of the next statement."""
        text = b""
        while True:
            kind, body = await self.receive()
            text += body if kind in (b"P", b"Q") else b""
            if kind in (b"S", b"Q"):
                return text
            if kind == b"X":
                raise asyncio.IncompleteReadError(b"", 1)

    async def answer_hello(self) -> None:
        await self.await_request()
        await self.send(HELLO)

    async def log_in_and_answer_hello(self) -> None:
        await self.welcome()
        await self.answer_hello()
