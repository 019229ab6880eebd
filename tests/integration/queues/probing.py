"""Opens probes of the procrastinate preset, and takes samples with them."""

from typing import Any

from headroom.adapters.postgres.queues import PostgresQueueProbes
from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.model.queue import QueueQuestion, QueueSample
from headroom.ports.signals import QueueProbe
from tests.integration.queues.conftest import Shop


async def open_probe(shop: Shop, *queues: str, **changes: Any) -> QueueProbe:
    spec = PostgresQueue.model_validate({"preset": "procrastinate", "queues": list(queues), **changes})
    return PostgresQueueProbes().open(spec, await shop.open_queue())


async def take_sample(probe: QueueProbe, at: float = 0.0, *, target: float = 30.0, lead: float = 10.0) -> QueueSample:
    return await probe.sample(QueueQuestion(at, target, lead))
