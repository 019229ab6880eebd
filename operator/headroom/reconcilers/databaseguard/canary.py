"""The canary's own loop: one small commit each interval, in a task that no other work can delay."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from headroom.errors import HeadroomError, Unavailable
from headroom.model.canary import CanaryWindow
from headroom.model.database import Mark
from headroom.ports.clock import Clock
from headroom.ports.postgres import PrimaryLink
from headroom.reasons import Reason

logger = logging.getLogger(__name__)

LATE_SECONDS = 0.05
"""When our own loop wakes this late, what it times next is not the database."""
VOID = "void"

OnCommit = Callable[[float], None]
OnFailure = Callable[[str], None]


@dataclass(slots=True)
class CanaryLoop:
    """Keeps a window of rounds up to date; `follow` starts it, moves it to another link, or changes its pace.

    While another guard measures the server, the loop is stopped, and `window` is set to what that guard found.
    """

    clock: Clock
    on_commit: OnCommit
    on_failure: OnFailure
    window: CanaryWindow = field(default_factory=CanaryWindow)
    _task: asyncio.Task[None] | None = None
    _link: PrimaryLink | None = None
    _pace: tuple[float, bool] = (0.0, False)

    async def follow(self, link: PrimaryLink, *, interval_seconds: float, is_timed: bool) -> None:
        """Measure over this link from now on; not timed, only the position is read and nothing is written."""
        pace = (interval_seconds, is_timed)
        if self._task is not None and not self._task.done() and self._link is link and self._pace == pace:
            return
        await self.stop()
        self._link, self._pace = link, pace
        self._task = asyncio.create_task(self._run(link, interval_seconds, is_timed=is_timed))

    async def stop(self) -> None:
        """End the loop; a round that is under way says nothing any more."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        self.window = self.window.drop()

    async def _run(self, link: PrimaryLink, interval_seconds: float, *, is_timed: bool) -> None:
        is_late = False
        while True:
            began = self.clock.monotonic()
            await self._round(link, is_timed=is_timed, is_void=is_late)
            due = max(began + interval_seconds, self.clock.monotonic())
            await self.clock.sleep(due - self.clock.monotonic())
            is_late = self.clock.monotonic() - due > LATE_SECONDS

    async def _round(self, link: PrimaryLink, *, is_timed: bool, is_void: bool) -> None:
        self.window = self.window.begin(self.clock.monotonic())
        try:
            mark = await (link.mark() if is_timed else link.position())
        except Unavailable as error:
            self._fail(error.reason)
        except HeadroomError as error:
            logger.warning("the canary failed: %s", error)
            self._fail(Reason.QUERY_FAILED)
        except asyncio.CancelledError:
            raise
        except Exception:
            # The loop must outlive errors that nobody expected: without it replicas have no lag.
            logger.exception("the canary failed")
            self._fail(Reason.INTERNAL_ERROR)
        else:
            self._answer(mark, is_void=is_void)

    def _answer(self, mark: Mark, *, is_void: bool) -> None:
        self.window = self.window.answer(mark, is_void=is_void)
        if is_void:
            self.on_failure(VOID)
        elif mark.commit_seconds is not None:
            self.on_commit(mark.commit_seconds)

    def _fail(self, reason: Reason) -> None:
        """A round that ran into its deadline counts at its age; one that was never sent does not count."""
        is_slow = reason is Reason.PRIMARY_TIMEOUT
        self.window = self.window.fail(self.clock.monotonic()) if is_slow else self.window.drop()
        self.on_failure(str(reason))
