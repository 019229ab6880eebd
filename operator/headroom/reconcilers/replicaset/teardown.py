"""The deletion of a set: pods, slots, claims and snapshots go; what cannot go in time is reported and abandoned."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from headroom.api.v1alpha1 import parse_spec
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.api.v1alpha1.serving import VolumeRetention
from headroom.errors import InvalidSpec, Unavailable
from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Finding
from headroom.model.replica import slot_prefix
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.snapshot_anchors import Removal
from headroom.policy.replicaset.teardown import TeardownDecision, decide_teardown, may_have_slots
from headroom.ports.kube import Manifest
from headroom.reasons import Reason
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.actions.reserve import LATE_SECONDS
from headroom.reconcilers.replicaset.actions.retire import has_copy, mark_claim, release_claim, remove_member
from headroom.reconcilers.replicaset.actions.snapshot import drop_anchor, release_snapshot
from headroom.reconcilers.replicaset.memory import SetContext

logger = logging.getLogger(__name__)

COME_BACK = timedelta(milliseconds=500)
NEEDED = ("databaseRef", "drain", "retention", "routing")
PLACEHOLDERS: Mapping[str, Any] = {
    "databaseRef": {"name": "headroom-unreadable"},
    "image": "none",
    "storage": {"size": "1Gi"},
}
"""Never acted on: a teardown creates nothing."""
CAREFUL: Mapping[str, Any] = {"volumes": VolumeRetention.RETAIN.value}


def read_for_teardown(body: Manifest) -> ReplicaSetSpec:
    """The spec if it can be read, else each needed part by itself; volumes are kept if nothing else is known."""
    try:
        return parse_spec(ReplicaSetSpec, body)
    except InvalidSpec:
        return parse_spec(ReplicaSetSpec, {"spec": _read_parts(body.get("spec"))})


def _read_parts(given: object) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        return {**PLACEHOLDERS, "retention": CAREFUL}
    parts = {name: given[name] for name in NEEDED if name in given}
    readable = {name: part for name, part in parts.items() if _is_readable(name, part)}
    if "retention" in parts and "retention" not in readable:
        readable["retention"] = CAREFUL
    return {**PLACEHOLDERS, **readable}


def _is_readable(name: str, part: object) -> bool:
    try:
        parse_spec(ReplicaSetSpec, {"spec": {**PLACEHOLDERS, name: part}})
    except InvalidSpec:
        return False
    return True


async def teardown_pass(context: SetContext) -> tuple[timedelta | None, TeardownDecision]:
    """One pass; None when the finalizer may go."""
    decision = decide_teardown(context.spec, context.facts, context.memory, context.now)
    if decision.hold is not None:
        if context.condition(ConditionType.READY).get("message") != decision.message:
            context.emit(decision.hold.reason, decision.message, "Warning")
        return COME_BACK, decision
    for member in context.decision.members:
        await context.attempt(_remove(context, member.facts, decision))
    await context.attempt(_remove_snapshots(context))
    if decision.is_over:
        return (COME_BACK if _is_awaited(context) else None), decision
    if decision.gives_up:
        await _report_what_is_left(context, decision.gives_up)
        return None, decision
    return COME_BACK, decision


async def _remove(context: SetContext, member: Member, decision: TeardownDecision) -> None:
    """The claim need not wait for a slot that cannot be dropped now: the slot is found again by its own name.

    A claim to retain loses its owner first: if the finalizer goes early, the garbage collector must not delete it.
    """
    is_blind, gives_up = context.facts.primary is None, bool(decision.gives_up)
    if is_blind and not gives_up and (decision.is_settling or not _is_found_again(context, member.slot_name)):
        await remove_member(context, member)
        return
    is_retained = context.spec.retention.volumes is VolumeRetention.RETAIN and has_copy(member)
    if member.claim is not None and is_retained:
        await release_claim(context, member.claim, is_kept=True)
        member = replace(member, claim=None)
    if member.claim is not None and member.claim.retire is None and not member.claim.is_deleting:
        await mark_claim(context, member, Reason.DELETING, is_kept=False)
    await remove_member(context, member, must_drop_slot=not gives_up and not is_blind)


async def _remove_snapshots(context: SetContext) -> None:
    """Those that can be restored are retained if volumes are; their WAL is not."""
    is_retained = context.spec.retention.volumes is VolumeRetention.RETAIN
    for snapshot in context.facts.snapshots or ():
        if not snapshot.is_deleting:
            await release_snapshot(context, snapshot, is_kept=is_retained and snapshot.is_whole)
    link = context.slot_link
    if link is None:
        return
    for anchor in context.facts.anchors:
        await drop_anchor(context, link, Removal(anchor.name, Finding(Reason.DELETING, "its set is being deleted")))


def _is_awaited(context: SetContext) -> bool:
    """Whether the primary may still create a slot that this process asked for: nobody would drop it afterwards."""
    now = context.services.clock.monotonic()
    return any(now - asked_at < LATE_SECONDS for asked_at in context.handles.unanswered.values())


def _is_found_again(context: SetContext, slot_name: str) -> bool:
    """Whether a prefix of ours finds it. If an installation with another name created it, only the claim names it."""
    services = context.services
    return slot_name.startswith(_find_prefixes(context, (services.install_id, *services.former_ids)))


def _find_prefixes(context: SetContext, ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(slot_prefix(each, context.uid) for each in ids)


async def _report_what_is_left(context: SetContext, why: str) -> None:
    """One event with the names, one line in the log that is never cut short, and a count that outlives the set."""
    names = await _find_left(context)
    if names or (context.facts.primary is None and may_have_slots(context.memory)):
        message = _describe_left(context, sorted(names))
        logger.warning("dbrs/%s in %s: %s", context.name, context.namespace, message)
        labels = {"namespace": context.namespace, "guard": context.spec.database_ref.name}
        context.services.telemetry.record(metrics.SLOTS_LEFT, max(len(names), 1), **labels)
        context.emit(Reason.SLOT_LEFT_BEHIND, message, "Warning")
    context.emit(Reason.ABANDONED, f"the finalizer was released early: {why}", "Warning")


async def _find_left(context: SetContext) -> frozenset[str]:
    """What this pass could not drop; asked of the primary if it answers."""
    names, servers = context.memory.slot_names, context.services.servers
    if context.facts.primary is not None:
        servers.invalidate_slots(context.guard_key)
        with suppress(Unavailable):
            names &= {slot.name for slot in await servers.read_slots(context.guard_key)}
    return names


def _describe_left(context: SetContext, names: Sequence[str]) -> str:
    """Those that are swept, then those that nobody sweeps; while the primary does not answer, not all may be known."""
    services, is_blind = context.services, context.facts.primary is None
    swept = _find_prefixes(context, services.swept_ids)
    others = _find_prefixes(context, (each for each in services.former_ids if each not in services.swept_ids))
    rest = [name for name in names if not name.startswith(others)] if others else list(names)
    parts = []
    if rest or is_blind:
        parts.append(f"{_describe_slots(swept, rest)}; they are swept later, else drop them by hand")
    kept = sorted({*names} - {*rest})
    if kept or (others and is_blind and not names):
        remedy = "drop them by hand, since nobody sweeps them while watchNamespaces is set"
        parts.append(f"{_describe_slots(others, kept)}; {remedy}")
    return "; ".join(parts)


def _describe_slots(prefixes: Iterable[str], names: Iterable[str]) -> str:
    listed = ", ".join(names)
    are_left = f"are left on the primary: {listed}" if listed else "may be left on the primary"
    return f"slots that begin with {' or '.join(prefixes)} {are_left}"
