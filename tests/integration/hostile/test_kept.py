"""What stays of a hostile server's answers, and what its answers and notifications cost the others."""

import asyncio
import gc
import time
from dataclasses import replace

import pytest

from headroom.adapters.clock import SystemClock
from headroom.adapters.postgres import PsycopgPostgres, SessionNames
from headroom.adapters.postgres.connection import PinnedConnection
from headroom.adapters.postgres.listener import PinnedListener
from headroom.errors import PrimaryUnavailable
from headroom.reasons import Reason
from tests import hostile_server as hostile
from tests.hostile_server import Handler, run_apart
from tests.integration.hostile.test_hostile_servers import NAME, Pulse, ask, read_memory
from tests.postgres_server import local_dialer

GUARDS = 24
MOST_MIB_EACH = 1.0
LISTENERS = 16
LATE = (Reason.PRIMARY_TIMEOUT, Reason.PRIMARY_UNREACHABLE)


class OpenFence:
    def check(self, timeout_seconds: float) -> None:
        pass


@pytest.mark.parametrize("attack", [hostile.answer_with_crowds, hostile.answer_within_bounds], ids=lambda a: a.__name__)
async def test_what_a_guard_keeps_of_answers_is_bounded(attack: Handler) -> None:
    """Names that nobody asked for took 18.5 MiB for each guard, and 24 guards of one namespace the whole operator."""
    postgres = PsycopgPostgres(SessionNames("lease", "one"), OpenFence(), SystemClock(), dialer=local_dialer())
    links, kept, refused = [], [], set()
    with run_apart(attack) as target:
        await ask(replace(target, port=1))  # whatever is loaded once
        gc.collect()
        before, used = read_memory()["now"], time.process_time()
        for _ in range(GUARDS):
            try:
                link = await postgres.open_primary(target)
            except PrimaryUnavailable as error:
                refused.add(error.reason)
                continue
            links.append(link)
            kept.append((await link.identify(), await link.connections(), await link.slots("slot")))
        gc.collect()
        grown, each = read_memory()["now"] - before, (time.process_time() - used) / GUARDS
        for link in links:
            await link.close()
    print(f"{attack.__name__}: {len(links)} guards +{grown} MiB, each {each:.3f} s of processor")
    assert grown < GUARDS * MOST_MIB_EACH
    if attack is hostile.answer_with_crowds:
        assert (links, refused) == ([], {Reason.ANSWER_REFUSED})
    else:
        assert len(kept) == GUARDS
        facts, counts, slots = kept[0]
        assert (len(facts.settings), len(counts.databases), len(slots)) == (0, 500, 500)
        assert max(map(len, counts.roles)) <= 63


async def test_a_number_without_end_is_no_number() -> None:
    postgres = PsycopgPostgres(SessionNames("lease", "one"), OpenFence(), SystemClock(), dialer=local_dialer())
    with run_apart(hostile.answer_with_endless_digits) as target:
        began = time.monotonic()
        with pytest.raises(PrimaryUnavailable) as caught:
            await postgres.open_primary(target)
    assert (caught.value.reason, time.monotonic() - began < 3.0) == (Reason.ANSWER_REFUSED, True)


async def test_floods_of_notifications_end() -> None:
    """Messages of five bytes for 16 listeners made the loop 100 ms late for as long as they came."""
    dialer = local_dialer()

    async def listen(target: hostile.ConnectionTarget) -> PrimaryUnavailable:
        listener = PinnedListener(PinnedConnection(target, "headroom/listener/lease/one", dialer=dialer, hears=True))
        try:
            while True:
                await listener.wait(["jobs"], 1.0)
        except PrimaryUnavailable as error:
            return error
        finally:
            await listener.close()

    with run_apart(hostile.notify_for_ever) as target:
        used = time.process_time()
        async with Pulse() as pulse:
            errors = await asyncio.wait_for(asyncio.gather(*(listen(target) for _ in range(LISTENERS))), 20)
        used = time.process_time() - used
    print(f"{LISTENERS} floods: {used:.2f} s of processor, the loop late by {pulse.worst * 1000:.0f} ms: {errors[0]}")
    assert {error.reason for error in errors} == {Reason.ANSWER_REFUSED}
    assert "notifications at once" in str(errors[0])
    assert used < LISTENERS * 0.2


async def test_namespaces_that_hold_large_answers_refuse_no_other_its_own() -> None:
    """Three namespaces took all the room there was, and a fourth was told to check its own server."""
    dialer = local_dialer()

    async def hold(target: hostile.ConnectionTarget) -> None:
        while True:
            try:
                await ask(target, dialer)
            except AssertionError:
                continue

    with run_apart(hostile.stop_in_a_row) as evil, run_apart(hostile.answer_largely) as sane:
        tasks = [
            asyncio.create_task(hold(hostile.make_target(evil.port, namespace=f"evil-{at % 4}"))) for at in range(80)
        ]
        await asyncio.sleep(3)
        connection = PinnedConnection(hostile.make_target(sane.port, namespace="shop"), NAME, dialer=dialer)
        answered = 0
        for _ in range(10):
            try:
                await connection.fetch("SELECT 1 AS value", seconds=10)
                answered += 1
            except PrimaryUnavailable as error:
                # A busy machine may be late. A refusal would be the doing of the others.
                if error.reason not in LATE:
                    raise
            await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await connection.close()
    print(f"{answered} of 10 answered")
    assert answered
