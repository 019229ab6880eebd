"""What authors let us trust is parsed once, beside the event loop, and bounded for each namespace."""

import asyncio
import random
import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from headroom.adapters.postgres.wire import contexts as of_contexts
from headroom.adapters.postgres.wire.contexts import ASSURED_BYTES, MOST_NAMESPACE_BYTES, Contexts
from headroom.errors import PrimaryUnavailable
from headroom.model.certificates import MOST_CERTIFICATES
from headroom.model.database import ConnectionTarget, Credentials
from headroom.reasons import Reason
from tests.certificates import Authority


@cache
def largest() -> tuple[str, ...]:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    found = []
    for number in range(MOST_CERTIFICATES):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {number}")])
        builder = x509.CertificateBuilder(name, name, key.public_key(), number + 1, now, now + timedelta(days=9))
        found.append(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode())
    return tuple(found)


def shuffle() -> str:
    """The largest list that a Secret may have, in yet another order."""
    return "".join(random.sample(largest(), MOST_CERTIFICATES))


def target(ca_pem: str | None, namespace: str = "shop", **changes: Any) -> ConnectionTarget:
    parts = {"host": "db", "port": 5432, "database": "store", "tls_mode": "verify-full", **changes}
    return ConnectionTarget(**parts, credentials=Credentials("m", "p"), ca_pem=ca_pem, namespace=namespace)


def read_memory() -> int:
    """MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) >> 10


async def get(contexts: Contexts, of: ConnectionTarget) -> ssl.SSLContext:
    context = await contexts.get(of)
    assert context is not None
    return context


async def test_connections_that_trust_the_same_share_a_context() -> None:
    contexts, pem = Contexts(), Authority().ca_pem
    one = await get(contexts, target(pem))
    assert await get(contexts, target(pem, host="another")) is one
    assert await get(contexts, target(pem, tls_mode="require")) is not one
    assert (await get(contexts, target(pem, tls_mode="verify-ca"))).check_hostname is False
    assert await get(contexts, target(Authority().ca_pem)) is not one
    assert await contexts.get(target(pem, tls_mode="disable")) is None
    system = await get(contexts, target(None))
    assert await get(contexts, target(None, "another")) is system


async def test_a_client_certificate_is_not_shared_with_another() -> None:
    contexts, authority = Contexts(), Authority()
    pairs = [authority.issue(name) for name in ("one", "two")]
    found = [
        await get(contexts, target(authority.ca_pem, client_certificate_pem=certificate, client_key_pem=key))
        for certificate, key in (*pairs, pairs[0])
    ]
    assert found[0] is found[2]
    assert found[0] is not found[1]


async def test_rotated_lists_of_a_namespace_are_forgotten() -> None:
    """24 texts of 976 KiB took 243 MiB, and 256 of them were kept."""
    contexts = Contexts()
    await get(contexts, target(shuffle()))
    before = read_memory()
    for _ in range(30):
        await get(contexts, target(shuffle()))
    grown = read_memory() - before
    print(f"30 lists of {MOST_CERTIFICATES} certificates in turn: +{grown} MiB")
    assert grown < 24


async def test_lists_in_use_are_bounded_and_leave_room_for_others() -> None:
    """Connections keep what they trust: 300 of them with lists of their own."""
    contexts, used, refused = Contexts(), [], []
    before = read_memory()
    for _ in range(300):
        try:
            used.append(await get(contexts, target(shuffle())))
        except PrimaryUnavailable as error:
            refused.append((error.reason, str(error)))
    grown = read_memory() - before
    print(f"300 lists in use: {len(used)} contexts, +{grown} MiB")
    assert grown < 24
    assert len(used) >= MOST_NAMESPACE_BYTES // (1 << 20) - 1
    assert {reason for reason, _ in refused} == {Reason.TLS_FAILED}
    assert "MiB together" in refused[0][1]
    assert await get(contexts, target(shuffle(), "another"))
    # What is not used any more makes room.
    used.clear()
    assert await get(contexts, target(shuffle()))


async def test_a_process_that_is_full_has_the_assured_part_for_each_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_contexts, "MOST_PROCESS_BYTES", 4 << 20)
    contexts, used = Contexts(), []
    for number in range(8):
        used.append(await get(contexts, target(shuffle(), f"ns{number % 4}")))
        used.append(await get(contexts, target(Authority().ca_pem, f"late{number}")))
    assert of_contexts._find_cost(target(shuffle())) <= ASSURED_BYTES


async def test_lists_are_parsed_beside_the_event_loop() -> None:
    contexts, worst = Contexts(), 0.0
    loop = asyncio.get_running_loop()
    work = asyncio.gather(*(contexts.get(target(shuffle(), f"ns{number}")) for number in range(12)))
    while not work.done():
        began = loop.time()
        await asyncio.sleep(0.001)
        worst = max(worst, loop.time() - began)
    print(f"loop late by {worst * 1000:.0f} ms")
    assert len(set(await work)) == 12
    assert worst < 0.15


@pytest.mark.parametrize(
    "text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"]
)
async def test_what_cannot_be_used_is_said_and_not_counted(text: str) -> None:
    contexts = Contexts()
    for _ in range(3):
        with pytest.raises(PrimaryUnavailable) as caught:
            await contexts.get(target(text))
        assert caught.value.reason is Reason.TLS_FAILED
    assert contexts._used_bytes == 0
