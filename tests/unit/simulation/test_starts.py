"""A pod that flaps in a whole run: the operator measures the lead time from pods, as it does in a cluster."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headroom.model.moments import format_time
from headroom.policy.workerpool import PoolFacts
from headroom.reconcilers.workerpool.memory import StartTimes
from headroom.reconcilers.workerpool.target import measure_lead
from headroom.simulation.deployment import LONG_AGO, Worker
from headroom.simulation.run import Figures, headroom_for, make_world, play
from headroom.simulation.scalers import EPOCH
from headroom.simulation.traps import BY_NAME
from headroom.simulation.world import World
from tests.unit.simulation.make import make_case

CREATED, WATCHED, FLAP = 850.0, 900.0, 1100.0
"""The pods are made, are first counted, and one has its readiness again after a moment; the step comes at 1200."""
START = 5.0


def make_pod(worker: Worker, flap: float | None) -> dict[str, Any]:
    """The pod of a worker as the API server has it; `flap` is when it became Ready again."""
    is_first = worker.created_at == LONG_AGO
    created, ready = (CREATED, CREATED + START) if is_first else (worker.created_at, worker.ready_at)
    ready = ready if flap is None else flap
    moments = (format_time(EPOCH + timedelta(seconds=seconds)) for seconds in (created, ready))
    metadata = {"name": f"worker-{worker.number}", "creationTimestamp": next(moments)}
    condition = {"type": "Ready", "status": "True", "lastTransitionTime": next(moments)}
    return {"metadata": metadata, "status": {"phase": "Running", "conditions": [condition] if worker.is_ready else []}}


def play_step(*, is_flapping: bool) -> tuple[Figures, float]:
    """The step x 5 until five minutes after it, and the longest lead time that was measured."""
    case = make_case(replace(BY_NAME["step"], duration=1500.0, measured_from=WATCHED))
    scaler, world, starts, leads = headroom_for(case), make_world(case), StartTimes(), [0.0]

    def count(world: World, facts: PoolFacts) -> PoolFacts:
        target = facts.workload
        if target is None or world.now < WATCHED:
            return facts
        workers = sorted(world.deployment._workers, key=lambda worker: worker.number)
        flaps = [FLAP if is_flapping and world.now >= FLAP else None, *[None] * len(workers)]
        pods = [make_pod(worker, flap) for worker, flap in zip(workers, flaps, strict=False)]
        lead = measure_lead(pods, starts, EPOCH + timedelta(seconds=world.now))
        leads.append(lead or 0.0)
        return replace(facts, target=replace(target, pods=replace(target.pods, lead_seconds=lead)))

    scaler.change_facts = count
    return play(case, scaler, world), max(leads)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_flap_of_readiness_before_a_step_makes_it_no_later() -> None:
    figures, lead = play_step(is_flapping=True)
    assert lead <= 2 * START, "a flap is not a start, which would have taken 250 s"
    assert figures == play_step(is_flapping=False)[0]
    assert figures.highest_lag <= 30
