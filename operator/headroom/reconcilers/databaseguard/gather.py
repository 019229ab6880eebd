"""What one pass observes of a guard's server: logins, links, identity, counts.

Nothing that the server, the Secrets or the API server can cause is raised: it becomes the problem of the facts.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from headroom.api.v1alpha1.connection import PrimaryConnection
from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.errors import PrimaryUnavailable, Refused, Unavailable
from headroom.model.conditions import Finding
from headroom.model.database import ServerFacts
from headroom.model.replica import hash8, slot_prefix
from headroom.policy.databaseguard.decide import find_mismatch, is_sweep_due
from headroom.policy.databaseguard.facts import GuardFacts, GuardMemory, SharedServer, limits_of
from headroom.policy.databaseguard.identity import ACCEPT_ANNOTATION, identify_server
from headroom.ports.kube import REPLICA_SET, Manifest
from headroom.ports.postgres import PrimaryLink
from headroom.reasons import Reason
from headroom.reconcilers.context import Services
from headroom.reconcilers.databaseguard.memory import Access, GuardHandles
from headroom.reconcilers.logins import SecretReader
from headroom.reconcilers.servers import ABSENT_SECONDS, Membership, Standing

logger = logging.getLogger(__name__)

FIELD = "spec.connection"
OBSERVATION_SECONDS = 6.0
"""A connect and a statement at their deadlines."""
SLOTS_SECONDS = 5.0
"""Whatever the list of slots waits for, the guard's next pass must not be late: sets treat an old view as missing."""
IDENTIFY_EVERY_SECONDS = 10.0
"""A guard that does not measure checks this often that its own connection still leads to the same server."""
REFUSED_LOGIN_REASONS = frozenset({Reason.PASSWORD_REJECTED, Reason.REPLICATION_LOGIN_FAILED})


async def gather(
    services: Services, handles: GuardHandles, memory: GuardMemory, body: Manifest, spec: DatabaseGuardSpec
) -> GuardFacts:
    """Observe once; `handles` keep what was opened."""
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
        facts = replace(facts, problem=finding)
    except TimeoutError:
        message = f"{spec.connection.host} took longer than {OBSERVATION_SECONDS:g} s to answer"
        facts = replace(facts, problem=Finding(Reason.PRIMARY_TIMEOUT, message))
    finally:
        handles.observed_seconds = services.clock.monotonic() - began
    return await _gather_slots(services, handles, facts) if facts.is_sweep_due else facts


async def _read_access(services: Services, handles: GuardHandles, connection: PrimaryConnection) -> Access:
    secrets = SecretReader(services.kube, handles.key[0])
    target = await secrets.target(connection, FIELD)
    if connection.replication_secret_ref is None:
        return Access(target)
    field = f"{FIELD}.replicationSecretRef"
    try:
        return Access(target, await secrets.credentials(connection.replication_secret_ref.name, field))
    except Refused as error:
        return Access(target, replication_problem=Finding(error.reason, str(error)))


@dataclass(frozen=True, slots=True)
class _Observer:
    """One observation: the guard that measures asks the server, the others take over what it found."""

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
        standing = self._join(handles.server)
        facts = replace(
            facts,
            role=self.access.target.credentials.username,
            local_guards=standing.local_guards,
            foreign_guards=standing.foreign_guards,
            other_limits=standing.other_limits,
            demands=self.services.servers.demands(handles.key),
        )
        if standing.is_holder:
            facts = await self._measure(facts, link, handles.server, standing.shared)
        else:
            facts = await self._adopt(facts, handles.server, standing.shared)
        return await self._finish(facts, standing)

    def _is_another_server(self, server: ServerFacts) -> bool:
        membership = self.handles.membership
        return membership is not None and membership.server.started_at != server.started_at

    def _must_identify(self) -> bool:
        """The guard that measures asks each time; the others seldom, and when they have to take over."""
        handles, now = self.handles, self.services.clock.monotonic()
        if handles.server is None or handles.membership is None:
            return True
        if handles.is_holding or now - handles.identified_at >= IDENTIFY_EVERY_SECONDS:
            return True
        return self.services.servers.join(handles.membership).is_holder

    def _join(self, server: ServerFacts) -> Standing:
        handles, metadata = self.handles, self.body["metadata"]
        handles.membership = Membership(
            guard=handles.key,
            uid=handles.uid,
            created_at=metadata.get("creationTimestamp", ""),
            server=identify_server(server),
            limits=limits_of(self.spec),
            has_slots=handles.slots is not None,
        )
        return self.services.servers.join(handles.membership)

    async def _measure(
        self, facts: GuardFacts, link: PrimaryLink, server: ServerFacts, shared: SharedServer | None
    ) -> GuardFacts:
        handles = self.handles
        if not handles.is_holding:
            if shared is not None:
                facts, handles.canary.window = replace(facts, inherited=shared.memory), shared.window
            server = replace(server, has_installation_lock=await link.take_over())
            # The canary's connection is new: older marks do not tell where it leads.
            handles.is_holding, handles.link_opened_at = True, self.services.clock.monotonic()
        facts = replace(facts, server=server)
        if not server.has_installation_lock:
            return facts
        counts = await link.connections()
        canary = self.spec.canary
        await handles.canary.follow(link, interval_seconds=canary.interval.total_seconds(), is_timed=canary.enabled)
        return replace(facts, counts=counts, window=handles.canary.window, link_opened_at=handles.link_opened_at)

    async def _adopt(self, facts: GuardFacts, server: ServerFacts, shared: SharedServer | None) -> GuardFacts:
        if self.handles.is_holding:
            await self.handles.step_down()
        # The guard that measures may be there and still find nothing, as while it waits for the lock.
        if shared is None or self.services.clock.monotonic() - shared.observed_at > ABSENT_SECONDS:
            message = "another guard measures this server and has not finished yet"
            return replace(facts, server=server, problem=Finding(Reason.IN_PROGRESS, message))
        self.handles.canary.window = shared.window
        return replace(facts, server=_merge_server(server, shared.server), shared=shared, window=shared.window)

    async def _finish(self, facts: GuardFacts, standing: Standing) -> GuardFacts:
        """The replication login, and whether it is time to look for slots that sets have left."""
        if facts.counts is None and facts.shared is None:
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


async def _gather_slots(services: Services, handles: GuardHandles, facts: GuardFacts) -> GuardFacts:
    """Our slots, and which sets the watches know; what cannot be read now is left, and sweeps nothing."""
    try:
        async with asyncio.timeout(SLOTS_SECONDS):
            # The slots first: a set creates its slots after itself, so that none is seen here without its set below.
            found = await services.servers.read_slots(handles.key)
    except (Refused, Unavailable, TimeoutError) as error:
        logger.info("dbg/%s in %s: slots cannot be listed: %s", handles.key[1], handles.key[0], error)
        return facts
    prefix = slot_prefix(services.install_id)
    namespaces = services.watch_namespaces or ("",)
    sets = [item for namespace in namespaces for item in services.cache.list(REPLICA_SET, namespace)]
    return replace(
        facts,
        slots=tuple(slot for slot in found if slot.name.startswith(prefix)),
        live_sets=frozenset(hash8(item["metadata"]["uid"]) for item in sets),
    )
