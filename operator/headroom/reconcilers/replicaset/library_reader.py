"""Reads the libraries of the primary and of the members beside the passes: a pass takes what has arrived by then."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from headroom.errors import Refused, Unavailable
from headroom.model.conditions import Finding
from headroom.model.libraries import ServerLibraries
from headroom.model.replica import PodFacts, Role
from headroom.policy.replicaset.facts import LibraryReading
from headroom.policy.replicaset.libraries import compare_libraries
from headroom.ports.clock import Clock
from headroom.ports.postgres import ReplicaLink
from headroom.reasons import Reason

logger = logging.getLogger(__name__)

Question = Callable[[], Awaitable[ServerLibraries]]
CALM_SECONDS = 300.0
"""How often libraries are read again while nothing waits for them."""
WAITING_SECONDS = 30.0
"""How often while a member does not serve because of them, or is new: whoever corrects the cause waits for it."""
RETRY_SECONDS = 5.0


@dataclass(slots=True)
class LibraryTask:
    """The question that is on its way to one server, and the last answer; a new one does not discard it."""

    pending: "asyncio.Task[ServerLibraries] | None" = None
    answer: ServerLibraries | None = None
    failure: Finding | None = None
    version: object = None
    asked_at: float | None = None

    def collect(self) -> LibraryReading:
        """What is known by now."""
        if self.pending is not None and self.pending.done():
            done, self.pending = self.pending, None
            error = _find_error(done)
            if error is None:
                self.answer, self.failure = done.result(), None
            else:
                self.failure = _describe(error)
        return self.answer if self.answer is not None else self.failure

    def ask(self, question: Question, version: object, now: float, every: float) -> None:
        """Send the question if it is due; it is at once for another `version` of what is asked about."""
        pause = RETRY_SECONDS if self.failure is not None else every
        is_due = self.asked_at is None or version != self.version or now - self.asked_at >= pause
        if self.pending is None and is_due:
            self.version, self.asked_at = version, now
            self.pending = asyncio.create_task(_answer(question))

    async def close(self) -> None:
        """End the question."""
        if self.pending is not None:
            self.pending.cancel()
            # Whatever it ends with: nobody waits for the answer any more.
            await asyncio.gather(self.pending, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Library:
    """A member whose libraries can be asked for: `link` is None while it has no connection."""

    pod: PodFacts
    task: LibraryTask
    link: ReplicaLink | None


@dataclass(frozen=True, slots=True)
class LibraryReader:
    """Reads for the members of one set; `ignored` is what the spec waives."""

    clock: Clock
    primary: LibraryTask
    ignored: tuple[str, ...]

    def read(
        self, members: Iterable[Library], ask_primary: Question | None, version: object
    ) -> tuple[LibraryReading, Mapping[str, LibraryReading]]:
        """Take the answers, and send what is due.

        `ask_primary` is None while the primary does not answer; `version` changes with another primary or its restart.
        """
        asked, now = list(members), self.clock.monotonic()
        primary = self.primary.collect()
        readings = {member.pod.name: member.task.collect() for member in asked}
        every = {member.pod.name: self._pause(member, primary, readings[member.pod.name]) for member in asked}
        if ask_primary is not None:
            self.primary.ask(ask_primary, version, now, min(every.values(), default=CALM_SECONDS))
        for member in asked:
            if member.link is not None and member.pod.is_ready and isinstance(primary, ServerLibraries):
                # A container that restarts may run another image of the same name; and what the primary uses now, the
                # member was perhaps never asked for.
                needed = member.pod.uid, member.pod.server.restarts, primary.databases
                question = _ask_member(member.link, member.pod.name)
                member.task.ask(question, needed, now, every[member.pod.name])
        return primary, readings

    def _pause(self, member: Library, primary: LibraryReading, reading: LibraryReading) -> float:
        if not (isinstance(primary, ServerLibraries) and isinstance(reading, ServerLibraries)):
            return WAITING_SECONDS
        is_new = member.pod.role is Role.PROVISIONING
        is_wrong = is_new or compare_libraries(primary, reading, self.ignored) is not None
        return WAITING_SECONDS if is_wrong else CALM_SECONDS


def _ask_member(link: ReplicaLink, name: str) -> Question:
    async def ask() -> ServerLibraries:
        libraries = await link.libraries()
        if libraries.server_name != name:
            message = f"a server named {libraries.server_name!r} answers where {name} should"
            raise Unavailable(message, reason=Reason.MEMBER_UNREACHABLE)
        return libraries

    return ask


async def _answer(question: Question) -> ServerLibraries:
    return await question()


def _find_error(done: "asyncio.Task[ServerLibraries]") -> BaseException | None:
    return asyncio.CancelledError() if done.cancelled() else done.exception()


def _describe(error: BaseException) -> Finding:
    """An error that nobody planned for costs this reading alone, not the pass."""
    if isinstance(error, Refused | Unavailable):
        return Finding(error.reason, str(error))
    if isinstance(error, TimeoutError):
        return Finding(Reason.PRIMARY_TIMEOUT, "there was no answer in time")
    logger.warning("reading libraries failed", exc_info=error)
    return Finding(Reason.INTERNAL_ERROR, type(error).__name__)
