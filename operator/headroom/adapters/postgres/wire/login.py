"""The login to a server: the startup message, and the password by SCRAM, or by nothing."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg

from headroom.adapters.postgres.wire.channel import Channel
from headroom.adapters.postgres.wire.messages import (
    NotPostgres,
    ServerError,
    Violation,
    build,
    build_startup,
    parse_error,
    parse_parameter,
)
from headroom.adapters.postgres.wire.scram import BOUND, PLAIN, KeyDeriver, ScramExchange, compute_md5_answer
from headroom.adapters.postgres.wire.tls import compute_binding
from headroom.model.database import ConnectionTarget

MD5 = "md5"
UNBOUND = (
    "the server's certificate is not verified, and no login can be bound to its kind (Ed25519, RSASSA-PSS): set "
    "connection.tls.caSecretRef, or give the server a certificate that is signed with RSA or ECDSA"
)
_OK, _CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12


class LoginRefused(psycopg.OperationalError):
    """The server said no; `error` is what it said, after it had proved that it knows the password or before."""

    def __init__(self, error: ServerError, *, is_proven: bool) -> None:
        super().__init__(error.text)
        self.error = error
        self.is_proven = is_proven


class WeakLogin(psycopg.OperationalError):
    """The server asks for a method that would show the password, or lets everybody in."""


class UnboundLogin(WeakLogin):
    """Nothing would tell whether somebody is in between: a certificate nobody verified, which binds no login."""


@dataclass(frozen=True, slots=True)
class Session:
    """A login that is done: the messages that follow are answers."""

    channel: Channel
    parameters: Mapping[str, str]
    pid: int
    key: bytes
    is_proven: bool
    """The server proved that it knows the password's verifier."""


@dataclass(slots=True)
class _Login:
    channel: Channel
    target: ConnectionTarget
    deriver: KeyDeriver
    parameters: dict[str, str] = field(default_factory=dict)
    pid: int = 0
    key: bytes = b""
    is_proven: bool = False

    async def run(self, startup: Mapping[str, str]) -> Session:
        self.channel.write(build_startup(startup))
        await self._authenticate()
        while True:
            kind, body = await self._read()
            if kind == b"Z":
                return Session(self.channel, self.parameters, self.pid, self.key, self.is_proven)
            if kind == b"K" and len(body) == 8:
                self.pid, self.key = struct.unpack("!i", body[:4])[0], body[4:]
            elif kind == b"S":
                found = parse_parameter(body)
                self.parameters.update(dict([found] if found is not None else []))
            else:
                raise NotPostgres

    async def _authenticate(self) -> None:
        code, body = await self._read_request()
        login = self.target.credentials
        if code == _OK:
            self._accept_without_password()
            return
        if code == _SASL:
            await self._prove(body.split(b"\0"))
        elif code == _MD5 and self.target.password_method == MD5:
            self._send(compute_md5_answer(login.username, login.password, body[:4]) + b"\0")
        else:
            raise WeakLogin(_describe_weak(code))
        code, _ = await self._read_request()
        if code != _OK:
            raise Violation("the server asks for a second login")

    def _accept_without_password(self) -> None:
        """A certificate of ours may be all that a server asks for."""
        if self.target.client_certificate_pem is None or self.channel.encryption is None:
            raise WeakLogin(_describe_weak(_OK))

    async def _prove(self, offered: list[bytes]) -> None:
        names = {name.decode("ascii", "replace") for name in offered if name}
        encryption = self.channel.encryption
        binding = compute_binding(encryption.certificate) if encryption is not None else None
        if encryption is not None and binding is None and not encryption.is_verified:
            # Whoever is in between chooses the certificate, and so could choose that nothing is bound to it.
            raise UnboundLogin(UNBOUND)
        exchange = ScramExchange(self.target.credentials.password, binding, is_offered=BOUND in names)
        if exchange.mechanism not in names:
            raise WeakLogin(f"the server offers no {PLAIN}")
        first = exchange.first()
        self._send(f"{exchange.mechanism}\0".encode() + struct.pack("!I", len(first)) + first)
        answer = await exchange.answer(await self._read_step(_SASL_CONTINUE), self.deriver, self.target.namespace)
        self._send(answer)
        exchange.check(await self._read_step(_SASL_FINAL))
        self.is_proven = True

    async def _read_step(self, expected: int) -> bytes:
        code, body = await self._read_request()
        if code != expected:
            raise Violation("the server left the SCRAM exchange")
        return body

    async def _read_request(self) -> tuple[int, bytes]:
        kind, body = await self._read()
        if kind != b"R" or len(body) < 4:
            raise NotPostgres
        return int.from_bytes(body[:4], "big"), body[4:]

    async def _read(self) -> tuple[bytes, bytes]:
        while True:
            kind, body = await self.channel.read_message()
            if kind == b"E":
                raise LoginRefused(parse_error(body), is_proven=self.is_proven)
            if kind != b"N":
                return kind, body

    def _send(self, body: bytes) -> None:
        self.channel.write(build(b"p", body))


async def log_in(
    channel: Channel, target: ConnectionTarget, startup: Mapping[str, str], deriver: KeyDeriver
) -> Session:
    """Log in; raises LoginRefused, WeakLogin, Violation or OSError. The caller bounds the time."""
    return await _Login(channel, target, deriver).run(startup)


def _describe_weak(code: int) -> str:
    asked = {_OK: "no password", _CLEARTEXT: "the password in clear", _MD5: "an md5 password"}.get(code)
    remedy = "set password_encryption = 'scram-sha-256', set the password again, and ask for it in pg_hba.conf"
    return f"the server asks for {asked or 'a method of login that is not supported'}, not for SCRAM: {remedy}"
