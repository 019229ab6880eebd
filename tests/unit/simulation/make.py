"""Small shapes and worlds, built from what a test cares about."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from headroom.policy.workerpool import PoolFacts
from headroom.policy.workerpool.constants import PROBE_SECONDS
from headroom.simulation.catalogue import constant
from headroom.simulation.load import draw_load
from headroom.simulation.run import Case
from headroom.simulation.sampling import Sampler, observe_waits
from headroom.simulation.scalers import OWN
from headroom.simulation.shapes import Batch, Kind, Shape
from headroom.simulation.world import World


def make_shape(rate: float = 0.0, **parts: Any) -> Shape:
    """A load of constant rate for ten minutes, measured from its first second."""
    defaults = {"name": "test", "title": "test", "kind": Kind.SMOOTH, "duration": 600.0, "measured_from": 0.0}
    return Shape(**{**defaults, "rate": constant(rate), "highest_rate": rate, **parts})


def make_batch(jobs: int, at: float = 10.0, known_at: float | None = None) -> tuple[Batch, ...]:
    return (Batch(at, jobs, known_at),)


def make_world(shape: Shape, workers: int, *, seed: int = 1, start_delay: float = 5.0, target: float = 30.0) -> World:
    load = draw_load(shape, seed)
    return World(shape, load, workers=workers, start_delay_seconds=start_delay, target_lag_seconds=target)


def make_case(shape: Shape, **parts: Any) -> Case:
    return Case(**{"shape": shape, "seed": 1, **parts})


def list_hands(world: World) -> list[tuple[int, int]]:
    """The number of each ready worker, and how many jobs it runs."""
    return [(worker.number, worker.in_hand) for worker in world.deployment._workers if worker.is_ready]


@dataclass(slots=True)
class Script:
    """Sets counts at fixed moments, and observes with a sampler every so many seconds.

    For tests of what is measured at a known count: no decision costs time, so that thousands of runs are quick.
    """

    counts: Sequence[tuple[float, int]]
    sampler: Sampler | None = None
    every_seconds: float = PROBE_SECONDS
    seen: list[PoolFacts] = field(default_factory=list)

    def start(self, world: World) -> None:
        """See `Scaler.start`."""
        for at, count in self.counts:
            world.call_at(at, partial(world.deployment.scale, count))
        if self.sampler is not None:
            world.call_at(0.0, partial(self._observe, world, self.sampler))

    def _observe(self, world: World, sampler: Sampler) -> None:
        sample, waits = sampler.sample(world, lead_time_seconds=0.0), observe_waits(world)
        self.seen.append(PoolFacts(own=OWN, signal=sample, target=world.deployment.observe(), waits=waits))
        world.call_at(world.now + self.every_seconds, partial(self._observe, world, sampler))
