"""A small shop as the checker sees it: one leader, one primary, one serving member and one standby, all well."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from e2e.invariants.checker import Checker
from e2e.invariants.facts import (
    ClaimFacts,
    GuardFacts,
    MemberFacts,
    Observation,
    PodFacts,
    ServerFacts,
    SetFacts,
    SlotFacts,
    SnapshotFacts,
)
from e2e.invariants.suspicion import Invariant

SET, GUARD, SERVICE = ("shop", "store"), ("shop", "store"), ("shop", "store-read")
STEP = 0.5


def slot(number: int) -> str:
    return f"hr_aaaaaaaa_bbbbbbbb_{number}_x"


def pod(number: int, role: str, **changes: Any) -> PodFacts:
    name = f"store-{number}-x"
    whole = PodFacts(("shop", name), "store", role, f"10.0.0.{number}", slot=slot(number), claims=(name,))
    return replace(whole, **changes)


def anchor(mark: str) -> str:
    return f"hr_aaaaaaaa_bbbbbbbb_s_{mark}"


def snapshot(mark: str, **changes: Any) -> SnapshotFacts:
    return replace(SnapshotFacts(("shop", f"store-s-{mark}"), "store", "uid", anchor(mark)), **changes)


def claim(number: int, **changes: Any) -> ClaimFacts:
    return replace(ClaimFacts(("shop", f"store-{number}-x"), "store", slot(number)), **changes)


@dataclass
class Scene:
    """The shop of now; a test changes its parts and lets time pass. `found` runs it through a checker of its own."""

    at: float = 1000.0
    leader: str = "one"
    one: SetFacts = field(default_factory=lambda: SetFacts(SET, GUARD, SERVICE, wal_cap=1000, uid="uid"))
    guard: GuardFacts = field(default_factory=lambda: GuardFacts(GUARD, "store-primary.shop"))
    pods: list[PodFacts] = field(default_factory=lambda: [pod(0, "serving"), pod(1, "standby")])
    claims: list[ClaimFacts] = field(default_factory=lambda: [claim(0), claim(1)])
    snapshots: list[SnapshotFacts] | None = field(default_factory=list)
    slots: list[SlotFacts] = field(default_factory=lambda: [SlotFacts(slot(0)), SlotFacts(slot(1))])
    listed: set[str] = field(default_factory=lambda: {"10.0.0.0"})
    server: dict[str, Any] = field(default_factory=dict)
    members: dict[int, dict[str, Any]] = field(default_factory=lambda: {0: {}, 1: {}})
    answers: bool = True
    has_set: bool = True
    events: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    checker: Checker = field(default_factory=Checker)

    def observe(self) -> Observation:
        server = ServerFacts(GUARD, self.at, slots=tuple(self.slots), **self.server)
        members = {
            ("shop", f"store-{number}-x"): MemberFacts(("shop", f"store-{number}-x"), self.at, **facts)
            for number, facts in self.members.items()
        }
        events, self.events = self.events, {}
        return Observation(
            self.at, self.at, self.leader, self.at if self.leader else None,
            sets=(self.one,) if self.has_set else (), guards=(self.guard,), pods=tuple(self.pods),
            claims=tuple(self.claims), listed={SERVICE: frozenset(self.listed)},
            servers={GUARD: server} if self.answers else {}, members=members,
            snapshots=None if self.snapshots is None else tuple(self.snapshots), **events,
        )  # fmt: skip

    def run(self, seconds: float, each: Callable[[], None] | None = None) -> "Scene":
        """Let time pass, two observations a second; `each` is called before every one."""
        end = self.at + seconds
        while self.at < end:
            self.at += STEP
            if each is not None:
                each()
            self.checker.observe(self.observe())
        return self

    def found(self) -> list[Invariant]:
        """The invariants that were violated, each once."""
        return list(dict.fromkeys(one.invariant for one in self.checker.violations))

    def set_pod(self, number: int, **changes: Any) -> None:
        """Change a pod."""
        self.pods = [replace(one, **changes) if one.key[1] == f"store-{number}-x" else one for one in self.pods]

    def say(self, reason: str, *numbers: int, message: str = "") -> None:
        """What ReadsMayBeStale says, and of whom; without a reason it is not True."""
        names = ", ".join(f"store-{number}-x serves data 99 s old" for number in numbers)
        self.one = replace(self.one, stale_reason=reason, stale_message=message or names)

    def drop(self, number: int, parts: Iterable[str] = ("pods", "claims", "slots")) -> None:
        """Take parts of a member away."""
        for part in parts:
            kept = [
                one for one in getattr(self, part) if f"_{number}_" not in str(one) and f"-{number}-" not in str(one)
            ]
            setattr(self, part, kept)
        self.members.pop(number, None)
