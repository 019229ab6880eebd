"""The client's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), and of PostgreSQL's md5.

A server chooses the number of rounds, and libpq does them all: 20 million stop a process for minutes. Here they are
bounded, done beside the event loop, and each namespace gets a share of the processor for them.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
import secrets
import stringprep
import unicodedata
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from headroom.adapters.postgres.wire.messages import Violation
from headroom.adapters.shares import Shares, Turn

MOST_ROUNDS = 200_000
"""50 times PostgreSQL's default of 4096; about 60 ms."""
MOST_KEYS = 1000
REST = 4.0
"""After a derivation its namespace waits for this many times as long: a fifth of one processor at most."""
PLAIN, BOUND = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
_FIRST = re.compile(r"r=([\x21-\x2b\x2d-\x7e]{1,512}),s=([A-Za-z0-9+/=]{1,1024}),i=([0-9]{1,10})")
_FINAL = re.compile(r"v=([A-Za-z0-9+/=]{1,128})")


@dataclass(slots=True)
class KeyDeriver:
    """Salted passwords, derived in threads of their own and kept, since a reconnect asks for the same again."""

    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=2, thread_name_prefix="scram")
    )
    _keys: "OrderedDict[tuple[str, bytes, int], bytes]" = field(default_factory=OrderedDict, repr=False)
    _turns: Shares[Turn] = field(default_factory=lambda: Shares(Turn))

    async def derive(self, password: str, salt: bytes, rounds: int, namespace: str) -> bytes:
        """The salted password of RFC 5802."""
        key = (password, salt, rounds)
        with self._turns.use(namespace) as turn:
            async with turn.lock:
                if key not in self._keys:
                    await self._derive(key)
                self._keys.move_to_end(key)
                return self._keys[key]

    async def _derive(self, key: tuple[str, bytes, int]) -> None:
        loop = asyncio.get_running_loop()
        began, rounds = loop.time(), key[2]
        self._keys[key] = await loop.run_in_executor(self._threads, _salt, *key)
        while len(self._keys) > MOST_KEYS:
            self._keys.popitem(last=False)
        if rounds > 10_000:
            await asyncio.sleep(REST * (loop.time() - began))


@dataclass(slots=True)
class ScramExchange:
    """One login; `binding` is the server certificate's hash, where there is one.

    Without an offer of SCRAM-SHA-256-PLUS we say that we would have bound: if the server did offer that, somebody
    between removed the offer, and it refuses.
    """

    password: str = field(repr=False)
    binding: bytes | None
    is_offered: bool
    nonce: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(18)).decode())
    _signature: bytes = b""

    @property
    def mechanism(self) -> str:
        """The SASL name."""
        return BOUND if self.is_offered and self.binding is not None else PLAIN

    @property
    def _flags(self) -> str:
        if self.binding is None:
            return "n,,"
        return "p=tls-server-end-point,," if self.is_offered else "y,,"

    @property
    def _bound(self) -> bytes:
        return self.binding if self.binding is not None and self.is_offered else b""

    @property
    def _bare(self) -> str:
        # PostgreSQL takes the user of the startup message, whatever stands here.
        return f"n=,r={self.nonce}"

    def first(self) -> bytes:
        """The client's first message."""
        return f"{self._flags}{self._bare}".encode()

    async def answer(self, message: bytes, deriver: KeyDeriver, namespace: str) -> bytes:
        """The client's final message to the server's first one; raises Violation."""
        text = _decode(message)
        found = _FIRST.fullmatch(text)
        rounds = int(found[3]) if found else 0
        if found is None or rounds < 1 or not found[1].startswith(self.nonce) or len(found[1]) == len(self.nonce):
            raise Violation("the server's SCRAM message is malformed")
        if rounds > MOST_ROUNDS:
            remedy = "lower scram_iterations and set the password again"
            raise Violation(f"the server asks for more than {MOST_ROUNDS} rounds of SCRAM: {remedy}")
        salted = await deriver.derive(self.password, _decode_base64(found[2]), rounds, namespace)
        bound = base64.b64encode(self._flags.encode() + self._bound).decode()
        without_proof = f"c={bound},r={found[1]}"
        signed = f"{self._bare},{text},{without_proof}".encode()
        client_key = _sign(salted, b"Client Key")
        proof = _xor(client_key, _sign(hashlib.sha256(client_key).digest(), signed))
        self._signature = _sign(_sign(salted, b"Server Key"), signed)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def check(self, message: bytes) -> None:
        """Raise Violation unless the server proved that it knows the password's verifier."""
        found = _FINAL.fullmatch(_decode(message))
        if found is None or not hmac.compare_digest(_decode_base64(found[1]), self._signature):
            raise Violation("the server did not prove that it knows the password")


def compute_md5_answer(username: str, password: str, salt: bytes) -> bytes:
    """What a server that asks for md5 gets."""
    inner = hashlib.md5(f"{password}{username}".encode(), usedforsecurity=False).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest().encode()


def prepare_password(password: str) -> bytes:
    """SASLprep (RFC 4013); a password that it forbids is taken as it is, as PostgreSQL does."""
    if password.isascii():
        # Nothing of it is mapped; it is allowed, or forbidden and taken as it is.
        return password.encode()
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    return (prepared if prepared and not _is_forbidden(prepared) else password).encode()


def _salt(password: str, salt: bytes, rounds: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", prepare_password(password), salt, rounds)


def _is_forbidden(text: str) -> bool:
    prohibited = (
        stringprep.in_table_a1, stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3,
        stringprep.in_table_c4, stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7,
        stringprep.in_table_c8, stringprep.in_table_c9,
    )  # fmt: skip
    if any(check(char) for char in text for check in prohibited):
        return True
    if not any(stringprep.in_table_d1(char) for char in text):
        return False
    has_left = any(stringprep.in_table_d2(char) for char in text)
    return has_left or not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1]))


def _decode(message: bytes) -> str:
    try:
        return message.decode("ascii")
    except UnicodeDecodeError as error:
        raise Violation("the server's SCRAM message is malformed") from error


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Violation("the server's SCRAM message is malformed") from error


def _sign(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
