"""Drops slots of ours whose set is gone for good; any other slot on the primary is never touched."""

from headroom.errors import Refused
from headroom.model.database import SlotFacts
from headroom.model.replica import SLOT_PATTERN, hash8, slot_prefix
from headroom.policy.replicas.timeouts import SWEEP_AFTER
from headroom.ports.kube import REPLICA_SET
from headroom.reasons import Reason
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.run import Run

SWEEP_EVERY_SECONDS = 60.0


async def ensure_swept(run: Run) -> None:
    """Once a minute: our install part, no live set of that uid in any namespace we watch, inactive ten minutes."""
    facts, memory = run.facts, run.facts.memory
    primary = facts.primary
    if primary is None or primary.slots is None:
        return
    if memory.swept_at is not None and facts.gathered_at - memory.swept_at < SWEEP_EVERY_SECONDS:
        return
    memory.swept_at = facts.gathered_at
    found = await primary.link.slots(slot_prefix(facts.services.install_id))
    idle = [slot for slot in found if _is_idle(run, slot)]
    if not idle:
        return
    alive = await _live_sets(run)
    if alive is None:
        return
    for slot in idle:
        match = SLOT_PATTERN.match(slot.name)
        if match is not None and match[2] not in alive and await primary.slots.drop_slot(slot.name):
            run.telemetry.record(metrics.SLOTS_SWEPT, 1, **run.labels)
            run.announce(Reason.SLOT_LEFT_BEHIND, f"slot {slot.name} of a set that is gone was dropped")


def _is_idle(run: Run, slot: SlotFacts) -> bool:
    """Inactive for long: by the server's own count, else by ours."""
    since = run.facts.memory.inactive_since
    if slot.is_active:
        since.pop(slot.name, None)
        return False
    began = since.setdefault(slot.name, run.facts.gathered_at)
    seconds = slot.inactive_seconds if slot.inactive_seconds is not None else run.facts.gathered_at - began
    return seconds >= SWEEP_AFTER.total_seconds()


async def _live_sets(run: Run) -> set[str] | None:
    """The set part of the slot names of all sets there are; None when that cannot be known."""
    alive = {hash8(run.facts.owner.uid)}
    try:
        for namespace in run.facts.services.namespaces or ("",):
            found = await run.reader.list(REPLICA_SET, namespace)
            alive |= {hash8(item["metadata"]["uid"]) for item in found}
    except Refused:
        return None
    return alive
