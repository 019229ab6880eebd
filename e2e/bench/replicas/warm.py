"""Activations of a warm standby, between two rounds of the same label by hand; and what the standby costs meanwhile."""

from dataclasses import dataclass

from e2e.bench.replicas.cost import Cost, count_cost
from e2e.bench.replicas.label import LabelByHand
from e2e.bench.replicas.scene import SET, provide
from e2e.bench.replicas.series import Series

IDLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Warm:
    """Seconds of each activation and of each label by hand; `idle` is a calm time with the standby as the source."""

    activations: tuple[float, ...]
    labels: tuple[float, ...]
    idle: Cost


def run_warm(series: Series, gib: int, times: int) -> Warm:
    """All of it, with one replica that serves and a standby."""
    bench = series.bench
    provide(bench.shop, method="VolumeSnapshot")
    bench.leave(1, standbys=1)
    [standby] = bench.shop.replicas("standby")
    series.watch(standby)
    idle = series.stay_calm(min(IDLE_SECONDS, 3 * series.calm_seconds), standby["metadata"]["name"])
    by_hand = LabelByHand(bench.shop, bench.prober, SET)
    labels, activations = by_hand.measure(times), []
    for turn in range(1, times + 1):
        activations.append(bench.join().seconds)
        bench.leave(1, standbys=1)
        bench.say(f"warm {gib} GiB {turn}/{times}: {activations[-1]:.3f} s")
    labels += by_hand.measure(times)
    series.writer.catch_up(idle.end)
    return Warm(tuple(activations), tuple(labels), count_cost(idle, series.meter, series.writer.writes))
