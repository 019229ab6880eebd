"""Names are resolved without blocking, connections go to addresses that were checked, a namespace waits for itself."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest

from headroom.adapters.network import (
    AresResolver,
    HostNotAllowed,
    HostNotFound,
    Network,
    NotReached,
    NoTurn,
    Peer,
    dialing,
)
from headroom.adapters.network import api_server as api
from headroom.adapters.network.api_server import ApiServer
from headroom.adapters.network.dialing import MOST_DIALS, MOST_FILES, MOST_LOOKUPS, MOST_SLOW_DIALS, raise_file_limit
from headroom.policy.hosts import HostPolicy, parse_host_rules

ANYWHERE = parse_host_rules(["0.0.0.0/0", "::/0", "127.0.0.0/8", "::1"], "tests")


class NameServer(asyncio.DatagramProtocol):
    """Answers A questions from a table, says that all other names do not exist, and nothing at all about *.silent."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names, self.asked = dict(names), []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += data[at] + 1
        kind, name = struct.unpack("!H", data[at + 1 : at + 3])[0], ".".join(labels)
        self.asked.append(name)
        if name.endswith("silent"):
            return
        question, address = data[12 : at + 5], self.names.get(name)
        flags = 0x8180 if address else 0x8183
        has_answer = address is not None and kind == 1
        header = data[:2] + struct.pack("!HHHHH", flags, 1, int(has_answer), 0, 0)
        answer = (
            b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + bytes(map(int, address.split("."))) if has_answer else b""
        )
        self.transport.sendto(header + question + answer, addr)


@asynccontextmanager
async def serve_names(**names: str) -> AsyncIterator[tuple[Network, NameServer]]:
    table = {name.replace("_", "."): address for name, address in names.items()}
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(table), ("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    resolver = AresResolver([f"127.0.0.1:{port}"])
    try:
        yield Network(HostPolicy(allow=ANYWHERE), resolver), server
    finally:
        await resolver.close()
        transport.close()


async def look_up(network: Network, host: str, namespace: str = "shop") -> tuple[str, ...]:
    return await network.find_addresses(Peer(host, 5432, namespace))


async def test_a_name_is_resolved_and_an_unknown_one_is_said() -> None:
    async with serve_names(db_example="10.0.0.7") as (network, _):
        assert await look_up(network, "db.example") == ("10.0.0.7",)
        with pytest.raises(HostNotFound, match="no host of this name"):
            await look_up(network, "other.example")


async def test_an_address_needs_no_name_server() -> None:
    network = Network(HostPolicy())
    assert await look_up(network, "10.0.0.7") == ("10.0.0.7",)
    assert await look_up(network, "2001:db8::1") == ("2001:db8::1",)


async def test_names_of_one_namespace_that_never_answer_delay_no_other() -> None:
    """Six of them made a healthy host time out while look-ups shared the threads of the process."""
    async with serve_names(db_example="10.0.0.7") as (network, _):
        began = time.monotonic()
        await look_up(network, "db.example", "healthy")
        alone = time.monotonic() - began
        hostile = [asyncio.create_task(look_up(network, f"n{number}.silent", "hostile")) for number in range(60)]
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await look_up(network, "db.example", "healthy")
        beside = time.monotonic() - began
        print(f"look-up alone {alone * 1000:.1f} ms, beside 60 silent names {beside * 1000:.1f} ms")
        assert not any(task.done() for task in hostile)
        assert beside < 0.5
        for task in hostile:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*hostile)


async def test_a_silent_name_ends_within_its_deadline() -> None:
    async with serve_names() as (network, _):
        began = time.monotonic()
        with pytest.raises(HostNotFound, match="no name server answers"):
            await look_up(network, "n.silent")
        assert time.monotonic() - began < 4


async def test_a_namespace_resolves_few_names_at_a_time() -> None:
    class Counting:
        now = most = 0

        async def resolve(self, host: str) -> tuple[str, ...]:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.01)
            self.now -= 1
            return ("10.0.0.7",)

    resolver = Counting()
    network = Network(HostPolicy(), resolver)
    await asyncio.gather(*(look_up(network, f"n{number}", "shop") for number in range(30)))
    assert resolver.most == MOST_LOOKUPS
    resolver.most = 0
    await asyncio.gather(*(look_up(network, f"n{number}", f"ns{number % 5}") for number in range(30)))
    assert resolver.most == 5 * MOST_LOOKUPS


async def test_a_namespace_opens_few_connections_at_a_time() -> None:
    network, now, most = Network(HostPolicy()), 0, 0

    async def dial() -> None:
        nonlocal now, most
        async with network.turn(Peer("db", 5432, "shop")):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.01)
            now -= 1

    await asyncio.gather(*(dial() for _ in range(3 * MOST_DIALS)))
    assert most == MOST_DIALS


async def test_hosts_that_never_answer_leave_places_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 of them, tried again and again, took all 16 places: a healthy host was `not reached`."""
    monkeypatch.setattr(dialing, "SLOW_SECONDS", 0.05)
    monkeypatch.setattr(dialing, "TURN_SECONDS", 0.3)
    network = Network(HostPolicy())

    async def dial(host: str, seconds: float) -> None:
        async with network.turn(Peer(host, 5432, "shop")):
            await asyncio.sleep(seconds)
            raise TimeoutError

    async def retry(host: str) -> None:
        while True:
            with suppress(TimeoutError, NoTurn):
                await dial(host, 0.1)

    silent = [asyncio.create_task(retry(f"n{number}")) for number in range(40)]
    await asyncio.sleep(0.5)
    waited = []
    for number in range(20):
        began = time.monotonic()
        async with network.turn(Peer(f"healthy{number % 2}", 5432, "shop")):
            waited.append(time.monotonic() - began)
        await asyncio.sleep(0.01)
    for task in silent:
        task.cancel()
    await asyncio.gather(*silent, return_exceptions=True)
    print(f"waited for a turn beside 40 silent hosts: {max(waited) * 1000:.1f} ms")
    assert max(waited) < 0.1
    assert MOST_SLOW_DIALS < MOST_DIALS


async def test_who_waits_for_a_turn_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "TURN_SECONDS", 0.1)
    network, end = Network(HostPolicy()), asyncio.Event()

    async def hold(number: int) -> None:
        async with network.turn(Peer(f"n{number}", 5432, "shop")):
            await end.wait()

    holders = [asyncio.create_task(hold(number)) for number in range(MOST_DIALS)]
    await asyncio.sleep(0)
    with pytest.raises(NoTurn):
        async with network.turn(Peer("db", 5432, "shop")):
            pass
    async with network.turn(Peer("db", 5432, "another")):
        pass
    end.set()
    await asyncio.gather(*holders)
    async with network.turn(Peer("db", 5432, "shop")):
        pass


async def test_the_api_server_is_refused_by_what_its_names_lead_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some clusters give pods its name instead of its address."""
    monkeypatch.setattr(api, "AGAIN_SECONDS", 0.0)
    async with serve_names(api_example="10.96.0.1", db_example="10.96.0.1", other_example="10.96.0.2") as (
        network,
        names,
    ):
        network.api_server = ApiServer(("silent.example", "api.example"))
        for host in ("10.96.0.1", "db.example", "::ffff:10.96.0.1"):
            with pytest.raises(HostNotAllowed):
                await look_up(network, host)
        assert await look_up(network, "other.example") == ("10.96.0.2",)
        names.names |= {"api.example": "10.96.0.2"}
        for _ in range(50):
            try:
                await look_up(network, "10.96.0.2")
            except HostNotAllowed:
                break
            await asyncio.sleep(0.02)
        else:
            pytest.fail("a new address is found while the process runs")
        del names.names["api.example"]
        await asyncio.sleep(0.05)
        with pytest.raises(HostNotAllowed):
            await look_up(network, "10.96.0.2")
        await end_look_up(network)


async def test_a_name_server_that_is_silent_about_the_api_server_delays_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "FIRST_SECONDS", 0.2)
    async with serve_names() as (network, _):
        network.api_server = ApiServer(("api.silent",))
        began = time.monotonic()
        assert await look_up(network, "10.0.0.7") == ("10.0.0.7",)
        assert time.monotonic() - began < 1
        await end_look_up(network)


async def end_look_up(network: Network) -> None:
    asking = network.api_server._asking
    assert asking is not None
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking


async def test_a_name_that_leads_to_the_machine_itself_is_refused() -> None:
    async with serve_names(inner_example="127.0.0.1", meta_example="169.254.169.254") as (network, _):
        network.policy = HostPolicy()
        for host in ("inner.example", "meta.example", "127.0.0.1", "169.254.169.254", "localhost"):
            with pytest.raises(HostNotAllowed):
                await look_up(network, host)


async def test_a_name_is_checked_anew_and_the_checked_address_is_connected_to() -> None:
    """A name server that answers differently the second time leads nobody to another address."""
    reached: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(writer.get_extra_info("sockname")[0])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, serve_names(db_example="127.0.0.1") as (network, names):
        addresses = await look_up(network, "db.example")
        names.names["db.example"] = "169.254.169.254"
        connection, address = await network.connect(addresses, port)
        connection.close()
        await asyncio.sleep(0.05)
        assert (address, reached) == ("127.0.0.1", ["127.0.0.1"])
        assert names.asked.count("db.example") <= 2, "one question for each family of addresses"
        network.policy = HostPolicy()
        with pytest.raises(HostNotAllowed):
            await look_up(network, "db.example")


async def test_a_closed_port_and_a_silent_one_end_within_the_deadline() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    network = Network(HostPolicy(allow=ANYWHERE))
    with pytest.raises(NotReached) as caught:
        await network.connect(("127.0.0.1",), port)
    assert not caught.value.is_silent


def test_as_many_files_are_opened_as_the_container_may(monkeypatch: pytest.MonkeyPatch) -> None:
    for limits, expected in {
        (1024, 524_288): (MOST_FILES, 524_288),
        (1024, 4096): (4096, 4096),
        (1_048_576, 1_048_576): None,
        (1024, -1): (MOST_FILES, -1),
        (-1, -1): None,
    }.items():
        seen: list[tuple[int, int]] = []
        monkeypatch.setattr("resource.getrlimit", lambda _kind, limits=limits: limits)
        monkeypatch.setattr("resource.setrlimit", lambda _kind, wanted, seen=seen: seen.append(wanted))
        raise_file_limit()
        assert seen == ([expected] if expected else [])
