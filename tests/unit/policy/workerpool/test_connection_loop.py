"""Pools and their guard in a closed loop: they settle within the budget, by need and class."""

from dataclasses import replace
from typing import Any

from headroom.model.database import VIEW_FRESH_SECONDS, DatabaseView
from headroom.policy.databaseguard.budget import allocate
from headroom.policy.workerpool import PoolMemory, Rule
from headroom.reasons import Reason
from tests.unit.policy.workerpool.make import (
    GUARDED,
    OWN,
    make_spec,
    make_view,
    scaling_of,
)
from tests.unit.policy.workerpool.world import World


class Guard:
    """Allocates a budget among worlds once a second, as the guard of their database does."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.worlds: list[World] = []
        self.is_blind = False
        self.view: DatabaseView | None = None

    def add(self, uid: str, rate: float, seed: int, **spec: Any) -> World:
        asked = make_spec(**{"expected_job": 0.5, "max_workers": 60, **GUARDED, **spec})
        world = World(
            lambda _: rate,
            0.5,
            asked,
            seed=seed,
            own=replace(OWN, uid=uid),
            database=lambda _: self.view,
            memory=PoolMemory(last_good_rate=2.0),
        )
        self.worlds.append(world)
        return world

    def run(self, seconds: float) -> list[int]:
        """All worlds side by side; returns the connections that were held at each second."""
        held = []
        for _ in range(round(seconds)):
            if not self.is_blind:
                demands = [world.timeline[-1][4].claim for world in self.worlds if world.timeline]
                allocations = allocate(self.budget, [demand for demand in demands if demand is not None])
                at = self.worlds[0].now
                self.view = replace(make_view(at=at), allocations=allocations)
            for world in self.worlds:
                world.run(1.0)
            held.append(sum(world.present * world.spec.connections_per_worker for world in self.worlds))
        return held


def test_two_pools_settle_within_the_budget_and_share_it() -> None:
    guard = Guard(budget=20)
    first, second = guard.add("uid-a", 40.0, seed=1), guard.add("uid-b", 40.0, seed=2)
    held = guard.run(120)
    assert max(held[2:]) <= 20
    assert (first.present, second.present) == (10, 10)


def test_a_pool_of_a_higher_class_gets_what_it_needs_first() -> None:
    guard = Guard(budget=24)
    critical = guard.add("uid-a", 30.0, seed=3, priority="Critical")
    background = guard.add("uid-b", 40.0, seed=4, priority="Background", min_workers=2)
    held = guard.run(180)
    assert max(held[2:]) <= 24
    assert critical.lag() < 30
    assert critical.present >= 15
    assert background.present >= 2, "a minimum goes before the growth of another class"


def test_connections_per_worker_count() -> None:
    guard = Guard(budget=21)
    heavy, light = guard.add("uid-a", 40.0, seed=5, connectionsPerWorker=4), guard.add("uid-b", 40.0, seed=6)
    held = guard.run(120)
    assert max(held[2:]) <= 21
    assert heavy.present >= 1
    assert light.present >= 1


def test_a_guard_that_goes_blind_keeps_the_sum_where_it_was() -> None:
    guard = Guard(budget=40)
    world, other = guard.add("uid-a", 4.0, seed=7), guard.add("uid-b", 4.0, seed=8)
    guard.run(60)
    before = (world.present, other.present)
    guard.is_blind = True
    guard.run(round(VIEW_FRESH_SECONDS) + 2)
    world.arrive(4000)
    guard.run(120)
    assert (world.present, other.present) == before, "a backlog adds nobody while connections are not counted"
    assert scaling_of(world.timeline[-1][4]).reason is Reason.GUARD_NOT_READY
    guard.is_blind = False
    guard.run(30)
    assert world.present > before[0]


def verdicts(world: World, since: float) -> list[tuple[bool, Reason]]:
    """Whether connections were said to limit the pool, and whether it keeps up, one after the other."""
    shown = [
        (scaling_of(decision).is_held_back and scaling_of(decision).limit is Rule.CONNECTION_BUDGET, decision)
        for at, _, _, _, decision in world.timeline
        if at >= since
    ]
    found: list[tuple[bool, Reason]] = []
    for is_short, decision in shown:
        entry = (is_short, decision.keeping_up.reason)
        if not found or found[-1] != entry:
            found.append(entry)
    return found


def growing(guard: Guard) -> World:
    """A Standard pool whose arrivals grow from 4 to 36 a second within six minutes."""
    world = guard.add("uid-b", 4.0, seed=9)
    world.rate = lambda at: 4.0 + 32.0 * min(1.0, at / 360.0)
    return world


def test_steady_growth_beside_idle_critical_pools_is_never_called_a_shortage() -> None:
    """Each of nine pools has a worker or two of headroom, and the growing one wants more than that at once."""
    guard = Guard(budget=44)
    for number in range(8):
        guard.add(f"uid-{number}", 0.0, seed=10 + number, priority="Critical", max_workers=60)
    world = growing(guard)
    held = guard.run(420)
    assert max(held) <= 44
    assert world.present >= 18
    assert not any(is_short for is_short, _ in verdicts(world, 0.0))
    assert Reason.CANNOT_MEET_DEADLINE not in {reason for _, reason in verdicts(world, 0.0)}


def test_a_real_shortage_shows_within_five_seconds_and_stays() -> None:
    guard = Guard(budget=12)
    guard.add("uid-a", 0.0, seed=10, priority="Critical")
    world = growing(guard)
    guard.run(420)
    wanted = next(at for at, _, _, _, one in world.timeline if scaling_of(one).wanted > 14)
    shown = [is_short for is_short, _ in verdicts(world, wanted + 5.0)]
    assert shown == [True] * len(shown)
    assert world.present == 11


def test_an_idle_pool_loses_no_worker_to_the_headroom_of_another() -> None:
    guard = Guard(budget=55)
    guard.add("uid-a", 0.0, seed=11, priority="Critical")
    world = guard.add("uid-b", 40.0, seed=12, down_window=120.0)
    guard.run(120)
    busy = world.present
    assert busy >= 20
    world.rate = lambda _: 0.0
    guard.run(100)
    assert world.present == busy, "the down window holds them, and nobody else wants their connections"
