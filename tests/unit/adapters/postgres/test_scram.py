"""SCRAM from the client's side, against the RFC's example and against servers that cheat."""

import asyncio
import base64
import hashlib
import ssl
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.adapters.postgres.wire import scram
from headroom.adapters.postgres.wire.messages import Violation
from headroom.adapters.postgres.wire.scram import MOST_ROUNDS, KeyDeriver, ScramExchange, prepare_password
from headroom.adapters.postgres.wire.tls import compute_binding
from tests.certificates import Authority

SALT = "W22ZaJ0SNY7soEsUEjb6gQ=="
NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = f"r={NONCE}%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s={SALT},i=4096".encode()


def make_exchange(binding: bytes | None = None, *, is_offered: bool = False) -> ScramExchange:
    return ScramExchange("pencil", binding, is_offered=is_offered, nonce=NONCE)


async def test_the_example_of_the_rfc(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7677, section 3; PostgreSQL leaves the user's name out."""
    monkeypatch.setattr(ScramExchange, "_bare", property(lambda self: f"n=user,r={self.nonce}"))
    exchange = make_exchange()
    assert exchange.first() == f"n,,n=user,r={NONCE}".encode()
    final = await exchange.answer(SERVER_FIRST, KeyDeriver(), "shop")
    assert final.endswith(b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    exchange.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    with pytest.raises(Violation, match="did not prove"):
        exchange.check(b"v=" + base64.b64encode(b"?" * 32))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"e=unknown-user",
        f"r={NONCE},s={SALT},i=4096".encode(),
        f"r=other{NONCE},s={SALT},i=4096".encode(),
        f"r={NONCE}x,s=!,i=4096".encode(),
        f"r={NONCE}x,s=A,i=4096".encode(),
        f"r={NONCE}x,s={SALT},i=0".encode(),
        f"r={NONCE}x,s={SALT},i=-1".encode(),
        f"r={NONCE}x,s={SALT},i=\u00b2".encode(),
        f"m=ext,r={NONCE}x,s={SALT},i=4096".encode(),
        b"\xff\xfe",
    ],
)
async def test_a_malformed_challenge_is_refused(message: bytes) -> None:
    with pytest.raises(Violation):
        await make_exchange().answer(message, KeyDeriver(), "shop")


async def test_no_server_chooses_how_long_we_work() -> None:
    began = time.monotonic()
    for rounds in (MOST_ROUNDS + 1, 2_147_483_647, 9_999_999_999):
        with pytest.raises(Violation, match="rounds"):
            await make_exchange().answer(f"r={NONCE}x,s={SALT},i={rounds}".encode(), KeyDeriver(), "shop")
    assert time.monotonic() - began < 0.5


async def test_a_key_is_derived_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    derive = hashlib.pbkdf2_hmac

    def count(*arguments: object) -> bytes:
        calls.append(arguments)
        return derive(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(scram.hashlib, "pbkdf2_hmac", count)
    deriver = KeyDeriver()
    for _ in range(3):
        await make_exchange().answer(SERVER_FIRST, deriver, "shop")
    assert len(calls) == 1
    assert "pencil" not in repr(deriver)
    assert "pencil" not in repr(make_exchange())


async def test_a_namespace_that_makes_us_derive_waits_for_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    release = asyncio.Event()
    began: list[bytes] = []

    async def hang(self: KeyDeriver, key: tuple[str, bytes, int]) -> None:
        began.append(key[1])
        if key[1] != b"healthy":
            await release.wait()
        self._keys[key] = b"key"

    monkeypatch.setattr(KeyDeriver, "_derive", hang)
    deriver = KeyDeriver()
    hostile = [asyncio.create_task(deriver.derive("p", bytes((number,)), 1, "hostile")) for number in range(8)]
    await asyncio.sleep(0)
    assert await deriver.derive("p", b"healthy", 1, "healthy") == b"key"
    assert began == [b"\0", b"healthy"], "one at a time for each namespace"
    release.set()
    await asyncio.gather(*hostile)


def test_the_login_is_bound_where_both_can_and_a_removed_offer_shows() -> None:
    assert make_exchange(b"hash", is_offered=True).first().startswith(b"p=tls-server-end-point,,")
    assert make_exchange(b"hash", is_offered=True).mechanism == "SCRAM-SHA-256-PLUS"
    assert make_exchange(b"hash", is_offered=False).first().startswith(b"y,,")
    assert make_exchange(b"hash", is_offered=False).mechanism == "SCRAM-SHA-256"
    assert make_exchange(None, is_offered=True).first().startswith(b"n,,")
    assert make_exchange(None, is_offered=True).mechanism == "SCRAM-SHA-256"


def test_the_binding_is_the_hash_that_the_certificate_was_signed_with() -> None:
    der = ssl.PEM_cert_to_DER_cert(Authority().issue("db")[0])
    assert compute_binding(der) == hashlib.sha256(der).digest()
    assert compute_binding(None) is None


@given(st.binary(max_size=80))
def test_a_certificate_that_is_none_has_no_binding(noise: bytes) -> None:
    assert compute_binding(noise) is None


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("plain", b"plain"),
        ("I\u00adX", b"IX"),
        ("\u00aa", b"a"),
        ("\u2168", b"IX"),
        ("a\u00a0b", b"a b"),
        ("a\x07b", b"a\x07b"),
        ("\u0627\u0031", "\u0627\u0031".encode()),
        ("", b""),
    ],
)
def test_a_password_is_prepared_as_the_server_does(password: str, prepared: bytes) -> None:
    """RFC 4013, section 3; a password that it forbids is taken as it is."""
    assert prepare_password(password) == prepared
