"""From Secrets to open links: read again every minute and after a failed login, replaced when they change."""

from dataclasses import dataclass

from headroom.api.v1alpha1.connection import PrimaryConnection
from headroom.errors import KubeUnavailable, PrimaryUnavailable, Refused
from headroom.ports.clock import Clock
from headroom.ports.kube import KubeReader
from headroom.ports.postgres import Postgres, PrimaryLink
from headroom.reasons import Reason
from headroom.reconcilers.databaseguard.holding import Access, Attempt, Holding, Problem
from headroom.reconcilers.logins import SecretReader

FIELD = "spec.connection"
READ_AGAIN_SECONDS = 60.0
LOGIN_RETRY_SECONDS = 10.0
"""A login that was refused is tried again this often while its Secret stays as it is: servers count failures."""
SLOTS_RETRY_SECONDS = 5.0
LOGIN_REASONS = frozenset({Reason.PASSWORD_REJECTED, Reason.TLS_FAILED, Reason.TLS_WEAK, Reason.DATABASE_NOT_FOUND})


@dataclass(frozen=True, slots=True)
class Connector:
    """Opens and keeps a guard's links."""

    kube: KubeReader
    postgres: Postgres
    clock: Clock

    async def ensure_access(self, holding: Holding, connection: PrimaryConnection) -> Access:
        """The logins, read from their Secrets when it is time; raises Refused or KubeUnavailable."""
        now = self.clock.monotonic()
        is_same = holding.access_of == connection
        is_fresh = is_same and now - holding.access_read_at < READ_AGAIN_SECONDS
        if holding.access is not None and is_fresh and not holding.must_read_access:
            return holding.access
        try:
            access = await self._read(holding.namespace, connection)
        except KubeUnavailable:
            if holding.access is None or not is_same:
                raise
            return holding.access
        holding.access_of = connection
        holding.access, holding.access_read_at, holding.must_read_access = access, now, False
        return access

    async def _read(self, namespace: str, connection: PrimaryConnection) -> Access:
        secrets = SecretReader(self.kube, namespace)
        target = await secrets.target(connection, FIELD)
        if connection.replication_secret_ref is None:
            return Access(target)
        field = f"{FIELD}.replicationSecretRef"
        try:
            return Access(target, await secrets.credentials(connection.replication_secret_ref.name, field))
        except Refused as error:
            return Access(target, replication_problem=Problem(error.reason, str(error)))

    async def ensure_link(self, holding: Holding, access: Access) -> PrimaryLink:
        """The open link to the primary; raises PrimaryUnavailable. A new login must work before it replaces the old."""
        if holding.link is not None and holding.link_target == access.target:
            return holding.link
        refused = self._too_early(holding.refused, access.target, LOGIN_RETRY_SECONDS)
        if refused is not None:
            raise PrimaryUnavailable(refused.message, reason=refused.reason)
        try:
            link = await self.postgres.open_primary(access.target)
        except PrimaryUnavailable as error:
            if error.reason in LOGIN_REASONS:
                holding.refused = self._attempt(access.target, error)
            raise
        await holding.close()
        holding.link, holding.link_target, holding.refused = link, access.target, None
        holding.link_opened_at = self.clock.monotonic()
        return link

    async def ensure_slots(self, holding: Holding, access: Access) -> Problem | None:
        """Keep the replication role's link; returns why there is none, None also when none is asked for."""
        if access.replication is None:
            await holding.close_slots()
            return access.replication_problem
        login = (access.target, access.replication)
        if holding.slots is not None and holding.slots_login == login:
            return None
        refused = self._too_early(holding.slots_refused, login, SLOTS_RETRY_SECONDS)
        if refused is not None:
            return refused
        try:
            slots = await self.postgres.open_slots(*login)
        except PrimaryUnavailable as error:
            holding.slots_refused = self._attempt(login, error)
            return holding.slots_refused.problem
        await holding.close_slots()
        holding.slots, holding.slots_login, holding.slots_refused = slots, login, None
        return None

    def _too_early(self, attempt: Attempt | None, login: object, seconds: float) -> Problem | None:
        is_early = attempt is not None and attempt.login == login and self.clock.monotonic() - attempt.at < seconds
        return attempt.problem if attempt is not None and is_early else None

    def _attempt(self, login: object, error: PrimaryUnavailable) -> Attempt:
        return Attempt(login, Problem(error.reason, str(error)), self.clock.monotonic())
