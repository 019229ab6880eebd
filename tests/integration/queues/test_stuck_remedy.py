"""What the message of a stuck head says is run on the server as it stands there: a worker can take the item then."""

import pytest

from headroom.model.queue import QueueSample
from headroom.policy.workerpool.heads import HeadMemory, leave_out_stuck, watch_heads
from headroom.ports.signals import QueueProbe
from headroom.reconcilers.workerpool.signal_words import describe_stuck
from tests.integration.queues.conftest import Shop
from tests.integration.queues.probing import open_probe, take_sample
from tests.integration.queues.test_blockers import JOBS, end_prepared, session

pytestmark = pytest.mark.postgres
TARGET_SECONDS = 30.0


async def watch(probe: QueueProbe, began_at: float) -> QueueSample:
    """The sample of a pass that has watched the head for half a minute."""
    memory = HeadMemory()
    for at in range(0, 35, 5):
        sample = await take_sample(probe, began_at + at)
        memory = watch_heads(memory, sample)
    return leave_out_stuck(sample, memory, TARGET_SECONDS)


async def test_ending_the_transaction_that_the_message_names_frees_the_item(shop: Shop) -> None:
    (first, *_) = shop.defer(3, ago=100.0)
    probe = await open_probe(shop, "commands")
    worker = shop.register_worker()
    async with session(shop, "a forgotten window") as holder:
        await holder.execute(f"SELECT id FROM {JOBS} WHERE id = {first} FOR UPDATE")
        sample = await watch(probe, 0.0)
        text = describe_stuck(sample)
        assert text.startswith(f"no worker can take item {first}: transaction ")
        assert first not in shop.claim(1, worker)
        shop.server.sql(text.partition("end it with ")[2])
        sample = await watch(probe, 100.0)
        assert sample.stuck == ()
        assert first in shop.claim(1, worker)


async def test_ending_the_prepared_transaction_that_the_message_names_frees_the_item(shop: Shop) -> None:
    shop.server.settings["max_prepared_transactions"] = "4"
    shop.server.restart()
    (first, *_) = shop.defer(3, ago=100.0)
    probe = await open_probe(shop, "commands")
    worker = shop.register_worker()
    async with session(shop, "a transfer") as holder:
        await holder.execute(f"SELECT id FROM {JOBS} WHERE id = {first} FOR UPDATE")
        await holder.execute("PREPARE TRANSACTION 'transfer 1'")
    sample = await watch(probe, 0.0)
    assert sample.stuck[0].is_prepared
    end_prepared(shop, describe_stuck(sample))
    sample = await watch(probe, 100.0)
    assert sample.stuck == ()
    assert first in shop.claim(1, worker)
