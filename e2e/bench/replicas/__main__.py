"""`python -m e2e.bench.replicas`: how long a new replica takes to answer its first read, by the way it is made.

A warm standby, a snapshot, a base backup from a standby and one from the primary, each beside the same by hand in the
same run, and each with what it costs the primary and the standby that is copied. Times run from the decision that the
operator published to the first answer that a client got through the read Service. A run of some sizes adds them to the
results of others.
"""

import argparse
import os
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from e2e.bench.replicas.bench import Bench
from e2e.bench.replicas.figures import figure_clients, figure_cold, figure_warm
from e2e.bench.replicas.merge import Part, add_part
from e2e.bench.replicas.meter import Meter
from e2e.bench.replicas.picture import draw
from e2e.bench.replicas.room import Room, find_room
from e2e.bench.replicas.scene import set_the_scene
from e2e.bench.replicas.series import CALM_SECONDS, Kind, Series
from e2e.bench.replicas.warm import run_warm
from e2e.bench.replicas.writer import Writer
from e2e.cluster.provider import choose_cluster
from e2e.invariants.patrol import watching
from e2e.lab.kubectl import Kubectl
from e2e.lab.opening import Shop
from e2e.lab.prober import Prober
from e2e.lab.release import Release
from e2e.lab.results import RESULTS, Figure

NAME, QUICK_NAME = "bench-replicas", "bench-replicas-quick"
PICTURE = Path("docs/images/replicas.png")
QUICK = "QUICK"
QUICK_GIB, QUICK_TIMES, QUICK_CALM_SECONDS = 1, 2, 4.0
WARM_TIMES = 10
WARM, INVARIANTS = "warm", "invariants"
PARTS = (*map(str, Kind), WARM)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure; `times` None leaves it to how long each takes."""

    sizes: tuple[int, ...]
    warm: int = WARM_TIMES
    times: int | None = None
    calm_seconds: float = CALM_SECONDS
    parts: tuple[str, ...] = PARTS
    is_watched: bool = False
    picture: Path | None = None
    name: str = NAME


@dataclass(slots=True)
class Findings:
    """The results file of this name, and all figures in it since the first part was added."""

    name: str
    figures: dict[str, Figure] = field(default_factory=dict)

    def add(self, part: Part) -> None:
        """Write one part: what is measured stays, whatever happens to the next one."""
        self.figures = add_part(self.name, part)


@dataclass(frozen=True, slots=True)
class Clock:
    """Says when."""

    console: Console

    def say(self, text: str) -> None:
        """One line with the time of day."""
        self.console.print(f"{time.strftime('%X')} {text}", markup=False, highlight=False)


def main() -> int:
    """Run the benchmark and write its results."""
    plan, console, cluster = parse_plan(sys.argv[1:], os.environ), Console(), choose_cluster()
    release = Release(cluster.image("operator"))
    release.install()
    shop = Shop(Kubectl("bench"), cluster.image("postgres17"), cluster.image("worker"))
    findings = Findings(plan.name)
    is_whole = True
    try:
        for gib in plan.sizes:
            is_whole &= measure(shop, gib, plan, findings, console)
    finally:
        release.uninstall()
    report(plan, findings.figures, console)
    return 0 if is_whole and all(figure.met is not False for figure in findings.figures.values()) else 1


def parse_plan(arguments: list[str], environ: Mapping[str, str]) -> Plan:
    """The plan of a command line; QUICK=1 is a short one for development."""
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.replicas", description=__doc__)
    parser.add_argument("--gib", type=int, nargs="+", default=[1, 4, 16], help="sizes of the database (1 4 16)")
    parser.add_argument("--warm", type=int, default=WARM_TIMES, help="activations of a standby at each size (10)")
    parser.add_argument(
        "--cold", type=int, help="replicas of each kind at each size (10, or 3 where one takes a minute)"
    )
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="series (all)")
    parser.add_argument("--watch", action="store_true", help="count violated invariants; its clients take some CPU")
    parser.add_argument("--accept", action="store_true", help=f"write the picture to {PICTURE} too")
    options = parser.parse_args(arguments)
    parts, is_watched = tuple(part for part in PARTS if part in options.only), options.watch
    if environ.get(QUICK):
        quick = (QUICK_GIB,), QUICK_TIMES, QUICK_TIMES, QUICK_CALM_SECONDS
        return Plan(*quick, parts, is_watched, name=QUICK_NAME)
    picture = PICTURE if options.accept else None
    return Plan(tuple(options.gib), options.warm, options.cold, CALM_SECONDS, parts, is_watched, picture)


def measure(shop: Shop, gib: int, plan: Plan, findings: Findings, console: Console) -> bool:
    """One size; whether all of it was measured."""
    console.rule(f"{gib} GiB")
    room = find_room(gib)
    if room.problem:
        console.print(room.problem)
        return False
    try:
        set_the_scene(shop, gib, Clock(console).say)
        measure_scene(shop, room, plan, findings, console)
    except AssertionError:
        console.print("given up; what was measured before stays", traceback.format_exc(), markup=False)
        return False
    finally:
        shop.close()
    return True


def measure_scene(shop: Shop, room: Room, plan: Plan, findings: Findings, console: Console) -> None:
    """Series by series."""
    gib = room.gib
    with (
        Prober(shop) as prober,
        Writer(shop) as writer,
        Meter() as meter,
        watching(shop, is_wanted=plan.is_watched) as watch,
    ):
        bench = Bench(shop, prober, Clock(console).say)
        series = Series(bench, writer, meter, plan.times, plan.calm_seconds, is_tight=room.is_tight)
        for what in plan.parts:
            before = prober.totals
            if what == WARM:
                figures, turns = figure_warm(gib, run_warm(series, gib, plan.warm)), []
            else:
                turns = series.run(Kind(what), gib)
                figures = figure_cold(gib, Kind(what), turns)
            figures |= figure_clients(gib, what, before, prober.totals)
            findings.add(Part(what, gib, figures, turns))
        if watch:
            findings.add(Part(INVARIANTS, gib, watch.figures(f"invariants_violated_count_{gib}gib")))
            console.print(watch.report(), highlight=False, markup=False)


def report(plan: Plan, figures: Mapping[str, Figure], console: Console) -> None:
    """Print the figures and draw them."""
    if not figures:
        return
    for key, figure in figures.items():
        line = f"{key:52} {figure.value:10.3f} {figure.unit}  goal {figure.goal}  met {figure.met}"
        console.print(line, soft_wrap=True)
    console.print(f"figures: {RESULTS / plan.name}.json")
    for path in (RESULTS / f"{plan.name}.png", plan.picture):
        if path is not None:
            console.print(f"picture: {draw(figures, path)}")


if __name__ == "__main__":
    sys.exit(main())
