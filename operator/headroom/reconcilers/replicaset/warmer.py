"""Fills the caches of standbys beside the passes, each run in a task and on connections of its own.

A pass takes what has ended, ends what must not continue, and begins what is due; it never waits.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from headroom.api.v1alpha1.common import Mode
from headroom.errors import HeadroomError, PrimaryUnavailable, Refused
from headroom.model.conditions import Finding
from headroom.model.database import ConnectionTarget, Credentials
from headroom.model.warmup import SHARE_OF_BUFFERS, BlockRange, Warmed, batch
from headroom.policy.replicaset.warmup import WarmupStart, WarmupState, plan_warmup
from headroom.ports.clock import Clock
from headroom.ports.postgres import Postgres, WarmupLink
from headroom.reasons import Reason
from headroom.reconcilers.logins import LOGIN_REASONS
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.memory import SetContext
from headroom.reconcilers.replicaset.prober import reach

logger = logging.getLogger(__name__)

MOST_RUNS = 8
"""At the same time in this process: each has its ranges in memory, 2 MB at most."""
MOST_RUNS_OF_NAMESPACE = 2
"""Servers that do not answer hold a run until its budget is over; those of one namespace must not hold all."""


@dataclass(frozen=True, slots=True)
class Place:
    """A member's server, and how the login for caches reaches it."""

    name: str
    target: ConnectionTarget


@dataclass(slots=True)
class Warmer:
    """Begins and ends the runs of all sets of this process."""

    _running: "dict[asyncio.Task[Warmed], str]" = field(default_factory=dict)
    """The namespace of each."""

    def follow(self, context: SetContext) -> None:
        """Before the actions of a pass: a standby that they put into the Service is not read into any more."""
        states = self._collect(context)
        login = _find_login(context)
        if not isinstance(login, Credentials):
            for name in states if login is not None else ():
                context.handles.members[name].warmup.stop()
            return
        plan = context.decision.plan
        taken = frozenset(plan.activate if plan.needed else ())
        found = plan_warmup(context.decision.members, states, context.spec.readiness, taken, context.now.monotonic)
        for name, why in found.stop.items():
            if context.handles.members[name].warmup.stop():
                logger.info("dbrs/%s in %s: warm-up of %s ended: %s", context.name, context.namespace, name, why)
        if found.start is not None and self._has_room(context.namespace):
            self._begin(context, found.start, login)

    def _collect(self, context: SetContext) -> Mapping[str, WarmupState]:
        """What is known of each member that has a connection, with what has ended since the last pass."""
        states = {}
        for member in context.decision.members:
            pod, known = member.facts.pod, context.handles.members.get(member.name)
            if pod is None or known is None or known.pod_uid != pod.uid:
                continue
            ended = known.warmup.collect(pod.server.restarts, context.now.monotonic)
            if isinstance(ended, Warmed):
                _report(context, member.name, ended)
            elif ended is not None:
                _report_failure(context, member.name, ended)
            states[member.name] = known.warmup.state
        return states

    def _has_room(self, namespace: str) -> bool:
        own = sum(other == namespace for other in self._running.values())
        return len(self._running) < MOST_RUNS and own < MOST_RUNS_OF_NAMESPACE

    def _begin(self, context: SetContext, start: WarmupStart, login: Credentials) -> None:
        standby, source = (_find_place(context, name, login) for name in (start.member, start.source))
        if standby is None or source is None:
            return
        budget = context.spec.warmup.budget.total_seconds()
        run = fill_cache(context.services.postgres, context.services.clock, standby, source, budget)
        task = context.handles.members[start.member].warmup.begin(run)
        self._running[task] = context.namespace
        task.add_done_callback(self._running.pop)


def _find_login(context: SetContext) -> Credentials | Finding | None:
    """The login that fills caches, or why none is filled; None while that is not known. A set says the latter."""
    handles, guard = context.handles, context.spec.database_ref.name
    if not context.spec.warmup.prewarm or context.spec.mode is not Mode.ACTIVE:
        handles.warmup_note = ""
        return Finding(Reason.AS_EXPECTED, "")
    view = context.services.servers.view(context.guard_key)
    if view is None or not view.is_ready:
        return None
    if isinstance(view.warmup, Credentials):
        return view.warmup
    what = view.warmup.message if view.warmup is not None else describe_missing_login(guard)
    handles.warmup_note = f"caches of standbys are not filled: {what}"
    return Finding(Reason.AS_EXPECTED, what)


def describe_missing_login(guard: str) -> str:
    """What a guard without a login for caches lacks."""
    return (
        f"dbg/{guard} has no connection.warmupSecretRef; run headroom-setup.sql with -v warmup=1 and name its login "
        "there, or set warmup.prewarm: false"
    )


def _find_place(context: SetContext, name: str, login: Credentials) -> Place | None:
    pod, target = context.member(name).pod, context.handles.target
    if pod is None or target is None:
        return None
    return Place(name, replace(reach(target, pod), credentials=login))


def _report(context: SetContext, name: str, warmed: Warmed) -> None:
    context.handles.warmup_note = ""
    telemetry, labels = context.services.telemetry, {**context.labels, "member": name}
    telemetry.record(metrics.WARMED_AT, context.now.wall.timestamp(), **labels)
    telemetry.record(metrics.WARMED_BLOCKS, warmed.blocks, **labels)
    telemetry.record(metrics.WARMUP_SECONDS, warmed.seconds, **labels)
    logger.info(
        "dbrs/%s in %s: %d blocks read into the cache of %s in %.1f s, %d ranges skipped%s",
        context.name,
        context.namespace,
        warmed.blocks,
        name,
        warmed.seconds,
        warmed.skipped,
        "" if warmed.is_whole else "; its budget is over",
    )


def _report_failure(context: SetContext, name: str, error: BaseException) -> None:
    """A condition reports what a person can remedy; all else passes, and the next run may succeed."""
    is_login = isinstance(error, PrimaryUnavailable) and error.reason in LOGIN_REASONS
    if isinstance(error, Refused) or is_login:
        context.handles.warmup_note = f"caches of standbys are not filled: {name}: {error}"
    elif isinstance(error, HeadroomError):
        logger.info("dbrs/%s in %s: warm-up of %s failed: %s", context.name, context.namespace, name, error)
    elif not isinstance(error, asyncio.CancelledError):
        logger.error("dbrs/%s in %s: warm-up of %s failed", context.name, context.namespace, name, exc_info=error)


async def fill_cache(postgres: Postgres, clock: Clock, standby: Place, source: Place, budget: float) -> Warmed:
    """Read what is hot at `source` into the cache of `standby`, within `budget` seconds; raises what links raise."""
    began, found = clock.monotonic(), _Progress()
    limit = asyncio.timeout(budget)
    try:
        async with limit:
            await _fill(postgres, standby, source, found)
    except TimeoutError:
        if not limit.expired():
            raise
    return Warmed(found.blocks, found.skipped, clock.monotonic() - began, is_whole=not limit.expired())


@dataclass(slots=True)
class _Progress:
    blocks: int = 0
    skipped: int = 0


async def _fill(postgres: Postgres, standby: Place, source: Place, found: _Progress) -> None:
    link = await postgres.open_warmup(standby.target)
    try:
        most = int(await _count_buffers(link, standby) * SHARE_OF_BUFFERS)
        locked: set[int] = set()
        for ranges in batch(await _read_hot(postgres, source, most)):
            relation = ranges[0].relation
            # One that was locked a moment ago is not waited for again.
            blocks = None if relation in locked else await link.warm(ranges)
            if blocks is None:
                locked.add(relation)
                found.skipped += len(ranges)
            found.blocks += blocks or 0
    finally:
        await link.close()


async def _read_hot(postgres: Postgres, source: Place, most: int) -> tuple[BlockRange, ...]:
    link = await postgres.open_warmup(source.target)
    try:
        await _count_buffers(link, source)
        return await link.read_hot(most)
    finally:
        await link.close()


async def _count_buffers(link: WarmupLink, place: Place) -> int:
    """The size of its cache, once it is known to be this member: another pod may have the address by now."""
    name, buffers = await link.describe()
    if name != place.name:
        message = f"a server named {name!r} answers where {place.name} should"
        raise PrimaryUnavailable(message, reason=Reason.MEMBER_UNREACHABLE)
    return buffers
