"""Reads beside a pass what copies need to know: how far those from standbys are, and how much there is to copy."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from headroom.errors import HeadroomError
from headroom.model.copies import is_standby
from headroom.model.database import BackupProgress
from headroom.model.replica import PodFacts
from headroom.policy.replicaset.facts import MemberFacts
from headroom.ports.postgres import ReplicaLink

SOURCE_SECONDS = 0.5
"""A source that has not answered by then tells nothing in this pass; its probe has the connection next."""
SIZE_EVERY_SECONDS = 600.0
SIZE_RETRY_SECONDS = 60.0


@dataclass(slots=True)
class SizeTask:
    """The question how much there is to copy, and its last answer."""

    pending: "asyncio.Task[int] | None" = None
    answer: int | None = None
    due_at: float = 0.0

    def read(self, question: Callable[[], Awaitable[int]], now: float, *, is_needed: bool) -> int | None:
        """What is known by now; asked for once, and again while it `is_needed`."""
        if self.pending is not None and self.pending.done():
            done, self.pending = self.pending, None
            is_answered = not done.cancelled() and done.exception() is None
            self.answer = done.result() if is_answered else self.answer
            self.due_at = now + (SIZE_EVERY_SECONDS if is_answered else SIZE_RETRY_SECONDS)
        if self.pending is None and now >= self.due_at and (is_needed or self.answer is None):
            self.pending = asyncio.create_task(_answer(question))
        return self.answer

    async def close(self) -> None:
        """End the question."""
        if self.pending is not None:
            self.pending.cancel()
            await asyncio.gather(self.pending, return_exceptions=True)


async def _answer(question: Callable[[], Awaitable[int]]) -> int:
    return await question()


async def add_copies(found: Iterable[MemberFacts], links: Mapping[str, ReplicaLink | None]) -> tuple[MemberFacts, ...]:
    """The members, and of each that is copied from a standby how far that is; each source is asked once in a pass, and
    only while a copy from it runs. `links` are the probes' own, by name of the member.
    """
    members = tuple(found)
    copied = {member.name: pod.copy_source for member in members if (pod := member.pod) is not None and _is_from(pod)}
    sources = sorted(set(copied.values()))
    answers = await asyncio.gather(*(_ask(links.get(name)) for name in sources))
    backups = dict(zip(sources, answers, strict=True))
    return tuple(_join(member, backups[copied[member.name]]) if member.name in copied else member for member in members)


def _is_from(pod: PodFacts) -> bool:
    return pod.is_copying and is_standby(pod.copy_source) and not pod.is_ended


def _join(member: MemberFacts, backups: Mapping[str, BackupProgress] | None) -> MemberFacts:
    if backups is None:
        return replace(member, backup=None, is_copy_observed=False)
    return replace(member, backup=backups.get(member.slot_name))


async def _ask(link: ReplicaLink | None) -> Mapping[str, BackupProgress] | None:
    """The copies that a source sends, by the slot of the member; None where it cannot be asked now."""
    if link is None:
        return None
    with suppress(HeadroomError, TimeoutError):
        backups = await asyncio.wait_for(link.backups(), SOURCE_SECONDS)
        return {backup.application_name: backup for backup in backups}
    return None
