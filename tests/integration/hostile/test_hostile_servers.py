"""A server that means harm costs its own objects: a bounded amount of memory, a moment, and a reason that says so."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headroom.adapters.postgres.connection import PinnedConnection
from headroom.adapters.postgres.dialer import Dialer
from headroom.adapters.postgres.listener import PinnedListener
from headroom.errors import PrimaryUnavailable
from headroom.model.database import ConnectionTarget
from headroom.reasons import Reason
from tests import hostile_server as hostile
from tests.certificates import Authority
from tests.hostile_server import LOGIN, Handler, HostileServer, run_apart
from tests.postgres_server import local_dialer

DEADLINE = 4.0
MEMORY_MIB = 24
NAME = "headroom/probes/lease/one"


@asynccontextmanager
async def connect(target: ConnectionTarget, dialer: Dialer | None = None) -> AsyncIterator[PinnedConnection]:
    connection = PinnedConnection(target, NAME, dialer=dialer or local_dialer())
    try:
        yield connection
    finally:
        await connection.close()


async def ask(target: ConnectionTarget, dialer: Dialer | None = None) -> PrimaryUnavailable:
    """What comes of one statement."""
    async with connect(target, dialer) as connection:
        with pytest.raises(PrimaryUnavailable) as caught:
            await connection.fetch("SELECT 1 AS value")
    return caught.value


def read_memory() -> dict[str, int]:
    """Now and at most, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value.strip()}
    return {"now": int(found["VmRSS"]) >> 10, "most": int(found["VmHWM"]) >> 10}


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


class Pulse:
    """How late a task of the same loop came, at worst."""

    worst = 0.0

    async def __aenter__(self) -> "Pulse":
        self._task = asyncio.create_task(self._beat())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _beat(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            self.worst = max(self.worst, time.monotonic() - began - 0.01)


@pytest.mark.parametrize(
    ("attack", "reason", "words"),
    [
        (hostile.send_field, Reason.ANSWER_REFUSED, "larger than 1024 KiB"),
        (hostile.send_field_at_once, Reason.ANSWER_REFUSED, "larger than 1024 KiB"),
        (hostile.claim_a_gibibyte, Reason.ANSWER_REFUSED, "larger than 1024 KiB"),
        (hostile.send_rows, Reason.ANSWER_REFUSED, "more than 4000 rows"),
        (hostile.send_notices, Reason.ANSWER_REFUSED, "larger than 1024 KiB"),
        (hostile.send_notifications, Reason.ANSWER_REFUSED, "larger than 1024 KiB"),
        (hostile.send_error, Reason.ANSWER_REFUSED, "larger than 1024 KiB"),
        (hostile.send_parameters, Reason.ANSWER_REFUSED, "before the login was done"),
        (hostile.authenticate_forever, Reason.ANSWER_REFUSED, "before the login was done"),
        (hostile.authenticate_slowly, Reason.PRIMARY_UNREACHABLE, "no PostgreSQL server was reached"),
        (hostile.ask_for_many_rounds, Reason.ANSWER_REFUSED, "rounds of SCRAM"),
        (hostile.drip, Reason.PRIMARY_TIMEOUT, "; see whether it runs, and what loads it"),
        (hostile.copy_out, Reason.ANSWER_REFUSED, "answers nothing that was asked"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_an_answer_is_bounded_in_bytes_and_time(attack: Handler, reason: Reason, words: str) -> None:
    """200 MiB in an error took 1.6 GiB, 20 million rounds of SCRAM more than a minute."""
    with run_apart(attack) as target:
        await ask(replace(target, port=1))  # whatever is loaded once
        forget_peak()
        before, began = read_memory()["now"], time.monotonic()
        async with Pulse() as pulse:
            error = await ask(target)
        took, most = time.monotonic() - began, read_memory()["most"]
    print(f"{attack.__name__}: +{most - before} MiB, {took:.2f} s, loop late by {pulse.worst * 1000:.0f} ms: {error}")
    assert (error.reason, words in str(error)) == (reason, True), error
    assert most - before < MEMORY_MIB
    assert took < DEADLINE
    assert pulse.worst < 0.5


@pytest.mark.parametrize("attack", [hostile.answer_nonsense, hostile.nest_deeply], ids=lambda attack: attack.__name__)
async def test_an_answer_of_another_shape_has_a_reason(attack: Handler) -> None:
    async with HostileServer(attack).listen() as server, connect(server.target()) as connection:
        for _ in range(3):
            with pytest.raises(PrimaryUnavailable) as caught:
                await connection.fetch("SELECT 1 AS value")
            assert caught.value.reason is Reason.ANSWER_REFUSED
            assert "not understood" in str(caught.value)
            assert len(str(caught.value)) < 300


async def test_parameters_that_come_a_little_at_a_time_are_not_kept() -> None:
    """libpq keeps each parameter that it is told: 60 KB an answer is a gibibyte in some hours."""
    with run_apart(hostile.send_parameters_later) as target:
        async with connect(target) as connection:
            for _ in range(20):
                await connection.fetch("SELECT 1 AS value")
            before = read_memory()["now"]
            for _ in range(400):
                await connection.fetch("SELECT 1 AS value")
            grown = read_memory()["now"] - before
    print(f"after 24 MB of parameters: +{grown} MiB")
    assert grown < 8


async def test_words_of_a_server_are_one_line_that_can_be_seen() -> None:
    async with HostileServer(hostile.send_text_in_error).listen() as server:
        error = await ask(server.target())
    assert error.reason is Reason.QUERY_FAILED
    assert str(error).isprintable()
    assert len(str(error)) < 400


async def test_a_listener_is_bounded_as_well() -> None:
    with run_apart(hostile.send_notifications) as target:
        forget_peak()
        before = read_memory()["now"]
        listener = PinnedListener(PinnedConnection(target, "headroom/listener/lease/one", dialer=local_dialer()))
        async with Pulse() as pulse:
            for _ in range(3):
                with pytest.raises(PrimaryUnavailable):
                    await listener.wait(["jobs"], 0.5)
        await listener.close()
        most = read_memory()["most"]
    print(f"listener: +{most - before} MiB, loop late by {pulse.worst * 1000:.0f} ms")
    assert most - before < MEMORY_MIB


@pytest.mark.parametrize("mode", ["disable", "require", "verify-full"])
@pytest.mark.parametrize(
    "attack", [hostile.ask_cleartext, hostile.ask_md5, hostile.ask_nothing], ids=lambda attack: attack.__name__
)
async def test_nothing_weaker_than_scram_is_answered(attack: Handler, mode: str) -> None:
    """With `require` and `verify-full` a server that asked for the password in clear was given it."""
    authority = Authority()
    certificate, changes = make_encryption(authority, mode)
    async with HostileServer(attack, certificate).listen() as server:
        error = await ask(server.target(tls_mode=mode, **changes))
        await asyncio.sleep(0.05)
    assert error.reason is Reason.PASSWORD_METHOD_WEAK
    assert not any(server.answers), "not a byte that depends on the password was sent"


async def test_md5_is_answered_by_intent_and_clear_text_never() -> None:
    async with HostileServer(hostile.ask_md5).listen() as server:
        await ask(server.target(password_method="md5"))
        assert server.answers[0].startswith(b"md5")
    async with HostileServer(hostile.ask_cleartext).listen() as server:
        assert (await ask(server.target(password_method="md5"))).reason is Reason.PASSWORD_METHOD_WEAK
        await asyncio.sleep(0.05)
        assert not any(server.answers)


async def test_a_server_that_does_not_know_the_password_is_not_believed() -> None:
    async with HostileServer(hostile.prove_falsely).listen() as server:
        error = await ask(server.target())
    assert error.reason is Reason.ANSWER_REFUSED
    assert "did not prove" in str(error)
    assert LOGIN.password.encode() not in b"".join(server.answers)


async def test_what_was_said_before_tls_is_not_taken_for_encrypted() -> None:
    async def inject(talk: hostile.Conversation) -> None:
        await talk.reader.readexactly(8)
        await talk.send(b"S" + hostile.message(b"R", b"\0\0\0\0") + hostile.READY)
        await talk.reader.read()

    async with HostileServer(inject).listen() as server:
        hostile.UNGREETED.add(inject)
        error = await ask(server.target(tls_mode="require"))
        hostile.UNGREETED.discard(inject)
    assert error.reason is Reason.PRIMARY_UNREACHABLE


async def closed_port() -> ConnectionTarget:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return hostile.make_target(port)


@pytest.mark.parametrize("mode", ["disable", "require"])
async def test_what_is_behind_an_address_cannot_be_read_from_a_reason(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Closed, silent, SSH or HTTP: one reason and one text, while the operator's log has the cause."""
    caplog.set_level("INFO")
    said: set[tuple[Reason, str]] = set()

    async def stay_silent(talk: hostile.Conversation) -> None:
        await asyncio.sleep(30)

    hostile.UNGREETED.add(stay_silent)
    attacks: list[Handler] = [hostile.greet_as_ssh, hostile.greet_as_http, stay_silent]
    for attack in attacks:
        async with HostileServer(attack).listen() as server:
            error = await ask(server.target(tls_mode=mode))
            said.add((error.reason, str(error).replace(str(server.port), "PORT")))
    closed = await closed_port()
    error = await ask(hostile.make_target(closed.port, tls_mode=mode))
    said.add((error.reason, str(error).replace(str(closed.port), "PORT")))
    hostile.UNGREETED.discard(stay_silent)
    assert len(said) == 1, said
    assert said.pop()[0] is Reason.PRIMARY_UNREACHABLE
    assert "Connection refused" in caplog.text or "Connect call failed" in caplog.text


REFUSALS = {
    ("28P01", 'password authentication failed for user "tenant"'): (Reason.PASSWORD_REJECTED, "the login was refused"),
    ("28000", 'no pg_hba.conf entry for host "10.1.2.3", user "tenant", no encryption'): (
        Reason.PASSWORD_REJECTED,
        "the login was refused",
    ),
    ("53300", "sorry, too many clients already"): (Reason.NO_CONNECTION_LEFT, "no connection left"),
    ("3D000", 'database "secret-name" does not exist'): (Reason.DATABASE_NOT_FOUND, "no such database"),
    ("57P03", "the database system is starting up: secret-name"): (Reason.PRIMARY_UNREACHABLE, "takes no login now"),
}


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal[0])
async def test_a_server_is_not_quoted_before_it_has_proved_itself(
    refusal: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """What PostgreSQL says of itself and of us is in the operator's log: its server may be that of somebody else."""
    caplog.set_level("INFO")
    state, said = refusal

    async def refuse(talk: hostile.Conversation) -> None:
        await talk.send(hostile.message(b"E", f"SFATAL\0VFATAL\0C{state}\0M{said}\0\0".encode()))

    async with HostileServer(refuse).listen() as server:
        error = await ask(server.target())
        member = await ask(server.target(is_member=True))
    reason, words = REFUSALS[refusal]
    assert (error.reason, words in str(error)) == (reason, True), error
    assert said not in str(error)
    assert "10.1.2.3" not in str(error)
    assert "secret-name" not in str(error)
    assert said in caplog.text
    assert (member.reason, said in str(member)) == (reason, True), "no author chooses the address of a replica"


@pytest.mark.parametrize("attack", [hostile.ask_cleartext, hostile.ask_md5, hostile.ask_nothing])
async def test_nor_is_what_it_asks_for(attack: Handler) -> None:
    async with HostileServer(attack).listen() as server:
        said = str(await ask(server.target())).replace(str(server.port), "PORT")
    async with HostileServer(hostile.ask_cleartext).listen() as server:
        assert said == str(await ask(server.target())).replace(str(server.port), "PORT")


async def test_nor_what_is_wrong_with_its_certificate(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    said: set[str] = set()
    authority = Authority()
    for certificate in (authority.serve("elsewhere.example"), Authority().serve("127.0.0.1"), None):
        async with HostileServer(hostile.ask_cleartext, certificate).listen() as server:
            error = await ask(server.target(tls_mode="verify-full", ca_pem=authority.ca_pem))
            assert error.reason is Reason.TLS_FAILED
            said.add(str(error).replace(str(server.port), "PORT"))
    assert len(said) == 1, said
    assert "connection.tls" in said.pop()
    for words in ("IP address mismatch", "unable to get local issuer", "does not support TLS"):
        assert words in caplog.text


async def test_whether_a_host_answers_cannot_be_read_from_a_certificate_of_ones_own() -> None:
    """The list was parsed once the port had accepted a connection."""
    closed = await closed_port()
    async with HostileServer(hostile.ask_nothing).listen() as server:
        broken = {"tls_mode": "verify-ca", "ca_pem": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"}
        for port in (server.port, closed.port):
            error = await ask(hostile.make_target(port, **broken))
            assert error.reason is Reason.TLS_FAILED
            assert "cannot be used" in str(error)
        assert server.connections == 0


async def test_a_server_that_has_proved_itself_has_its_failures_named() -> None:
    """Its own password is what it knows: nobody learns of a host that is not the author's."""
    dialer = local_dialer()
    async with HostileServer(hostile.answer_nonsense).listen() as server:
        target = server.target()
        async with connect(target, dialer) as connection:
            await connection.open()
    refused = await ask(target, dialer)
    assert "127.0.0.1: the connection was refused; check that the server runs" in str(refused)
    elsewhere = await ask(hostile.make_target(target.port, namespace="another"), dialer)
    assert "no PostgreSQL server was reached" in str(elsewhere), "what one namespace proved tells no other"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1", "localhost"])
async def test_the_machine_itself_is_not_connected_to(host: str) -> None:
    async with HostileServer(hostile.ask_cleartext).listen() as server:
        error = await ask(server.target(host=host), Dialer())
        assert server.connections == 0
    assert error.reason is Reason.HOST_NOT_ALLOWED
    assert "policy.hosts" in str(error)


async def test_connections_leave_no_socket_behind() -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    attacks: list[Handler] = [hostile.send_rows, hostile.ask_cleartext, hostile.answer_nonsense, hostile.prove_falsely]
    before = count()
    for attack in attacks:
        async with HostileServer(attack).listen() as server:
            for _ in range(5):
                await ask(server.target())
    await asyncio.sleep(0.1)
    assert count() <= before + 2


def make_encryption(authority: Authority, mode: str) -> tuple[ssl.SSLContext | None, dict[str, Any]]:
    if mode == "disable":
        return None, {}
    return authority.serve("127.0.0.1"), {} if mode == "require" else {"ca_pem": authority.ca_pem}
