"""One look at a guard's server: logins, links, identity, counts; everything a pass decides on."""

import asyncio
from dataclasses import dataclass

from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.api.v1alpha1.resources import parse_spec
from headroom.errors import InvalidSpec, Refused, Unavailable
from headroom.model.database import ConnectionCounts, ServerFacts
from headroom.policy.databaseguard.identity import ACCEPT_ANNOTATION, check_identity
from headroom.policy.databaseguard.rights import Note, explain_missing_rights, explain_reserve, explain_tls
from headroom.ports.kube import Manifest
from headroom.ports.postgres import PrimaryLink
from headroom.reasons import Reason
from headroom.reconcilers.databaseguard.access import LOGIN_REASONS, Connector
from headroom.reconcilers.databaseguard.holding import Holding, Problem

LOOK_SECONDS = 6.0
"""A connect and a statement at their deadlines, and room for an API server that is slow with a Secret."""
SECRET_REASONS = frozenset({Reason.SECRET_NOT_FOUND, Reason.SECRET_KEY_MISSING, Reason.SECRET_INVALID})

REFUSED_LOGIN_REASONS = frozenset({Reason.PASSWORD_REJECTED, Reason.REPLICATION_LOGIN_FAILED})


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found: `server` and `counts` when there is no `problem`; the rest of it works without replication.

    `server` may be there beside a problem, when the wrong server answered.
    """

    spec: DatabaseGuardSpec | None
    problem: Problem | None = None
    server: ServerFacts | None = None
    counts: ConnectionCounts | None = None
    replication_problem: Problem | None = None
    notes: tuple[Note, ...] = ()

    @property
    def is_ready(self) -> bool:
        """True when the server is the right one and can be used."""
        return self.problem is None and self.server is not None


async def look_at_server(connector: Connector, holding: Holding, body: Manifest) -> Look:
    """Never raises what the server, the Secrets or the spec can cause: it becomes the look's problem."""
    try:
        spec = parse_spec(DatabaseGuardSpec, body)
    except InvalidSpec as error:
        return Look(None, Problem(error.reason, str(error)))
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            look = await _look(connector, holding, body, spec)
    except Refused as error:
        look = Look(spec, Problem(error.reason, str(error)))
    except Unavailable as error:
        secret = spec.connection.credentials_secret_ref.name
        look = Look(spec, _name_secret(Problem(error.reason, str(error)), secret))
    except TimeoutError:
        message = f"{spec.connection.host} took longer than {LOOK_SECONDS:g} s to answer"
        look = Look(spec, Problem(Reason.PRIMARY_TIMEOUT, message))
    await _react(holding, look)
    return look


async def _look(connector: Connector, holding: Holding, body: Manifest, spec: DatabaseGuardSpec) -> Look:
    access = await connector.ensure_access(holding, spec.connection)
    link = await connector.ensure_link(holding, access)
    server = await link.identify()
    problem = _check(holding, body, server)
    if problem is not None:
        return Look(spec, problem, server)
    counts = await link.connections()
    replication_problem = await connector.ensure_slots(holding, access)
    if replication_problem is not None and spec.connection.replication_secret_ref is not None:
        replication_problem = _name_secret(replication_problem, spec.connection.replication_secret_ref.name)
    await _follow(holding, spec, link)
    _remember(holding, server, connector.clock.monotonic())
    notes = _notes(spec, server, access.target.credentials.username)
    return Look(spec, None, server, counts, replication_problem, notes)


def _name_secret(problem: Problem, secret: str) -> Problem:
    """The problem, and where it is a login's, the Secret that the login was read from."""
    if problem.reason not in REFUSED_LOGIN_REASONS:
        return problem
    return Problem(problem.reason, f"{problem.message} (Secret {secret})")


def _check(holding: Holding, body: Manifest, server: ServerFacts) -> Problem | None:
    metadata = body["metadata"]
    mismatch = check_identity(
        server,
        pinned=holding.system_identifier,
        accepted=(metadata.get("annotations") or {}).get(ACCEPT_ANNOTATION),
        highest_timeline=holding.highest_timeline,
        name=metadata["name"],
    )
    if mismatch is not None:
        return Problem(mismatch.reason, mismatch.message)
    if _has_moved(holding, server):
        return Problem(Reason.IN_PROGRESS, "the host name leads to another server now; connecting to it anew")
    if not server.has_installation_lock:
        message = "another process of this operator still holds its lock on the server; it is asked again"
        return Problem(Reason.IN_PROGRESS, message)
    return None


def _has_moved(holding: Holding, server: ServerFacts) -> bool:
    """True when the probes' connection, made anew now and then, ends at another server than the canary's."""
    marks = holding.canary.window.marks
    if not marks or marks[-1].taken_at < holding.link_opened_at:
        return False
    return marks[-1].system_identifier != server.system_identifier or marks[-1].timeline < server.timeline


async def _follow(holding: Holding, spec: DatabaseGuardSpec, link: PrimaryLink) -> None:
    interval = spec.canary.interval.total_seconds()
    await holding.canary.follow(link, interval_seconds=interval, is_timed=spec.canary.enabled)


def _remember(holding: Holding, server: ServerFacts, now: float) -> None:
    if holding.system_identifier != server.system_identifier:
        holding.highest_timeline = 0
    holding.system_identifier = server.system_identifier
    holding.highest_timeline = max(holding.highest_timeline, server.timeline)
    holding.answered_at = now


async def _react(holding: Holding, look: Look) -> None:
    """Prepare the next look: close links that lead astray, read Secrets again that do not serve."""
    reasons = {problem.reason for problem in (look.problem, look.replication_problem) if problem is not None}
    holding.must_read_access = bool(reasons & (LOGIN_REASONS | SECRET_REASONS))
    if look.problem is not None and look.server is not None and not _is_waiting_for_lock(look.server):
        await holding.close()


def _is_waiting_for_lock(server: ServerFacts) -> bool:
    return not server.is_in_recovery and not server.has_installation_lock


def _notes(spec: DatabaseGuardSpec, server: ServerFacts, role: str) -> tuple[Note, ...]:
    notes = explain_missing_rights(server.missing_rights, role)
    reserved = int(server.settings.get("reserved_connections", "0"))
    for note in (explain_tls(str(spec.connection.tls.mode)), explain_reserve(server.major, reserved, role)):
        if note is not None:
            notes.append(note)
    if not spec.canary.enabled:
        notes.append(Note(Reason.CANARY_DISABLED, "the canary is off: commit latency is not measured"))
    return tuple(notes)
