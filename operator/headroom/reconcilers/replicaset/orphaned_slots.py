"""The slots that a set has on its primary, as far as they are known when the primary cannot be asked."""

import logging
from collections.abc import Iterable
from contextlib import suppress

from headroom.errors import Unavailable
from headroom.model.replica import ANY_SLOT_PREFIX, MemberId, slot_prefix
from headroom.reasons import Reason
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.facts import SetFacts
from headroom.reconcilers.replicaset.run import Run

logger = logging.getLogger(__name__)


def remember_slots(facts: SetFacts) -> None:
    """Keep the names for the time when pods and claims are gone: what the primary says, else every member's."""
    if facts.primary is not None:
        facts.memory.slot_names = {member.slot_name for member in facts.members if member.slot is not None}
    else:
        facts.memory.slot_names |= {member.slot_name for member in facts.members}


def known_slots(facts: SetFacts) -> set[str]:
    """Names as last seen by this process; one that never saw the primary goes by the members in status too."""
    if facts.memory.has_seen_primary:
        return set(facts.memory.slot_names)
    entries = (facts.body.get("status") or {}).get("members") or ()
    ids = (MemberId.parse_object(facts.owner.name, str(entry.get("name"))) for entry in entries)
    return facts.memory.slot_names | {
        member.slot_name(facts.services.install_id, facts.owner.uid) for member in ids if member is not None
    }


def is_found_again(facts: SetFacts, slot_name: str) -> bool:
    """An installation of another name may have made it: then nothing but the member's claim tells its name."""
    return slot_name.startswith(slot_prefix(facts.services.install_id, facts.owner.uid))


def may_have_slots(facts: SetFacts) -> bool:
    """The primary's identity is written down before the first slot is made, so that this is never wrongly false."""
    return "systemIdentifier" in (facts.body.get("status") or {}) or bool(known_slots(facts))


async def say_what_is_left(run: Run, why: str) -> None:
    """One event with the names, one in the log that is never cut short, and a count that outlives the set."""
    names = await _find_left(run)
    if names or (run.facts.primary is None and may_have_slots(run.facts)):
        message = _describe(run, sorted(names))
        logger.warning("dbrs/%s in %s: %s", run.facts.owner.name, run.facts.owner.namespace, message)
        labels = {"namespace": run.facts.owner.namespace, "guard": run.facts.spec.database_ref.name}
        run.telemetry.record(metrics.SLOTS_LEFT, max(len(names), 1), **labels)
        run.announce(Reason.SLOT_LEFT_BEHIND, message, "Warning")
    run.announce(Reason.ABANDONED, f"the finalizer was released early: {why}", "Warning")


async def _find_left(run: Run) -> set[str]:
    """What this pass could not drop; asked of the primary where it answers."""
    names = known_slots(run.facts)
    if run.facts.primary is not None:
        with suppress(Unavailable):
            names &= {slot.name for slot in await run.facts.primary.link.slots(ANY_SLOT_PREFIX)}
    return names


def _describe(run: Run, names: Iterable[str]) -> str:
    prefix = slot_prefix(run.facts.services.install_id, run.facts.owner.uid)
    which = ", ".join(names)
    are_left = f"are left on the primary: {which}" if which else "may be left on the primary"
    return f"slots that begin with {prefix} {are_left}; they are swept later, else drop them by hand"
