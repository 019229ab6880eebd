"""What one pass observes of a guard's server: logins, links, identity, counts.

Nothing that the server, the Secrets or the API server can cause is raised: it becomes the problem of the facts.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from headroom.api.v1alpha1.common import LocalRef
from headroom.api.v1alpha1.connection import PrimaryConnection
from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.errors import PrimaryUnavailable, Refused, Unavailable
from headroom.model.conditions import Finding
from headroom.model.database import Credentials, ServerFacts
from headroom.model.replica import hash8, slot_prefix
from headroom.policy.databaseguard.decide import find_mismatch, is_sweep_due
from headroom.policy.databaseguard.facts import GuardFacts, GuardMemory, Observation, limits_of, sees_sessions
from headroom.policy.databaseguard.identity import ACCEPT_ANNOTATION, ServerId, identify_server, is_same_server
from headroom.policy.databaseguard.membership import Membership
from headroom.ports.kube import REPLICA_SET, Manifest
from headroom.ports.postgres import PrimaryLink
from headroom.reasons import Reason
from headroom.reconcilers.context import Services
from headroom.reconcilers.databaseguard.memory import SWEEP_SECONDS, Access, GuardHandles
from headroom.reconcilers.logins import SecretReader, qualify_host
from headroom.reconcilers.sessions import FRESH_SECONDS, Standing

logger = logging.getLogger(__name__)

FIELD = "spec.connection"
OBSERVATION_SECONDS = 6.0
"""A connect and a statement at their deadlines."""
IDENTIFY_EVERY_SECONDS = 10.0
"""A guard that does not measure checks this often that its own connection still leads to the same server."""
REFUSED_LOGIN_REASONS = frozenset({Reason.PASSWORD_REJECTED, Reason.REPLICATION_LOGIN_FAILED})


async def gather(
    services: Services, handles: GuardHandles, memory: GuardMemory, body: Manifest, spec: DatabaseGuardSpec
) -> GuardFacts:
    """Observe once; `handles` keep what was opened."""
    facts = await _observe(services, handles, memory, body, spec)
    if memory.system_identifier is not None:
        # Of the server that an earlier process saw, only the system is known.
        pinned = _build_membership(handles, body, spec, ServerId(memory.system_identifier, None, ""))
        services.servers.sessions.remember(pinned)
    if facts.is_sweep_due:
        facts = await _gather_slots(services, handles, facts)
    # Last, so that nothing is waited for between these reads and the decision: another guard may plan meanwhile.
    group = services.servers.read_budget_group(handles.uid)
    # Two samples raise a state: after the first one it matters what other servers do.
    has_turned = memory.server.turn.turned_at is not None
    turns = services.servers.sessions.find_turns(handles.uid) if has_turned else ()
    facts = replace(facts, has_sets=_has_sets(services, handles.key), turns=turns)
    return replace(facts, limits=group.limits, demands=group.demands, planned=group.planned)


def _has_sets(services: Services, key: tuple[str, str]) -> bool:
    """Whether a ReplicaSet names this guard."""
    specs = (item.get("spec") for item in services.cache.list(REPLICA_SET, key[0]))
    refs = (spec.get("databaseRef") for spec in specs if isinstance(spec, Mapping))
    return any(isinstance(ref, Mapping) and ref.get("name") == key[1] for ref in refs)


async def _observe(
    services: Services, handles: GuardHandles, memory: GuardMemory, body: Manifest, spec: DatabaseGuardSpec
) -> GuardFacts:
    metadata = body["metadata"]
    annotations: Mapping[str, str] = metadata.get("annotations") or {}
    facts = GuardFacts(metadata["name"], accepted=annotations.get(ACCEPT_ANNOTATION))
    # Secrets come first and apart: a slow API server says nothing about the database.
    try:
        access = await handles.login.get(spec.connection, lambda: _read_access(services, handles, spec.connection))
    except (Refused, Unavailable) as error:
        return replace(facts, problem=Finding(error.reason, str(error)))
    handles.access = access
    began = services.clock.monotonic()
    observer = _Observer(services, handles, memory, body, spec, access)
    try:
        async with asyncio.timeout(OBSERVATION_SECONDS):
            facts = await observer.observe(facts)
    except (Refused, Unavailable) as error:
        finding = _name_secret(Finding(error.reason, str(error)), spec.connection.credentials_secret_ref.name)
        facts = replace(facts, problem=_describe_refusal(finding, handles, access))
    except TimeoutError:
        late = f"{spec.connection.host} took longer than {OBSERVATION_SECONDS:g} s to answer"
        message = f"{late}; see whether it runs, and what loads it"
        facts = replace(facts, problem=Finding(Reason.PRIMARY_TIMEOUT, message))
    finally:
        handles.observed_seconds = services.clock.monotonic() - began
    return facts


async def _read_access(services: Services, handles: GuardHandles, connection: PrimaryConnection) -> Access:
    secrets = SecretReader(services.kube, handles.key[0], services.permitted)
    target = await secrets.target(connection, FIELD)
    replication = await _read_login(secrets, connection.replication_secret_ref, f"{FIELD}.replicationSecretRef")
    queue = await _read_login(secrets, connection.queue_secret_ref, f"{FIELD}.queueSecretRef")
    warmup = await _read_login(secrets, connection.warmup_secret_ref, f"{FIELD}.warmupSecretRef")
    changed_at = secrets.changed.get(connection.credentials_secret_ref.name)
    access = Access(target, queue=queue, warmup=warmup, changed_at=changed_at)
    if isinstance(replication, Finding):
        return replace(access, replication_problem=replication)
    return replace(access, replication=replication)


async def _read_login(secrets: SecretReader, ref: LocalRef | None, field: str) -> Credentials | Finding | None:
    """A login beside the guard's own: what is wrong with it does not stop the guard."""
    if ref is None:
        return None
    try:
        return await secrets.credentials(ref.name, field)
    except Refused as error:
        return Finding(error.reason, str(error))


@dataclass(frozen=True, slots=True)
class _Observer:
    """One observation: the guard that measures asks the server, the others use what it has found."""

    services: Services
    handles: GuardHandles
    memory: GuardMemory
    body: Manifest
    spec: DatabaseGuardSpec
    access: Access

    async def observe(self, facts: GuardFacts) -> GuardFacts:
        """Raises what the server causes."""
        handles = self.handles
        link = await self._ensure_link()
        if self._must_identify():
            server = await link.identify()
            facts = replace(facts, server=server)
            if handles.is_holding:
                facts = replace(facts, window=handles.canary.window, link_opened_at=handles.link_opened_at)
            if find_mismatch(facts, self.memory) is not None:
                return facts
            if handles.is_holding and self._is_another_server(server):
                # A restart, or the name leads to a clone: canary and lock must follow the connection that was asked.
                await handles.step_down()
            handles.server, handles.identified_at = server, self.services.clock.monotonic()
        assert handles.server is not None
        member = _build_membership(handles, self.body, self.spec, identify_server(handles.server))
        handles.membership = replace(member, sees_sessions=sees_sessions(handles.server))
        standing = self.services.servers.sessions.join(handles.membership)
        facts = replace(
            facts,
            role=self.access.target.credentials.username,
            local_guards=standing.local_guards,
            foreign_guards=standing.foreign_guards,
        )
        if standing.is_holder:
            facts = await self._measure(facts, link, handles.server, standing)
        else:
            facts = await self._follow(facts, handles.server, standing)
        return await self._finish(facts, standing)

    def _is_another_server(self, server: ServerFacts) -> bool:
        membership = self.handles.membership
        if membership is None:
            return False
        return not is_same_server(membership.server, identify_server(server), is_same_namespace=True)

    def _must_identify(self) -> bool:
        """The guard that measures asks each time; the others seldom, and when they have to measure."""
        handles, now = self.handles, self.services.clock.monotonic()
        if handles.server is None or handles.membership is None:
            return True
        if handles.is_holding or now - handles.identified_at >= IDENTIFY_EVERY_SECONDS:
            return True
        return self.services.servers.sessions.find_measurer(handles.membership).uid == handles.uid

    async def _measure(
        self, facts: GuardFacts, link: PrimaryLink, server: ServerFacts, standing: Standing
    ) -> GuardFacts:
        handles, sessions = self.handles, self.services.servers.sessions
        if not handles.is_holding:
            if standing.observations:
                # A round of another canary that is open is never answered here.
                handles.canary.window = standing.observations[-1].window.drop()
            server = replace(server, has_installation_lock=await link.take_over())
            # The canary's connection is new: older marks do not tell where it leads.
            handles.is_holding, handles.link_opened_at = True, self.services.clock.monotonic()
        facts = replace(facts, server=server)
        if not server.has_installation_lock:
            return facts
        counts = await link.connections()
        canary = self.spec.canary
        # The others need marks as often as their own canary would make them.
        interval = standing.canary_seconds or canary.interval.total_seconds()
        await handles.canary.follow(link, interval_seconds=interval, is_timed=canary.enabled)
        window = handles.canary.window
        observation = Observation(self.services.clock.monotonic(), server, counts, window)
        # At once: the others must not wait for what else this pass does.
        sessions.share_observation(handles.uid, observation)
        facts = replace(facts, observation=observation, earlier=standing.observations)
        return replace(facts, window=window, link_opened_at=handles.link_opened_at)

    async def _follow(self, facts: GuardFacts, server: ServerFacts, standing: Standing) -> GuardFacts:
        handles = self.handles
        if handles.is_holding:
            await handles.step_down()
        newest = standing.observations[-1] if standing.observations else None
        if newest is None or self.services.clock.monotonic() - newest.observed_at > FRESH_SECONDS:
            message = "another guard measures this server and has not finished yet"
            return replace(facts, server=server, problem=Finding(Reason.IN_PROGRESS, message))
        handles.canary.window = newest.window
        return replace(
            facts,
            server=_merge_server(server, newest.server),
            observation=newest,
            earlier=standing.observations[:-1],
            is_follower=True,
            window=newest.window,
        )

    async def _finish(self, facts: GuardFacts, standing: Standing) -> GuardFacts:
        """The replication login, and whether it is time to look for slots that sets have left."""
        if facts.observation is None:
            return facts
        problem = await self._ensure_slots()
        reference = self.spec.connection.replication_secret_ref
        if problem is not None and reference is not None:
            problem = _name_secret(problem, reference.name)
        may_sweep = standing.is_sweeper and self.handles.slots is not None and problem is None
        is_due = may_sweep and is_sweep_due(self.memory, self.services.clock.monotonic())
        return replace(facts, replication_problem=problem, is_sweep_due=is_due)

    async def _ensure_link(self) -> PrimaryLink:
        """The open link to the primary; raises PrimaryUnavailable. A new login must work before it replaces the old."""
        handles, target = self.handles, self.access.target
        if handles.link is not None and handles.link_target == target:
            return handles.link
        handles.backoff.check(target)
        try:
            link = await self.services.postgres.open_primary(target, is_observer=True)
        except PrimaryUnavailable as error:
            handles.backoff.record(target, error)
            raise
        await handles.close()
        handles.backoff.clear()
        handles.link, handles.link_target = link, target
        handles.link_opened_at = self.services.clock.monotonic()
        return link

    async def _ensure_slots(self) -> Finding | None:
        """Keep the replication role's link; returns why there is none, None also when none is asked for."""
        handles, access = self.handles, self.access
        if access.replication is None:
            await handles.close_slots()
            return access.replication_problem
        login = (access.target, access.replication)
        if handles.slots is not None and handles.slots_login == login:
            return None
        try:
            handles.slots_backoff.check(login)
            slots = await self.services.postgres.open_slots(*login)
        except PrimaryUnavailable as error:
            handles.slots_backoff.record(login, error)
            return Finding(error.reason, str(error))
        await handles.close_slots()
        handles.slots_backoff.clear()
        handles.slots, handles.slots_login = slots, login
        return None


def _build_membership(handles: GuardHandles, body: Manifest, spec: DatabaseGuardSpec, server: ServerId) -> Membership:
    canary = spec.canary
    return Membership(
        guard=handles.key,
        uid=handles.uid,
        created_at=body["metadata"].get("creationTimestamp", ""),
        server=server,
        limits=limits_of(spec),
        canary_seconds=canary.interval.total_seconds() if canary.enabled else None,
        has_slots=handles.slots is not None,
        endpoint=f"{qualify_host(spec.connection.host, handles.key[0])}:{spec.connection.port}",
    )


def _merge_server(own: ServerFacts, measured: ServerFacts) -> ServerFacts:
    """What another guard measured just now, with the rights of our own login and the address we connected to."""
    return replace(
        measured,
        missing_rights=own.missing_rights,
        is_superuser=own.is_superuser,
        has_installation_lock=measured.has_installation_lock,
        address=own.address,
    )


def _name_secret(finding: Finding, secret: str) -> Finding:
    """The finding, and where it is a login's, the Secret that the login was read from."""
    if finding.reason not in REFUSED_LOGIN_REASONS:
        return finding
    return Finding(finding.reason, f"{finding.message} (Secret {secret})")


def _describe_refusal(finding: Finding, handles: GuardHandles, access: Access) -> Finding:
    """The finding, and where it is a refused login, since when that is so and when its Secret was last written."""
    since, changed_at = handles.backoff.refused_since, access.changed_at
    if finding.reason not in REFUSED_LOGIN_REASONS or since is None:
        return finding
    changed = "" if changed_at is None else f"changed {changed_at:%Y-%m-%d %H:%M:%S} UTC, "
    return Finding(finding.reason, f"{finding.message}, {changed}refused since {since:%Y-%m-%d %H:%M:%S} UTC")


async def _gather_slots(services: Services, handles: GuardHandles, facts: GuardFacts) -> GuardFacts:
    """Our slots, and which sets the watches know; what cannot be read now is left, and sweeps nothing."""
    try:
        async with asyncio.timeout(SWEEP_SECONDS):
            # The slots first: a set creates its slots after itself, so that none is seen here without its set below.
            found = await services.servers.read_slots(handles.key)
    except (Refused, Unavailable, TimeoutError) as error:
        logger.info("dbg/%s in %s: slots cannot be listed: %s", handles.key[1], handles.key[0], error)
        return facts
    prefixes = tuple(slot_prefix(each) for each in services.swept_ids)
    namespaces = services.watch_namespaces or ("",)
    sets = [item for namespace in namespaces for item in services.cache.list(REPLICA_SET, namespace)]
    return replace(
        facts,
        slots=tuple(slot for slot in found if slot.name.startswith(prefixes)),
        live_sets=frozenset(hash8(item["metadata"]["uid"]) for item in sets),
    )
