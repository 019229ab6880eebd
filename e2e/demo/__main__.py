"""`python -m e2e.demo`: set the scene, run the load, watch, and judge; exit status 1 when an objective is missed."""

import argparse
import os
import sys
import textwrap
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.live import Live

from e2e.cluster.provider import choose_cluster
from e2e.demo.parts import PARTS
from e2e.demo.picture import draw
from e2e.demo.plan import JOBS_END, LOAD_ENDS, LONGEST
from e2e.demo.primary import describe_copies, describe_states
from e2e.demo.report import (
    courses,
    describe_load,
    describe_problems,
    lag_zero_after,
    measure,
    missing,
    picture_path,
    print_courses,
    print_summary,
)
from e2e.demo.scene import Scene, find_snapshot_class
from e2e.demo.timeline import Timeline
from e2e.demo.view import decision_cells, plain_line, render
from e2e.invariants.patrol import Watch, watching
from e2e.lab.kubectl import Kubectl
from e2e.lab.opening import Shop
from e2e.lab.release import Release
from e2e.lab.results import Figure, write_results
from e2e.run import LOAD_BEFORE

NAMESPACE = "shop"
PLAIN_EVERY = 5.0
PAGE_COLUMNS = 132
SETTLED = 10.0
TRY = """The load has ended: no jobs come in, no readers are connected. Operator, database, replicas and workers are
left running, and shrink by themselves after five quiet minutes. In a shell with kubectl{shell}:

all three at a glance; the guard leaves a bad state one level at a time, each after two quiet minutes:
  kubectl -n shop get dbg,dbrs,wp
each replica with its stage, the conditions, the events:
  kubectl -n shop describe dbrs store
who serves and who stands by, as it changes (Ctrl-C ends it):
  kubectl -n shop get pods -L headroom.dev/role -w
the last change of size, when and why:
  kubectl -n shop get dbrs store -o jsonpath='{{.status.lastDecision.at}} {{.status.lastDecision.message}}{{"\\n"}}'
  kubectl -n shop get wp commands -o jsonpath='{{.status.lastDecision.at}} {{.status.lastDecision.message}}{{"\\n"}}'
where the data of each replica came from, and why; and the snapshots, of which the next ones are created:
  kubectl -n shop get dbrs store -o jsonpath='{{range .status.members[*]}}{{.source}}: {{.sourceWhy}}{{"\\n"}}{{end}}'
  kubectl -n shop get volumesnapshots
who streams from the primary:
  kubectl -n shop exec store-primary-0 -- psql -xU shop -d shop -c 'TABLE pg_stat_replication'
take the size into your own hands, then let one serve: the others drain and go, one stays warm:
  kubectl -n shop patch dbrs store --type=json -p '[{{"op": "remove", "path": "/spec/autoscaling"}}]'
  kubectl -n shop scale dbrs store --replicas=1

To clean up, on any cluster, also before the tutorial, which uses the same names:
  kubectl -n shop delete wp,dbrs,dbg --all
  kubectl delete namespace shop
  helm uninstall headroom -n headroom"""
SHELL = " (`make cluster-shell` opens one)"
STILL_UP = (
    "The cluster is still up, so that the next run starts at once: `make cluster-down` ends it, with all that is in it."
)
STORY = """the load follows an incident of 1 August 2019 at Tebex (`tebex_2019`), its hours made into minutes: first
the queue grows, then the reads, beyond what the size at the start can bear. Seconds count from here."""


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(prog="python -m e2e.demo", description=__doc__)
    keep = os.environ.get("KEEP", "") not in ("", "0")
    parser.add_argument("--keep", action="store_true", default=keep, help="leave everything running (KEEP=1)")
    parser.add_argument("--watch", action="store_true", help="check the invariants from outside, and count violations")
    arguments = parser.parse_args()
    before = float(os.environ.get(LOAD_BEFORE) or os.getloadavg()[0])
    console = make_console()
    cluster = choose_cluster()
    scene = Scene(
        Release(cluster.image("operator")),
        Shop(Kubectl(NAMESPACE), cluster.image("postgres17"), cluster.image("worker")),
        find_snapshot_class(Kubectl("default")) if cluster.is_snapshot_capable else None,
    )
    if Kubectl("default").get("namespace", NAMESPACE):
        console.print("an earlier run is here: clearing it away")
        scene.shop.close()
    started = time.monotonic()
    scene.set(lambda text: console.print(f"[dim]{time.monotonic() - started:5.0f} s[/]  {text}"))
    timeline = Timeline(load_before=before)
    try:
        with watching(scene.shop, is_wanted=arguments.watch) as watch:
            run(scene, timeline, console)
    finally:
        scene.end()
    met = judge(timeline, console, watch)
    if arguments.keep:
        hint = TRY.format(shell=SHELL if cluster.name == "bundled" else "")
        console.print(hint, soft_wrap=True, highlight=False, markup=False)
    else:
        scene.shop.close()
        scene.release.uninstall()
    if cluster.name == "bundled":
        console.print(STILL_UP)
    return 0 if met else 1


def run(scene: Scene, timeline: Timeline, console: Console) -> None:
    """Let the load run and show what happens, until the lag is back at zero or time is up."""
    scene.begin(timeline)
    console.print(STORY, soft_wrap=True, highlight=False)
    with Live(console=console, refresh_per_second=4, screen=False) as live:
        said, told = 0.0, 0
        while not is_over(timeline, time.time()):
            now = time.time()
            timeline.loads.append((now - timeline.started, os.getloadavg()[0]))
            if console.is_terminal:
                live.update(render(timeline, now, console))
            elif now - said >= PLAIN_EVERY:
                told = tell_decisions(timeline, console, told)
                console.print(plain_line(timeline, now), soft_wrap=True, highlight=False)
                said = now
            time.sleep(0.25)


def tell_decisions(timeline: Timeline, console: Console, told: int) -> int:
    """Print the decisions that were not told yet, for where there is no terminal; returns how many are known now."""
    known = timeline.moves()
    for decision in known[told:]:
        text = "  ".join(decision_cells(decision, timeline.started))
        console.print(fold(text), soft_wrap=True, highlight=False, markup=False)
    return len(known)


def make_console() -> Console:
    """The console; a pipe or a file has no width, so its lines are as wide as a page of text here."""
    is_wide = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console() if is_wide else Console(width=PAGE_COLUMNS)


def fold(text: str) -> str:
    """A long line as some lines of a page, the later ones indented below the first words."""
    return textwrap.fill(text, PAGE_COLUMNS, subsequent_indent=" " * 9, break_long_words=False, break_on_hyphens=False)


def is_over(timeline: Timeline, now: float) -> bool:
    """True when the load has ended and the lag has been at zero for a while, or after the longest time."""
    elapsed = now - timeline.started
    if elapsed >= LONGEST:
        return True
    back = lag_zero_after(timeline)
    return back is not None and elapsed >= max(LOAD_ENDS, JOBS_END + back) + SETTLED


def judge(timeline: Timeline, console: Console, watch: Watch | None = None) -> bool:
    """Write figures and picture; True when every objective was measured and met."""
    figures = measure(timeline) | (watch.figures() if watch else {})
    if watch and (report := watch.report()):
        console.print(report, soft_wrap=True, highlight=False, markup=False)
    path, picture = record(timeline, figures), draw(timeline, picture_path())
    absent = missing(figures, has_snapshots=timeline.has_snapshots)
    print_summary(console, figures, absent)
    print_courses(console, courses(timeline))
    told = (
        describe_copies(timeline),
        describe_states(timeline),
        describe_problems(timeline.problems),
        describe_load(timeline, os.cpu_count() or 1),
    )
    for text in filter(None, told):
        console.print(text, soft_wrap=True, highlight=False, markup=False)
    console.print(f"figures: {path}\npicture: {picture}")
    return not absent and all(figure.met is not False for figure in figures.values())


def record(timeline: Timeline, figures: dict[str, Figure]) -> Path:
    """Write the figures and what they were measured from."""
    samples = {
        "queue": timeline.queue,
        "reads": timeline.reads,
        "replicas": timeline.counts,
        "workers": [{"at": at, "ready": ready} for at, ready in timeline.workers],
        "guard": [asdict(sample) for sample in timeline.guard],
        "commits": timeline.commits,
    }
    decisions = [
        {
            "at": round(one.at - timeline.started, 3),
            "who": one.who,
            "from": one.before,
            "to": one.after,
            "why": one.words,
        }
        for one in timeline.decisions
    ]
    parts = [
        {"replica": one.name, **dict(zip(PARTS, one.seconds, strict=True)), "all": one.total}
        for one in courses(timeline)
    ]
    load = {"before": timeline.load_before, "during": max((value for _, value in timeline.loads), default=None)}
    return write_results(
        "demo", figures, load=load, decisions=decisions, parts=parts, problems=timeline.problems, samples=samples
    )


if __name__ == "__main__":
    sys.exit(main())
