"""Ends the operator at each write of a life, before and after it, and compares its end with that of an undisturbed one.

A life is a scene, what happens to it, and when that is over. To add one, write it in `lives`: nothing else names them.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from e2e.invariants.checker import Checker
from e2e.invariants.suspicion import Invariant
from headroom.model.snapshot import ANCHOR, CONSISTENCY, SNAPSHOT_ANNOTATION
from headroom.ports.kube import CLAIM, POD, REPLICA_SET, VOLUME_SNAPSHOT, Kind
from tests.controllers import ref_to
from tests.memory_world import CrashFence
from tests.unit.crashes.outside import Outside, Picture
from tests.unit.crashes.steps import STEPS
from tests.unit.world import PLAY_SECONDS, QUIET_SECONDS, World

TAKEOVER_SECONDS = 3.0
"""From the end of a process until another holds the lease."""
LIMIT_SECONDS = 180.0
ENOUGH = 10
"""Differences after which a life is not played on: they cost minutes of its world each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """`scene` is there and settled before it begins; `happens` begins it; `is_over` says that it has ended well.

    `chance` names the parts of the summary in which a crash may make a difference, and `breaks` the invariants that the
    life itself breaks, each with the reason.
    """

    name: str
    scene: Callable[[World], object]
    happens: Callable[[World], object]
    is_over: Callable[[World], bool]
    chance: Mapping[str, str] = field(default_factory=dict)
    breaks: Mapping[Invariant, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Crash:
    """Where a process ends: at the `nth` write, before it is sent or after it has taken effect."""

    nth: int
    is_after: bool

    def describe(self, writes: list["Write"]) -> str:
        """With the write that the undisturbed life has there."""
        what = writes[self.nth - 1].what if self.nth <= len(writes) else "?"
        return f"killed {'after' if self.is_after else 'before'} write {self.nth} of {len(writes)} ({what})"


@dataclass(frozen=True, slots=True)
class Write:
    """A write that took effect, and when it was sent and done in seconds of the world."""

    what: str
    sent_at: float
    done_at: float


@dataclass(frozen=True, slots=True)
class Ending:
    """What a life led to: the world in words that chance does not change, its writes, and what went wrong."""

    summary: Mapping[str, Any]
    writes: list[Write]
    faults: list[str]
    was_killed: bool = False
    over_at: int = 0
    """How many of the writes there were when it was over; later ones come at their own pace."""


@dataclass(slots=True)
class WatchedFence(CrashFence):
    """A fence that lets somebody look before and after each write."""

    before: Callable[[], None] = lambda: None
    after: Callable[[str], None] = lambda _: None

    def check(self, timeout_seconds: float) -> None:
        """See `CrashFence`."""
        self.before()
        CrashFence.check(self, timeout_seconds)

    def finish(self, what: str) -> None:
        """See `CrashFence`."""
        self.after(what)
        CrashFence.finish(self, what)


class WatchedWorld(World):
    """A world in which each write is judged by the rules about writes, and each moment by the invariants."""

    def __init__(self) -> None:
        super().__init__()
        self.outside, self.checker = Outside(self), Checker()
        self.faults: list[str] = []
        self.writes: list[Write] = []
        self.over_at = 0
        self._last: Picture | None = None

    def make_fence(self) -> WatchedFence:
        """See `World.make_fence`: its process ends at once, with all that it does."""
        return WatchedFence(on_end=self.kill, before=self._before, after=self._after)

    def play(self) -> None:
        """See `World.play`."""
        super().play()
        self.look()

    def look(self) -> Picture:
        """Judge what there is now."""
        self._last = self.outside.take()
        self.checker.observe(self._last.seen)
        return self._last

    def _before(self) -> None:
        # A picture of this moment is up to date: one follows each write, each step of the others and each stimulus.
        if self._last is None or self._last.seen.at != self.clock.monotonic():
            self.look()

    def _after(self, what: str) -> None:
        assert self._last is not None
        before, after = self._last, self.look()
        self.writes.append(Write(what, before.seen.at, after.seen.at))
        self.faults += [f"{what}: {message}" for rule in STEPS for message in rule(before, after)]

    def find_faults(self, life: Life) -> list[str]:
        """What rules and invariants found so far."""
        found = [each.describe() for each in self.checker.violations if each.invariant not in life.breaks]
        return [*self.faults, *found]

    def uids(self, kind: Kind) -> dict[str, str]:
        return {item["metadata"]["uid"]: item["metadata"]["name"] for item in self.children(kind)}


async def play(life: Life, crash: Crash | None = None, whole: Ending | None = None) -> Ending:
    """Live it once; with a crash another process takes over, and has time to come to the same end as the `whole`.

    Where several loops are at work, the last writes may come in another order, so that a crash is not always reached.
    """
    # A write has the same number each time: the same chance for the pauses of loops, and the same part of a second for
    # what is written in whole ones.
    random.seed(life.name)
    await asyncio.sleep(-asyncio.get_running_loop().time() % 1.0)
    async with WatchedWorld() as world:
        life.scene(world)
        await world.start()
        await world.settle()
        before = {kind: world.uids(kind) for kind in (POD, CLAIM)}
        fence, begun = world.process.fence, len(world.writes)
        fence.seen = fence.done = 0
        if crash is not None:
            fence.nth, fence.is_after = crash.nth, crash.is_after
        life.happens(world)
        world.look()

        def summary() -> dict[str, Any]:
            return {**world.summary(), "kept": _find_kept(world, before)}

        def is_over() -> bool:
            return life.is_over(world) and (whole is None or not find_different(life, whole.summary, summary()))

        faults = await _see_through(world, is_over)
        over_at = world.over_at - begun
        was_killed = fence.is_shut
        if was_killed:
            await asyncio.sleep(TAKEOVER_SECONDS)
            await world.start()
            faults = await _see_through(world, is_over)
        faults = [*world.find_faults(life), *faults, *find_orphans(world)]
        return Ending(summary(), world.writes[begun:], faults, was_killed, over_at)


async def _see_through(world: WatchedWorld, is_over: Callable[[], bool]) -> list[str]:
    """Wait for the end of a life that lasts, or of the process; returns what went wrong if it does not come.

    It lasts when nothing is written for a while: what seems to be the end may only be a pause, or the beginning.
    """
    end = world.clock.monotonic() + LIMIT_SECONDS
    over_at, seen, quiet_since = None, -1, world.clock.monotonic()
    while not world.process.fence.is_shut:
        now, count = world.clock.monotonic(), len(world.writes)
        if count != seen:
            seen, quiet_since = count, now
        if not is_over():
            over_at = None
        elif over_at is None:
            over_at = count
        if over_at is not None and now - quiet_since >= QUIET_SECONDS:
            world.over_at = over_at
            return []
        if now >= end:
            return [f"it is not over after {LIMIT_SECONDS:.0f} s"]
        await asyncio.sleep(PLAY_SECONDS)
    return []


def _find_kept(world: WatchedWorld, before: Mapping[Kind, Mapping[str, str]]) -> list[str]:
    """Pods and claims from before that are still there, by set and ordinal; pods of workers come and go."""
    kept = [
        f"{kind.name} {name.rpartition('-')[0]}"
        for kind, uids in before.items()
        for uid, name in uids.items()
        if uid in world.uids(kind) and not name.startswith("mail")
    ]
    return sorted(kept)


def find_orphans(world: World) -> Iterator[str]:
    """Slots, claims and pods are those of the same members; without a set there are none."""
    sets = [ref_to(REPLICA_SET, item) for item in world.children(REPLICA_SET)]
    for ref in sets:
        try:
            world.check_no_orphan(ref)
        except AssertionError:
            yield f"slots {world.slots()}, claims {world.names(CLAIM)}, pods {world.names(POD)} are not the same"
    if not sets and (world.slots() or world.anchors()):
        yield f"no set is left, and these slots are: {world.slots()}, {world.anchors()}"
    snapshots = {item["metadata"]["annotations"][ANCHOR]: item for item in world.children(VOLUME_SNAPSHOT)}
    if sets and sorted(snapshots) != world.anchors():
        yield f"anchors {world.anchors()} are not those of the snapshots {sorted(snapshots)}"
    for anchor, item in snapshots.items():
        name = item["metadata"]["name"]
        if name in world.snapshots.of_running and item["metadata"]["annotations"][CONSISTENCY] == "Stopped":
            yield f"{name} ({anchor}) was taken of a server that ran"
    for item in world.children(CLAIM):
        if SNAPSHOT_ANNOTATION in item["metadata"]["annotations"]:
            yield f"{item['metadata']['name']} is still stopped for a snapshot"


def find_crashes(writes: list[Write]) -> list[Crash]:
    """One at each place that differs.

    Nothing happens between two writes of the same moment, so that the end after one is the end before the next.
    """
    found = []
    for number, write in enumerate(writes, start=1):
        if number == 1 or write.sent_at > writes[number - 2].done_at:
            found.append(Crash(number, is_after=False))
        found.append(Crash(number, is_after=True))
    return found


def find_different(life: Life, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[Any]:
    """The parts of two summaries that differ, and may not."""
    names = (wanted.keys() | found.keys()) - life.chance.keys()
    return sorted((name for name in names if wanted.get(name) != found.get(name)), key=str)


def compare(life: Life, crash: Crash, whole: Ending, ending: Ending) -> Iterator[str]:
    """How a life with a crash ended in another way than the undisturbed one, if it did."""
    where = f"{life.name}, {crash.describe(whole.writes)}"
    for name in find_different(life, whole.summary, ending.summary):
        yield f"{where}: {name} is {ending.summary.get(name)}, without a crash it is {whole.summary.get(name)}"
    for fault in ending.faults:
        yield f"{where}: {fault}"


async def find_differences(life: Life, choose: Callable[[list[Crash]], list[Crash]] = list) -> tuple[int, list[str]]:
    """How many processes were killed, at all places or those that are chosen, and what came of it that should not."""
    whole = await play(life)
    if whole.faults:
        return 0, [f"{life.name}, undisturbed: {fault}" for fault in whole.faults]
    killed, found = 0, list[str]()
    for crash in choose(find_crashes(whole.writes[: whole.over_at])):
        ending = await play(life, crash, whole)
        killed += ending.was_killed
        found += compare(life, crash, whole, ending)
        if len(found) >= ENOUGH:
            break
    return killed, found
