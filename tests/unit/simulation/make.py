"""Small shapes and worlds, built from what a test cares about."""

from typing import Any

from headroom.simulation.catalogue import constant
from headroom.simulation.load import draw_load
from headroom.simulation.run import Case
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
