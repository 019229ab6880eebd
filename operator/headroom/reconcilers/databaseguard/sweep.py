"""Drops slots of ours whose set is gone for good; any other slot on the server is never touched.

It is the guard's work: a slot may be left behind by the last set there was, and then no set's pass comes by any more.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from headroom.errors import Refused, Unavailable
from headroom.model.database import SlotFacts
from headroom.model.replica import SLOT_PATTERN, hash8, slot_prefix
from headroom.policy.replicaset.timeouts import SWEEP_AFTER
from headroom.ports.clock import Clock
from headroom.ports.kube import REPLICA_SET, KubeReader, Manifest
from headroom.ports.postgres import PrimaryLink, SlotLink
from headroom.ports.telemetry import Telemetry
from headroom.reasons import Reason
from headroom.reconcilers.databaseguard import metrics
from headroom.reconcilers.databaseguard.holding import Holding

logger = logging.getLogger(__name__)

SWEEP_EVERY_SECONDS = 60.0
SWEEP_SECONDS = 5.0
"""Whatever a sweep waits for, the guard's next look must not come late: sets take an old one for none."""


@dataclass(frozen=True, slots=True)
class Sweeper:
    """`install_id` is this installation's part of slot names; `namespaces` are watched, none means all."""

    kube: KubeReader
    clock: Clock
    telemetry: Telemetry
    install_id: str
    namespaces: tuple[str, ...] = ()

    async def ensure_swept(self, holding: Holding, body: Manifest) -> None:
        """Once a minute: our install part, no live set of that uid in any namespace we watch, inactive ten minutes.

        What cannot be known (the slots, the sets, the lock) drops nothing, and is asked again a minute later.
        """
        now = self.clock.monotonic()
        is_early = holding.swept_at is not None and now - holding.swept_at < SWEEP_EVERY_SECONDS
        if holding.link is None or holding.slots is None or is_early:
            return
        holding.swept_at = now
        try:
            async with asyncio.timeout(SWEEP_SECONDS):
                await self._sweep(holding, holding.link, holding.slots, body)
        except (Refused, Unavailable, TimeoutError) as error:
            why = str(error) or f"it took longer than {SWEEP_SECONDS:g} s"
            logger.info("dbg/%s in %s: no sweep now: %s", holding.name, holding.namespace, why)

    async def _sweep(self, holding: Holding, link: PrimaryLink, slots: SlotLink, body: Manifest) -> None:
        # The slots first: a set makes its slots after itself, so that none is seen here without its set below.
        found = await link.slots(slot_prefix(self.install_id))
        idle = pick_idle(holding, found, self.clock.monotonic())
        if not idle:
            return
        alive = await self._live_sets()
        dropped: list[str] = []
        try:
            for name in idle:
                match = SLOT_PATTERN.match(name)
                if match is not None and match[2] not in alive and await slots.drop_slot(name):
                    dropped.append(name)
        finally:
            self._say(holding, body, dropped)

    async def _live_sets(self) -> set[str]:
        """The set part of the slot names of all sets there are; raises when that cannot be known."""
        alive: set[str] = set()
        for namespace in self.namespaces or ("",):
            alive |= {hash8(item["metadata"]["uid"]) for item in await self.kube.list(REPLICA_SET, namespace)}
        return alive

    def _say(self, holding: Holding, body: Manifest, dropped: Sequence[str]) -> None:
        if not dropped:
            return
        labels = {"namespace": holding.namespace, "name": holding.name}
        self.telemetry.record(metrics.SLOTS_SWEPT, len(dropped), **labels)
        names = ", ".join(dropped)
        logger.info("dbg/%s in %s: swept %s", holding.name, holding.namespace, names)
        self.telemetry.event(body, Reason.SLOT_LEFT_BEHIND, f"dropped slots of sets that are gone: {names}")


def pick_idle(holding: Holding, found: Sequence[SlotFacts], now: float) -> list[str]:
    """Names of slots that were inactive for long: by the server's own count, else by ours; `now` is monotonic."""
    inactive = [slot for slot in found if not slot.is_active]
    holding.inactive_since = {slot.name: holding.inactive_since.get(slot.name, now) for slot in inactive}
    since, limit = holding.inactive_since, SWEEP_AFTER.total_seconds()
    return [slot.name for slot in inactive if slot.idle_seconds(now - since[slot.name]) >= limit]
