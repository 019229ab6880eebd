"""The figures: of one size, and over all sizes that were measured."""

import statistics
from collections.abc import Callable, Mapping, Sequence

from e2e.bench.replicas.cost import Cost
from e2e.bench.replicas.meter import Usage
from e2e.bench.replicas.series import Kind, Sample
from e2e.bench.replicas.warm import Warm
from e2e.lab.kubectl import Manifest
from e2e.lab.results import Figure, at_least, at_most, percentile

WARM_P50, WARM_P99, WARM_RATIO = 0.15, 0.5, 2.0
BASE_BACKUP_RATIO = 1.15
SNAPSHOT_SECONDS, SNAPSHOT_RATIO_BY_HAND, SNAPSHOT_GROWTH = 6.0, 1.5, 1.2
COMMIT_RATIO = 1.5
"""While a replica is made from a snapshot or a standby. From the primary the figure is shown without a goal."""
SPEEDUPS = {4: 50.0, 16: 150.0}
"""A warm standby beside a base backup from the primary."""
SMALLEST, LARGEST = 1, 16
TOO_OLD, CUT = "reads_too_old_count", "queries_cut_count"
MIB = 2**20
QUANTITIES: dict[str, tuple[str, Callable[[Usage], float]]] = {
    "cpu": ("s", lambda usage: usage.cpu_seconds),
    "read": ("MiB", lambda usage: usage.read_bytes / MIB),
    "written": ("MiB", lambda usage: usage.written_bytes / MIB),
}


def figure_warm(gib: int, warm: Warm) -> dict[str, Figure]:
    """An activation, its floor, and what a warm standby costs in a minute."""
    activations, labels = warm.activations, warm.labels
    return {
        f"warm_p50_{gib}gib": at_most(percentile(activations, 0.5), WARM_P50, samples=activations),
        f"warm_p99_{gib}gib": at_most(percentile(activations, 0.99), WARM_P99, samples=activations),
        f"label_by_hand_p50_{gib}gib": _median_of(labels),
        f"label_by_hand_p99_{gib}gib": Figure(round(percentile(labels, 0.99), 4), samples=labels),
        **_figure_idle(gib, warm.idle),
    }


def _figure_idle(gib: int, idle: Cost) -> dict[str, Figure]:
    if idle.source is None:
        return {}
    minutes = idle.seconds / 60
    rates = {
        f"standby_{name}_per_minute_{gib}gib": Figure(round(count(idle.source) / minutes, 3), unit)
        for name, (unit, count) in QUANTITIES.items()
    }
    return {**rates, f"standby_memory_{gib}gib": Figure(round(idle.source.working_set / MIB, 1), "MiB")}


def figure_cold(gib: int, kind: Kind, samples: Sequence[Sample]) -> dict[str, Figure]:
    """One kind: medians of ours, of the bare commands and by hand, with what ours cost; nothing without a sample."""
    costs = [sample.ours for sample in samples if sample.ours is not None]
    wrong = {f"{kind}_not_as_asked_count_{gib}gib": at_most(len(samples) - len(costs), 0, "replicas")}
    if not costs:
        return wrong
    ours = [cost.seconds for cost in costs]
    bare, hand = [sample.bare_seconds for sample in samples], [sample.hand.seconds for sample in samples]
    median, floor, peer = (statistics.median(each) for each in (ours, bare, hand))
    is_snapshot = kind is Kind.SNAPSHOT
    return {
        f"{kind}_{gib}gib": at_most(median, SNAPSHOT_SECONDS, samples=ours) if is_snapshot else _median_of(ours),
        f"bare_{kind}_{gib}gib": _median_of(bare),
        f"by_hand_{kind}_{gib}gib": _median_of(hand),
        f"{kind}_ratio_{gib}gib": _ratio(median / floor, None if is_snapshot else BASE_BACKUP_RATIO),
        f"{kind}_ratio_by_hand_{gib}gib": _ratio(median / peer, SNAPSHOT_RATIO_BY_HAND if is_snapshot else None),
        **_figure_commits(gib, kind, samples),
        **_figure_costs(gib, kind, samples),
        **wrong,
    }


def _figure_commits(gib: int, kind: Kind, samples: Sequence[Sample]) -> dict[str, Figure]:
    """The slowest hundredth of the commits in each sort of window, all turns together."""
    calm = [each for sample in samples for each in sample.calm.commits]
    ours = [each for sample in samples if sample.ours is not None for each in sample.ours.commits]
    hand = [each for sample in samples for each in sample.hand.commits]
    if not (calm and ours and hand):
        return {}
    calm_p99, ours_p99, hand_p99 = (percentile(each, 0.99) for each in (calm, ours, hand))
    return {
        f"{kind}_commit_p99_{gib}gib": Figure(round(ours_p99, 2), "ms"),
        f"by_hand_{kind}_commit_p99_{gib}gib": Figure(round(hand_p99, 2), "ms"),
        f"calm_{kind}_commit_p99_{gib}gib": Figure(round(calm_p99, 2), "ms"),
        f"{kind}_commit_ratio_{gib}gib": _ratio(ours_p99 / calm_p99, None if kind is Kind.PRIMARY else COMMIT_RATIO),
    }


def _figure_costs(gib: int, kind: Kind, samples: Sequence[Sample]) -> dict[str, Figure]:
    """Medians of what each server used while ours was made, and in as many seconds of the calm time before it."""
    figures: dict[str, Figure] = {}
    for who, of in SERVERS.items():
        pairs = [(sample.calm, sample.ours) for sample in samples if sample.ours is not None]
        used = [(of(calm), of(ours), ours.seconds / calm.seconds) for calm, ours in pairs]
        known = [(calm, ours, share) for calm, ours, share in used if calm is not None and ours is not None]
        if not known:
            continue
        for name, (unit, count) in QUANTITIES.items():
            figures[f"{kind}_{who}_{name}_{gib}gib"] = _median_of([count(ours) for _, ours, _ in known], unit)
            calm = [share * count(calm) for calm, _, share in known]
            figures[f"calm_{kind}_{who}_{name}_{gib}gib"] = _median_of(calm, unit)
        memory = [ours.working_set / MIB for _, ours, _ in known]
        figures[f"{kind}_{who}_memory_{gib}gib"] = _median_of(memory, "MiB")
    return figures | _figure_kept(gib, kind, samples)


def _figure_kept(gib: int, kind: Kind, samples: Sequence[Sample]) -> dict[str, Figure]:
    """WAL that the slot of the slowest member kept, and the anchor of the snapshot."""
    kept = [sample.ours.kept_wal for sample in samples if sample.ours and sample.ours.kept_wal is not None]
    if not kept:
        return {}
    return {
        f"{kind}_kept_wal_{gib}gib": _median_of([members / MIB for members, _ in kept], "MiB"),
        f"{kind}_anchor_kept_wal_{gib}gib": _median_of([anchors / MIB for _, anchors in kept], "MiB"),
    }


SERVERS: dict[str, Callable[[Cost], Usage | None]] = {
    "primary": lambda cost: cost.primary,
    "source": lambda cost: cost.source,
}


def figure_clients(gib: int, what: str, before: Manifest, after: Manifest) -> dict[str, Figure]:
    """The quality beside the speed: what the clients met in one series."""
    too_old, cut, errors = (after.get(key, 0) - before.get(key, 0) for key in ("too_old", "cut", "errors"))
    return {
        f"{what}_{TOO_OLD}_{gib}gib": at_most(too_old, 0, "reads"),
        f"{what}_{CUT}_{gib}gib": at_most(cut, 0, "queries"),
        f"{what}_failed_connections_count_{gib}gib": Figure(errors, "connections"),
    }


def summarize(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """Over all sizes: activation and restore should not know the size of the database."""
    return {
        **_summarize_clients(figures),
        **_summarize_warm(figures),
        **_summarize_growth(figures),
        **_summarize_speedup(figures),
    }


def _summarize_clients(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    counts = ((TOO_OLD, "reads"), (CUT, "queries"))
    found = {count: [one.value for name, one in figures.items() if f"_{count}_" in name] for count, _ in counts}
    return {count: at_most(sum(found[count]), 0, unit) for count, unit in counts if found[count]}


def _summarize_warm(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    samples, floor = (
        [sample for name, one in figures.items() if name.startswith(prefix) for sample in one.samples]
        for prefix in ("warm_p50_", "label_by_hand_p50_")
    )
    if not samples or not floor:
        return {}
    warm_p50, floor_p50 = percentile(samples, 0.5), percentile(floor, 0.5)
    return {
        "warm_p50": at_most(warm_p50, WARM_P50, samples=samples),
        "warm_p99": at_most(percentile(samples, 0.99), WARM_P99, samples=samples),
        "label_by_hand_p50": Figure(round(floor_p50, 4), samples=floor),
        "warm_ratio": _ratio(warm_p50 / floor_p50, WARM_RATIO),
    }


def _summarize_growth(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    small, large = (figures.get(f"{Kind.SNAPSHOT}_{gib}gib") for gib in (SMALLEST, LARGEST))
    if small is None or large is None:
        return {}
    return {f"snapshot_growth_{SMALLEST}_to_{LARGEST}gib": _ratio(large.value / small.value, SNAPSHOT_GROWTH)}


def _summarize_speedup(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    found = {}
    for gib, goal in SPEEDUPS.items():
        warm, cold = figures.get(f"warm_p50_{gib}gib"), figures.get(f"{Kind.PRIMARY}_{gib}gib")
        if warm is not None and cold is not None:
            found[f"warm_speedup_{gib}gib"] = at_least(cold.value / warm.value, goal, "ratio")
    return found


def _median_of(samples: Sequence[float], unit: str = "s") -> Figure:
    return Figure(round(statistics.median(samples), 4), unit, samples=[round(sample, 4) for sample in samples])


def _ratio(value: float, goal: float | None) -> Figure:
    return at_most(value, goal, "ratio") if goal is not None else Figure(round(value, 4), "ratio")
