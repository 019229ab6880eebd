"""What a pass does with its decision: tell the other guards and the dependents, repair links, sweep slots.

Dropping slots of sets that are gone is the guard's work: the last set of a server may leave one behind, and then no
pass of a set comes by any more.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.errors import Refused, Unavailable
from headroom.model.conditions import Finding
from headroom.model.database import DatabaseView
from headroom.model.replica import SLOT_PATTERN, hash8
from headroom.policy.databaseguard.decide import GuardDecision
from headroom.policy.databaseguard.facts import GuardFacts, GuardMemory
from headroom.ports.kube import REPLICA_SET
from headroom.ports.postgres import SlotLink
from headroom.reasons import Reason
from headroom.reconcilers.context import ReconcileContext, Services
from headroom.reconcilers.databaseguard import metrics
from headroom.reconcilers.databaseguard.memory import SWEEP_SECONDS, GuardHandles
from headroom.reconcilers.logins import LOGIN_REASONS, SECRET_REASONS

logger = logging.getLogger(__name__)

GuardContext = ReconcileContext[DatabaseGuardSpec | None, GuardFacts, GuardDecision, GuardMemory, GuardHandles]


async def apply(context: GuardContext) -> None:
    """Prepare the next pass, then tell everybody who needs the server; the status comes after that."""
    handles, servers, planned = context.handles, context.services.servers, context.memory.server.planned
    servers.sessions.share_turn(handles.uid, context.memory.server.turn.turned_at)
    # Before anything is waited for: the next guard of the namespace must continue this plan.
    if context.decision.is_usable and planned is not None:
        servers.sessions.share_plan(handles.uid, planned)
    await _repair_links(context)
    _record_commits(context)
    servers.post(handles.key, build_view(context), handles.links if context.decision.is_usable else None)


async def _repair_links(context: GuardContext) -> None:
    """Close links that lead astray, read Secrets again that do not serve, let another guard measure."""
    handles, decision, facts = context.handles, context.decision, context.facts
    others = (handles.access.queue, handles.access.warmup) if handles.access is not None else ()
    problems = (decision.finding, facts.replication_problem, *others)
    reasons = {problem.reason for problem in problems if isinstance(problem, Finding)}
    handles.login.read_again(is_due=bool(reasons & (LOGIN_REASONS | SECRET_REASONS)))
    if decision.must_disconnect:
        context.services.servers.sessions.leave(handles.uid)
        await handles.close()
    elif decision.finding is not None and facts.server is None:
        # Without another guard the canary continues: it notices first that the server is back.
        handles.server = None
        if context.services.servers.sessions.leave(handles.uid):
            await handles.step_down()


def _record_commits(context: GuardContext) -> None:
    """Record the commits that another guard's canary timed; our own canary records its commits itself."""
    handles, commits = context.handles, context.facts.window.commits
    has_canary = context.spec is not None and context.spec.canary.enabled
    if context.facts.is_follower and has_canary:
        for commit in commits:
            if commit.ended_at > handles.recorded_until:
                context.services.telemetry.record(metrics.COMMIT_SECONDS, commit.seconds, **context.labels)
    handles.recorded_until = max([handles.recorded_until, *(commit.ended_at for commit in commits[-1:])])


def build_view(context: GuardContext) -> DatabaseView:
    """What dependents may know. Counts, budget and allocations outlast a gap: what is held then may stay. The login is
    known without the server: replicas answer to it although the primary does not.
    """
    decision, access = context.decision, context.handles.access
    slow = decision.thresholds.commit_latency.brownout
    view = DatabaseView(
        context.uid,
        is_ready=decision.is_usable,
        finding=decision.ready_finding,
        observed_at=context.now.monotonic,
        connections=context.memory.server.counts,
        budget=decision.budget,
        allocations=decision.allocations,
        state=str(decision.state),
        are_commits_slow=(decision.commit_seconds or 0.0) >= slow.total_seconds(),
        target=access.target if access is not None else None,
    )
    if not decision.is_usable or access is None:
        return view
    return replace(
        view,
        replication=access.replication,
        queue=access.queue,
        warmup=access.warmup,
        server=context.facts.server,
        marks=decision.marks,
    )


async def sweep(context: GuardContext) -> None:
    """Drop the slots that were found to belong to no set, after the sets were read live.

    What cannot be known (the sets, the lock) drops nothing, and is asked again a minute later.
    """
    slots = context.handles.slots
    if not context.decision.sweep or slots is None:
        return
    try:
        async with asyncio.timeout(SWEEP_SECONDS):
            await _sweep(context, slots)
    except (Refused, Unavailable, TimeoutError) as error:
        why = str(error) or f"it took longer than {SWEEP_SECONDS:g} s"
        logger.info("dbg/%s in %s: no sweep now: %s", context.name, context.namespace, why)


async def _sweep(context: GuardContext, slots: SlotLink) -> None:
    alive = await _live_sets(context.services)
    dropped: list[str] = []
    try:
        for name in context.decision.sweep:
            match = SLOT_PATTERN.fullmatch(name)
            if match is not None and match[2] not in alive and await slots.drop_slot(name):
                dropped.append(name)
    finally:
        _report_swept(context, dropped)


async def _live_sets(services: Services) -> set[str]:
    """The set part of the slot names of all sets there are; raises when that cannot be known."""
    alive: set[str] = set()
    for namespace in services.watch_namespaces or ("",):
        alive |= {hash8(item["metadata"]["uid"]) for item in await services.kube.list(REPLICA_SET, namespace)}
    return alive


def _report_swept(context: GuardContext, dropped: Sequence[str]) -> None:
    if not dropped:
        return
    context.services.servers.invalidate_slots(context.handles.key)
    context.services.telemetry.record(metrics.SLOTS_SWEPT, len(dropped), **context.labels)
    names = ", ".join(dropped)
    logger.info("dbg/%s in %s: swept %s", context.name, context.namespace, names)
    context.emit(Reason.SLOT_LEFT_BEHIND, f"dropped slots of sets that are gone: {names}")
