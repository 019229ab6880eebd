"""CONNECTION LIMITs of roles and databases, and what one worker takes: the sum of all pools stays within them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.database import ConnectionCounts, LimitedConnections, PoolDemand
from headroom.model.frozen import FrozenMap
from headroom.policy.databaseguard.allocation import GroupLimit, allocate
from headroom.policy.databaseguard.budget import ConnectionPlan, plan_connections
from headroom.policy.databaseguard.limits import ConnectionLimits
from headroom.policy.databaseguard.use import (
    FIRST_COUNTS,
    FIRST_EVERY_SECONDS,
    MOST_USED,
    PATIENCE_SECONDS,
    USE_EVERY_SECONDS,
    USE_SECONDS,
    UseHistory,
)
from headroom.reasons import Reason
from tests.unit.policy.databaseguard.allocations import BACKGROUND, CRITICAL, STANDARD
from tests.unit.policy.databaseguard.make import make_counts, make_demand

STORE = ConnectionLimits(60, 5, database="store")


@dataclass
class Worker:
    """A pool whose workers take `takes` connections each, whatever its spec says."""

    uid: str
    takes: float
    wanted: int = 1000
    rank: int = STANDARD
    declared: int = 1
    role: str | None = None
    running: int = 0
    terminating: int = 0
    is_ready: bool = True

    @property
    def sessions(self) -> int:
        return round(self.takes * (self.running + self.terminating))

    def demand(self) -> PoolDemand:
        values = {"running": self.running, "busy": self.running, "wanted": self.wanted, "maximum": 1000}
        made = make_demand(self.uid, self.rank, self.declared, terminating=self.terminating, **values)
        return replace(made, role=self.role or self.uid, ready=self.running if self.is_ready else 0)


@dataclass
class Server:
    """Pools that grow into whatever they are given, on a server that counts their real sessions."""

    pools: Sequence[Worker]
    limit: int = 97
    others: int = 0
    roles: Mapping[str, int] = field(default_factory=dict)
    other_sessions: Mapping[str, int] = field(default_factory=dict)
    database: int | None = None
    limits: ConnectionLimits = STORE
    now: float = 0.0
    plan: ConnectionPlan | None = None

    def count(self) -> ConnectionCounts:
        used = {pool.role or pool.uid: 0 for pool in self.pools}
        for pool in self.pools:
            used[pool.role or pool.uid] += pool.sessions
        for role, sessions in self.other_sessions.items():
            used[role] = used.get(role, 0) + sessions
        total = self.others + sum(used.values())
        roles = {role: LimitedConnections(number, self.roles.get(role)) for role, number in used.items()}
        return replace(
            make_counts(total, self.limit),
            roles=FrozenMap(roles),
            databases=FrozenMap({"store": LimitedConnections(total, self.database)}),
        )

    def step(self, seconds: float = USE_EVERY_SECONDS, *, growth: int = 1000) -> ConnectionPlan:
        demands = [pool.demand() for pool in self.pools]
        self.plan = plan_connections(
            "store", self.count(), {"store": self.limits}, demands, now=self.now, previous=self.plan
        )
        for pool in self.pools:
            granted = self.plan.allocations.get(pool.uid)
            if granted is not None:
                pool.running = min(granted.workers, pool.running + growth, pool.wanted)
        self.now += seconds
        return self.plan

    @property
    def sessions(self) -> int:
        return sum(pool.sessions for pool in self.pools)


def run(server: Server, steps: int = 40, growth: int = 1) -> ConnectionPlan:
    for _ in range(steps):
        plan = server.step(growth=growth)
    return plan


class TestMeasuredUse:
    def test_a_worker_that_takes_more_than_its_spec_says_is_counted_at_that(self) -> None:
        server = Server([Worker("mail", takes=3)])
        plan = run(server)
        assert plan.allocations["mail"].per_worker == 3
        assert plan.allocations["mail"].workers == 55 // 3
        assert server.sessions == 54

    def test_a_worker_that_takes_less_is_counted_at_what_its_spec_says(self) -> None:
        server = Server([Worker("mail", takes=1, declared=4)])
        plan = run(server)
        assert (plan.allocations["mail"].workers, plan.allocations["mail"].per_worker) == (55 // 4, 0)
        assert plan.allocations["mail"].seen == pytest.approx(1, abs=0.1), "which is worth a word"

    @pytest.mark.parametrize(("takes", "ready"), [(4, 6), (1, 3)], ids=["as declared", "some still connect"])
    def test_less_than_declared_is_told_only_where_it_is_known(self, takes: int, ready: int) -> None:
        demand = replace(make_demand("a", running=6, ready=ready, started=ready), role="a", connections_per_worker=4)
        use, roles = UseHistory(), {"a": LimitedConnections(takes * ready)}
        for second in range(10):
            use = use.observe(float(second), roles, [demand])
        assert use.measure([demand], 10.0)[0].seen == 0

    def test_parts_of_a_connection_count(self) -> None:
        """One session more than there are workers must not cost half of the workers."""
        server = Server([Worker("mail", takes=1, wanted=30)], other_sessions={"mail": 1})
        plan = run(server, steps=100)
        assert server.pools[0].running == 30
        assert plan.allocations["mail"].per_worker == pytest.approx(31 / 30, abs=0.02)

    def test_pools_of_one_role_share_what_is_measured(self) -> None:
        server = Server([Worker("a", takes=2, role="jobs"), Worker("b", takes=2, role="jobs")])
        plan = run(server)
        assert {uid: made.per_worker for uid, made in plan.allocations.items()} == {"a": 2, "b": 2}
        assert server.sessions <= 55

    def test_starting_workers_make_no_count_too_high(self) -> None:
        demand = replace(make_demand("a", running=10, ready=2, started=2), role="a")
        roles = {"a": LimitedConnections(4)}
        assert UseHistory().observe(0.0, roles, [demand]).measure([demand], 0.0)[0].measured == 0

    def test_a_reconnect_of_all_workers_is_passed_over(self) -> None:
        server = Server([Worker("mail", takes=1, wanted=20)])
        run(server, growth=20)
        server.pools[0].takes = 2
        server.step()
        server.pools[0].takes = 1
        plan = run(server, steps=5)
        assert (server.pools[0].running, plan.allocations["mail"].per_worker) == (20, 0)

    def test_what_lasts_counts_within_seconds_and_is_forgotten_after_five_minutes(self) -> None:
        server = Server([Worker("mail", takes=1, wanted=10)])
        run(server, growth=20)
        server.pools[0].takes = 2
        assert run(server, steps=4).allocations["mail"].per_worker == 2
        server.pools[0].takes = 1
        steps = round(USE_SECONDS / USE_EVERY_SECONDS)
        assert run(server, steps=steps - 6).allocations["mail"].per_worker == 2
        assert run(server, steps=8).allocations["mail"].per_worker == 0

    def test_a_role_that_is_not_only_of_workers_tells_nothing(self) -> None:
        server = Server([Worker("mail", takes=1, wanted=2)], other_sessions={"mail": 3 * MOST_USED})
        plan = run(server)
        assert plan.allocations["mail"].per_worker == 0

    def test_pods_that_were_not_counted_tell_nothing(self) -> None:
        demand = replace(make_demand("a", running=1, is_counted=False), role="a")
        roles = {"a": LimitedConnections(9)}
        assert UseHistory().observe(0.0, roles, [demand]).measure([demand], 0.0)[0].measured == 0

    def test_a_pool_without_a_role_is_counted_by_its_spec(self) -> None:
        demand = make_demand("a", running=1)
        roles = {"a": LimitedConnections(9)}
        assert UseHistory().observe(0.0, roles, [demand]).measure([demand], 0.0)[0].measured == 0


class TestRoles:
    def test_the_pools_of_a_role_stay_within_its_limit(self) -> None:
        server = Server([Worker("a", 1, role="jobs"), Worker("b", 1, role="jobs"), Worker("c", 1)], roles={"jobs": 20})
        plan = run(server)
        assert [pool.running for pool in server.pools] == [10, 10, 35]
        assert plan.allocations["a"].limited == 'role "jobs" (CONNECTION LIMIT 20)'
        assert (plan.allocations["a"].budget, plan.allocations["c"].limited) == (20, "")

    def test_what_others_hold_as_that_role_is_theirs(self) -> None:
        server = Server([Worker("a", 1, declared=2, role="jobs")], roles={"jobs": 20}, other_sessions={"jobs": 0})
        run(server)
        assert server.pools[0].running == 10
        server = Server([Worker("a", 1, role="jobs")], roles={"jobs": 40}, other_sessions={"jobs": 30})
        demand = replace(make_demand("a", wanted=99), role="jobs")
        server.pools[0].wanted = 0
        plan = plan_connections("store", server.count(), {"store": STORE}, [demand], now=0.0, previous=None)
        assert plan.groups == (GroupLimit('role "jobs" (CONNECTION LIMIT 40)', frozenset("a"), 10),)

    def test_others_who_come_take_no_worker_that_runs(self) -> None:
        server = Server([Worker("a", 1, role="jobs")], roles={"jobs": 20})
        run(server)
        server.other_sessions = {"jobs": 5}
        plan = server.step()
        assert (server.pools[0].running, plan.groups[0].size) == (20, 20)

    def test_a_limit_that_was_lowered_takes_the_rest_away(self) -> None:
        server = Server([Worker("a", 1, role="jobs")], roles={"jobs": 20})
        run(server)
        server.roles = {"jobs": 8}
        run(server, steps=2)
        assert server.pools[0].running == 8

    def test_a_role_without_a_session_is_limited_before_its_first_worker(self) -> None:
        counts = replace(make_counts(), roles=FrozenMap({"jobs": LimitedConnections(0, 3)}))
        demand = replace(make_demand("a", wanted=50, minimum=50), role="jobs")
        plan = plan_connections("store", counts, {"store": STORE}, [demand], now=0.0, previous=None)
        assert plan.groups == (GroupLimit('role "jobs" (CONNECTION LIMIT 3)', frozenset("a"), 3),)


class TestFirstWorkers:
    """What a worker takes is not known before it has run: until then a pool does not grow."""

    def test_a_pool_waits_for_the_first_counts_of_its_workers(self) -> None:
        server = Server([Worker("mail", takes=3, running=1)])
        for _ in range(FIRST_COUNTS - 1):
            server.step(FIRST_EVERY_SECONDS)
            assert server.pools[0].running == 1
        server.step(FIRST_EVERY_SECONDS)
        assert server.pools[0].running == 55 // 3

    def test_from_zero_there_is_one(self) -> None:
        server = Server([Worker("mail", takes=3)])
        server.step(FIRST_EVERY_SECONDS)
        assert server.pools[0].running == 1

    def test_it_is_no_shortage(self) -> None:
        server = Server([Worker("mail", takes=3, running=1)])
        assert not server.step().allocations["mail"].is_short

    def test_who_is_measured_first_takes_nothing_of_a_higher_class(self) -> None:
        """The mails' workers are Ready at once, those of the bills 20 s later; all are always busy."""
        bills, mail = Worker("bills", 1, wanted=8, rank=CRITICAL, is_ready=False), Worker("mail", 2)
        server = Server([bills, mail], limit=57)
        for second in range(30):
            server.step(1.0)
            bills.is_ready = second > 20
        assert [pool.running for pool in server.pools] == [8, 11]

    def test_workers_that_connect_late_are_waited_for(self) -> None:
        server = Server([Worker("mail", takes=0, running=1)])
        server.step(FIRST_EVERY_SECONDS)
        server.step(FIRST_EVERY_SECONDS)
        server.pools[0].takes = 3
        run(server, steps=10, growth=100)
        assert server.pools[0].running == 55 // 3

    @pytest.mark.parametrize("late", range(1, 12))
    def test_sessions_that_come_late_are_waited_for_however_late(self, late: int) -> None:
        """Ready without a session tells nothing; nor do sessions of which there are more each time."""
        server = Server([Worker("mail", takes=0, running=1)])
        for second in range(late + FIRST_COUNTS + 3):
            server.pools[0].takes = min(3, max(0, second - late + 1))
            server.step(FIRST_EVERY_SECONDS)
            assert server.sessions <= 55
        assert server.pools[0].running == 55 // 3

    def test_the_first_session_of_a_worker_is_no_others_at_the_limit_of_its_role(self) -> None:
        """Else its pool would be promised less, and another one would grow into that."""
        imports, mail = Worker("imports", 3, running=1, is_ready=False), Worker("mail", 1, running=1)
        server = Server([imports, mail], roles={"imports": 6})
        for second in range(30):
            imports.takes = 0 if second < 3 else 3
            plan = server.step(FIRST_EVERY_SECONDS)
            assert plan.groups[0].size == 6
            imports.is_ready = second > 20
        assert (imports.running, mail.running) == (2, 49)

    def test_workers_that_are_never_ready_are_not_waited_for_for_ever(self) -> None:
        demand = replace(make_demand("a", running=5, ready=4, wanted=50), role="a")
        plan, roles = None, FrozenMap({"a": LimitedConnections(4)})
        for now in range(0, round(PATIENCE_SECONDS) + 2, 2):
            counts = replace(make_counts(), roles=roles)
            plan = plan_connections("store", counts, {"store": STORE}, [demand], now=float(now), previous=plan)
            assert (plan.allocations["a"].workers > 5) is (now >= PATIENCE_SECONDS)

    def test_after_a_night_at_zero_the_use_is_still_known(self) -> None:
        server = Server([Worker("mail", takes=3, running=1, wanted=1)])
        run(server, steps=10)
        server.pools[0].running = server.pools[0].wanted = 0
        run(server, steps=500)
        server.pools[0].wanted = 100
        server.step()
        assert server.pools[0].running == 55 // 3

    def test_a_pool_without_a_role_is_taken_at_its_specs_word(self) -> None:
        plan = plan_connections(
            "store", make_counts(), {"store": STORE}, [make_demand("a", running=1, wanted=9)], now=0.0, previous=None
        )
        assert plan.allocations["a"].workers >= 9


class TestDatabase:
    def test_share_and_reserve_apply_to_a_databases_own_limit(self) -> None:
        server = Server([Worker("a", 1), Worker("b", 1)], database=25)
        plan = run(server)
        assert server.sessions == (25 - 5) * 60 // 100
        assert plan.budget.budget == 12
        assert plan.budget.finding is not None
        assert plan.budget.finding.reason is Reason.DATABASE_CONNECTION_LIMIT
        assert 'ALTER DATABASE "store" CONNECTION LIMIT' in plan.budget.finding.message
        assert plan.allocations["a"].limited == 'database "store" (CONNECTION LIMIT 25)'

    def test_others_in_it_leave_less(self) -> None:
        server = Server([Worker("a", 1)], database=40, others=30)
        run(server)
        assert server.sessions == 40 - 5 - 30

    def test_a_limit_above_the_servers_changes_nothing(self) -> None:
        server = Server([Worker("a", 1)], database=500)
        plan = run(server, growth=20)
        assert (server.sessions, plan.budget.budget, plan.budget.finding) == (55, 55, None)

    def test_the_limit_of_another_database_is_not_ours(self) -> None:
        counts = replace(make_counts(), databases=FrozenMap({"shop": LimitedConnections(0, 3)}))
        plan = plan_connections("store", counts, {"store": STORE}, [], now=0.0, previous=None)
        assert (plan.groups, plan.budget.budget) == ((), 55)


numbers = st.integers(1, 5)


@st.composite
def servers(draw: st.DrawFn) -> Server:
    pools = [
        Worker(
            f"pool-{number}",
            takes=draw(st.sampled_from([1, 1.5, 2, 3])),
            wanted=draw(st.integers(1, 200)),
            rank=draw(st.sampled_from([CRITICAL, STANDARD, BACKGROUND])),
            declared=3,
            role=draw(st.sampled_from([None, "jobs", "mail"])),
        )
        for number in range(draw(st.integers(1, 5)))
    ]
    return Server(
        pools,
        limit=draw(st.integers(0, 150)),
        others=draw(st.integers(0, 60)),
        roles=draw(st.dictionaries(st.sampled_from(["jobs", "mail"]), st.integers(0, 60))),
        database=draw(st.none() | st.integers(0, 120)),
    )


@given(servers(), st.lists(st.tuples(numbers, st.integers(0, 60), st.integers(1, 200)), max_size=12))
def test_the_sum_never_exceeds_what_was_allowed(server: Server, changes: list[tuple[int, int, int]]) -> None:
    """Workers come, go and terminate, others come, and queues want anything: pools never grow beyond the share."""
    usable = max(0, server.limit - 5)
    share = usable * 60 // 100
    for growth, others, wanted in changes:
        before = server.sessions
        plan = server.step(growth=growth * 20)
        granted = {uid: made.workers * 3 for uid, made in plan.allocations.items()}
        assert sum(granted.values()) <= share
        assert server.sessions <= max(share, before)
        assert server.sessions + server.others <= max(usable, before + server.others), "nothing grows into others'"
        for role, limit in server.roles.items():
            assert sum(granted.get(pool.uid, 0) for pool in server.pools if pool.role == role) <= limit
        if server.database is not None:
            assert sum(granted.values()) <= max(0, server.database - 5) * 60 // 100
        server.others = others
        for pool in server.pools:
            pool.wanted = wanted
            ended = pool.running // 2 if wanted % 3 == 0 else 0
            pool.running, pool.terminating = pool.running - ended, ended


@given(
    st.integers(0, 100),
    st.lists(st.tuples(st.integers(0, 20), st.floats(0, 9), st.integers(0, 40)), max_size=5),
    st.integers(0, 50),
)
def test_shares_of_workers_that_take_parts_of_a_connection_fit(
    budget: int, pools: list[tuple[int, float, int]], size: int
) -> None:
    demands = [
        replace(make_demand(f"p{number}", running=running, wanted=wanted, maximum=60), measured=measured, role="r")
        for number, (running, measured, wanted) in enumerate(pools)
    ]
    limit = GroupLimit("role", frozenset(demand.uid for demand in demands[::2]), size)
    made = allocate(budget, demands, limits=[limit])
    taken = {demand.uid: demand.per_worker * made[demand.uid].workers for demand in demands}
    assert sum(taken.values()) <= budget + 1e-3
    assert sum(taken[uid] for uid in limit.uids) <= size + 1e-3
