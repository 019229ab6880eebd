"""What TLS costs is the server's namespace's: no certificate, key or record stops the event loop."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from headroom.adapters.postgres.dialer import Dialer
from headroom.adapters.postgres.wire import answers, records
from headroom.adapters.postgres.wire.encryption import Encryption
from headroom.adapters.postgres.wire.meter import Meter
from headroom.adapters.postgres.wire.opening import MOST_HANDSHAKE_RECORDS
from headroom.adapters.postgres.wire.records import MOST_RECORDS
from headroom.errors import PrimaryUnavailable
from headroom.reasons import Reason
from tests import hostile_records, keys
from tests import hostile_server as hostile
from tests.certificates import Authority
from tests.hostile_server import HostileServer, run_apart
from tests.integration.hostile.test_hostile_servers import ask, connect
from tests.postgres_server import local_dialer

SERVERS = 16
MOST_HELD = 0.05
"""Seconds of the loop's thread between two beats."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_text("".join(Authority().issue("db", "127.0.0.1")))
    return path


class Held:
    """How long the loop's thread computed between two beats, at worst: other programs do not count."""

    worst = 0.0

    @asynccontextmanager
    async def watch(self) -> AsyncIterator["Held"]:
        task = asyncio.create_task(self._beat())
        await asyncio.sleep(0)
        try:
            yield self
        finally:
            task.cancel()

    async def _beat(self) -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, time.thread_time() - began)


async def ask_all(target: hostile.ConnectionTarget, dialer: Dialer) -> list[PrimaryUnavailable]:
    return await asyncio.gather(*(ask(replace(target, database=f"d{number}"), dialer) for number in range(SERVERS)))


@pytest.mark.parametrize(
    "attack", [hostile_records.whisper, hostile_records.whisper_answers], ids=lambda attack: attack.__name__
)
async def test_records_of_one_byte_end_soon_and_hold_nobody_up(attack: hostile.Handler, certificate: Path) -> None:
    """60,000 of them from each of 16 servers held the loop for 1.4 s."""
    with run_apart(attack, certificate) as target:
        async with Held().watch() as held:
            errors = await ask_all(replace(target, tls_mode="require"), local_dialer())
    print(f"{attack.__name__}: loop held for {held.worst * 1000:.1f} ms")
    assert {error.reason for error in errors} == {Reason.ANSWER_REFUSED}
    assert all(f"more than {MOST_RECORDS} small records" in str(error) for error in errors), errors[0]
    assert held.worst < MOST_HELD


async def test_a_flood_of_tickets_ends(certificate: Path) -> None:
    """libpq and asyncio process any number of them, and no filter of answers sees one."""
    with run_apart(hostile.answer_largely, certificate, tickets=400) as target:
        error = await ask(replace(target, tls_mode="require"))
    assert (error.reason, "small records of TLS" in str(error)) == (Reason.ANSWER_REFUSED, True), error


async def test_what_honest_servers_send_is_read(certificate: Path) -> None:
    """Some tickets, a hundred answers at once, and records as small as some proxies write them."""
    with run_apart(hostile.answer_largely, certificate, tickets=4) as target:
        async with connect(replace(target, tls_mode="require")) as connection:
            for _ in range(100):
                assert (await connection.fetch("SELECT 1"))[0]["value"] == "y" * 100_000
    with run_apart(hostile_records.answer_in_small_records, certificate) as target:
        async with connect(replace(target, tls_mode="require")) as connection:
            assert len((await connection.fetch("SELECT 1"))[0]["value"]) == hostile.MEBIBYTE - 4096


async def test_records_are_counted_for_each_answer(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_RECORDS", 20)
    monkeypatch.setattr(records, "RECORDS_EACH_SECOND", 0)
    with run_apart(hostile.answer_shortly, certificate) as target:
        async with connect(replace(target, tls_mode="require")) as connection:
            for _ in range(100):
                assert await connection.fetch("SELECT 1") == [{"value": 1}]
    hearing = answers.AnswerFilter(Meter(), hears=True)
    assert hearing.most_records == answers.MOST_NOTES, "a listener does not ask"


@pytest.mark.parametrize(
    ("length", "reason", "words"),
    [
        (60, Reason.ANSWER_REFUSED, "more than 32 KiB before TLS was agreed on"),
        (20, Reason.TLS_FAILED, "connection.tls"),
    ],
)
async def test_a_long_chain_is_verified_beside_the_loop_or_not_at_all(
    length: int, reason: Reason, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """60 certificates with public exponents of full length took 1.3 s of the event loop."""
    caplog.set_level("INFO")
    chain, key, root = keys.make_chain(length)
    context = keys.serve(chain, key)
    async with HostileServer(hostile.ask_cleartext, context).listen() as server, Held().watch() as held:
        error = await ask(server.target(tls_mode="verify-ca", ca_pem=root))
    print(f"chain of {length}: loop held for {held.worst * 1000:.1f} ms; {error}")
    assert (error.reason, words in str(error)) == (reason, True), error
    assert held.worst < MOST_HELD + 0.02, "the server's own part is on this loop too"
    assert length > 20 or "s of processor time" in caplog.text


async def test_a_client_key_that_takes_a_second_holds_nobody_up() -> None:
    """16 logins with an RSA key of 16,384 bits, tried again each second, cost the operator its Lease."""
    certificate, key = keys.make_client(12_288)
    context = Authority().serve("127.0.0.1")
    context.verify_mode = ssl.CERT_OPTIONAL
    dialer = local_dialer()
    async with HostileServer(hostile.ask_cleartext, context).listen() as server:
        target = server.target(tls_mode="require", client_certificate_pem=certificate, client_key_pem=key)
        used = time.process_time()
        async with Held().watch() as held:
            asking = asyncio.create_task(ask_all(target, dialer))
            await asyncio.sleep(0.2)
            neighbour = await ask(server.target(tls_mode="require", namespace="another"), dialer)
            errors = await asking
        took = time.process_time() - used
    print(f"{SERVERS} logins: loop held for {held.worst * 1000:.1f} ms, {took:.2f} s of a processor; {errors[0]}")
    assert {error.reason for error in errors} <= {Reason.TLS_FAILED, Reason.PRIMARY_UNREACHABLE}
    assert held.worst < MOST_HELD
    assert took < 2.5, "one or two in the three seconds of a login; 16 before"
    assert neighbour.reason is Reason.PASSWORD_METHOD_WEAK, "another namespace waits for none of it"


async def test_a_handshake_in_many_records_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may be a step in a thread, and none need be the last one."""
    steps = 0

    def shake(_self: Encryption, _data: bytes = b"") -> None:
        nonlocal steps
        steps += 1
        raise ssl.SSLWantReadError

    async def trickle(talk: hostile.Conversation) -> None:
        await talk.reader.readexactly(8)
        await talk.send(b"S")
        while True:
            await talk.send(b"\x16\x03\x03\0\1\1")
            await asyncio.sleep(0.001)

    monkeypatch.setattr(Encryption, "shake", shake)
    hostile.UNGREETED.add(trickle)
    async with HostileServer(trickle).listen() as server:
        error = await ask(server.target(tls_mode="require"))
    hostile.UNGREETED.discard(trickle)
    assert (error.reason, "records before TLS" in str(error)) == (Reason.ANSWER_REFUSED, True), error
    assert steps <= MOST_HANDSHAKE_RECORDS + 1


async def test_whoever_stands_between_cannot_choose_that_nothing_is_bound(caplog: pytest.LogCaptureFixture) -> None:
    """With a certificate of Ed25519 the client said `n,,`: the true server took a login that went through another."""
    caplog.set_level("INFO")
    certificate, key = keys.make_unbinding()
    async with HostileServer(hostile.answer_nonsense, keys.serve(certificate, key)).listen() as server:
        error = await ask(server.target(tls_mode="require"))
        await asyncio.sleep(0.05)
        assert not server.answers, "not a byte that depends on the password was sent"
        assert error.reason is Reason.PASSWORD_METHOD_WEAK
        assert "connection.tls.caSecretRef" in str(error)
        assert "RSA or ECDSA" in str(error)
        for mode in ("require", "verify-ca", "verify-full"):
            async with connect(server.target(tls_mode=mode, ca_pem=certificate)) as connection:
                await connection.open()
    assert len(server.answers) == 3


async def test_an_answer_that_was_refused_is_not_asked_for_again_at_once() -> None:
    """Each was a new login a second later."""
    dialer = local_dialer()
    async with HostileServer(hostile.answer_nonsense).listen() as server:
        said = {str(await ask(server.target(), dialer)) for _ in range(5)}
        assert (len(said), server.connections) == (1, 1)
        async with connect(server.target(database="other"), dialer) as it:
            await it.open()
        assert server.connections == 2, "another login is tried"
