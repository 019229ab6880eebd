"""What a pool asks its guard for: what it holds, what it wants, and what cannot be taken from it."""

from dataclasses import replace
from typing import Any

import pytest

from headroom.model.conditions import Finding
from headroom.model.database import Allocation, PoolDemand
from headroom.policy.target_conflict import AutoscalerClaim
from headroom.policy.workerpool import PoolDecision, PoolFacts, PoolMemory, decide
from headroom.reasons import Reason
from tests.unit.policy.workerpool.make import (
    DEPLOYMENT,
    GAP,
    GUARDED,
    KNOWN,
    NOW,
    OWN,
    arriving,
    make_facts,
    make_sample,
    make_spec,
    make_target,
    make_view,
    moment,
    scaling_of,
)

STILL = PoolDemand(
    uid=OWN.uid,
    rank=1,
    connections_per_worker=1,
    minimum=0,
    running=0,
    busy=0,
    wanted=0,
    maximum=0,
    guard="store",
    ready=0,
    terminating=0,
    workload="apps/Deployment/mailer",
    started=0,
)
"""A pool that holds nothing and asks for nothing."""


def claim(seen: PoolFacts, memory: PoolMemory = KNOWN, **spec: Any) -> PoolDemand | None:
    decision: PoolDecision = decide(make_spec(**{**GUARDED, **spec}), seen, memory, moment(NOW)).decision
    return decision.claim


def want(seen: PoolFacts, memory: PoolMemory) -> int:
    """What the queue alone asks for."""
    wanted = scaling_of(decide(make_spec(), seen, memory, moment(NOW)).decision).wanted
    assert wanted > 15
    return wanted


def test_a_pool_asks_for_what_its_queue_wants_within_its_bounds() -> None:
    seen, memory = arriving(12, 16.0, in_flight=3)
    wanted = want(seen, memory)
    asked = claim(seen, memory, connectionsPerWorker=2, min_workers=2, priority="Critical")
    bounds, ready = {"minimum": 2, "maximum": 40}, {"ready": 12, "started": 12}
    assert asked == replace(
        STILL, rank=0, connections_per_worker=2, running=12, busy=3, wanted=wanted, **bounds, **ready
    )
    below = claim(seen, memory, max_workers=15)
    assert below is not None
    assert below.wanted == 15, "never more than maxWorkers"
    above = claim(seen, memory, min_workers=30)
    assert above is not None
    assert (above.minimum, above.wanted) == (30, 30)


@pytest.mark.parametrize(("priority", "rank"), [("Critical", 0), ("Standard", 1), ("Background", 2)])
def test_the_rank_is_that_of_the_priority(priority: str, rank: int) -> None:
    asked = claim(make_facts(), priority=priority)
    assert asked is not None
    assert asked.rank == rank


def test_pods_that_start_hold_their_connections_already() -> None:
    starting = make_target(8, existing=11, running=5, ready=5)
    asked = claim(make_facts(target=starting, signal=make_sample(in_flight=40)))
    assert asked is not None
    assert (asked.running, asked.busy) == (11, 5), "no more workers are busy than run"


def test_workers_that_run_and_are_not_ready_may_hold_a_connection() -> None:
    unready = claim(make_facts(target=make_target(8, existing=8, running=6, ready=2, waiting=2, terminating=3)))
    assert unready is not None
    assert (unready.ready, unready.started, unready.connected, unready.possible) == (2, 6, 5, 9)


def test_before_its_pods_were_counted_nobody_knows_how_many_terminate() -> None:
    early = claim(make_facts(target=make_target(8, is_counted=False)))
    assert early is not None
    assert not early.is_counted


@pytest.mark.parametrize("signal", [GAP, make_sample(in_flight=None)])
def test_who_cannot_tell_idle_workers_takes_all_for_busy(signal: Any) -> None:
    asked = claim(make_facts(8, signal=signal))
    assert asked is not None
    assert asked.busy == 8


def test_the_role_of_the_workers_is_told() -> None:
    asked = claim(make_facts(), databaseRole="mail")
    assert asked is not None
    assert asked.role == "mail"


def test_jobs_share_a_worker_as_far_as_it_takes_several() -> None:
    asked = claim(make_facts(8, signal=make_sample(in_flight=9)), concurrency=4)
    assert asked is not None
    assert asked.busy == 3


def test_a_blind_pool_asks_for_what_it_wanted_last_and_for_no_less_than_it_has() -> None:
    seen, memory = arriving(12, 16.0)
    known = decide(make_spec(), seen, memory, moment(NOW)).memory
    asked = claim(replace(seen, signal=GAP), known)
    assert asked is not None
    assert asked.wanted == want(seen, memory)
    small = claim(make_facts(30, signal=GAP), known)
    assert small is not None
    assert small.wanted == 30
    never = claim(make_facts(7, signal=GAP), PoolMemory())
    assert never is not None
    assert never.wanted == 7


def test_workers_that_are_written_now_hold_their_connections_already() -> None:
    """Their pods connect before the next demand: the guard must not give the connections to another pool meanwhile."""
    seen, memory = arriving(12, 16.0)
    generous = make_view(allocation=Allocation(30, 60, 0))
    asked = claim(replace(seen, database=generous, has_guard=True), memory)
    assert asked is not None
    assert (asked.running, asked.wanted) == (want(seen, memory), want(seen, memory))
    late = claim(make_facts(target=make_target(9, existing=4, running=4, ready=4)))
    assert late is not None
    assert late.running == 9, "they were asked for, and their pods are not there yet"


@pytest.mark.parametrize("mode", ["DryRun", "Paused"])
def test_a_pool_that_is_not_scaled_keeps_what_is_there_and_asks_for_no_more(mode: str) -> None:
    seen, memory = arriving(4, 16.0)
    asked = claim(seen, memory, mode=mode, min_workers=9)
    assert asked == replace(STILL, minimum=4, running=4, busy=4, wanted=4, maximum=4, ready=4, started=4)


def test_a_pool_that_another_scales_asks_for_what_is_there() -> None:
    seen, memory = arriving(4, 16.0)
    asked = claim(replace(seen, autoscalers=(AutoscalerClaim("hpa", DEPLOYMENT),)), memory)
    assert asked is not None
    assert (asked.busy, asked.wanted, asked.maximum) == (4, 4, 4)


def test_a_pool_whose_target_is_missing_asks_for_nothing() -> None:
    missing = Finding(Reason.TARGET_NOT_FOUND, "there is no deployment/mailer")
    asked = claim(make_facts(target=missing))
    assert asked == replace(STILL, workload=None), "and nobody knows what it has"


def test_a_cron_job_and_a_pool_without_a_guard_ask_for_nothing_at_all() -> None:
    cron_job = {"suspendRef": {"apiVersion": "batch/v1", "kind": "CronJob", "name": "cohorts"}}
    assert claim(make_facts(target=None), workers=cron_job) is None
    assert claim(make_facts(), databaseRef=None) is None


def test_workers_that_terminate_hold_connections_and_are_no_workers() -> None:
    target = make_target(8, existing=8, running=8, ready=7, terminating=5)
    asked = claim(make_facts(target=target, signal=make_sample(in_flight=40)))
    assert asked is not None
    assert (asked.running, asked.ready, asked.terminating, asked.busy) == (8, 7, 5, 8)
    paused = claim(make_facts(target=target), mode="Paused")
    assert paused is not None
    assert (paused.running, paused.maximum, paused.terminating) == (8, 8, 5)


def test_they_hold_them_though_the_target_cannot_be_read_any_more() -> None:
    known = decide(make_spec(**GUARDED), make_facts(target=make_target(0, terminating=5)), KNOWN, moment(NOW)).memory
    asked = claim(make_facts(target=Finding(Reason.TARGET_NOT_FOUND, "there is no deployment/mailer")), known)
    assert asked is not None
    assert (asked.running, asked.terminating, asked.workload) == (0, 5, "apps/Deployment/mailer")


def test_a_target_that_cannot_be_read_keeps_what_its_pool_held() -> None:
    """A wrong name in the spec ends no worker: their connections must not become those of others."""
    known = decide(make_spec(databaseRef={"name": "store"}), make_facts(30), KNOWN, moment(NOW)).memory
    missing = Finding(Reason.TARGET_NOT_FOUND, "there is no deployment/mailer")
    asked = claim(replace(make_facts(30), target=missing), known)
    assert asked is not None
    assert (asked.running, asked.busy, asked.wanted, asked.maximum) == (30, 30, 30, 30)
