"""`python -m e2e.demo`: set the scene, run the load, watch, and judge; exit status 1 when an objective is missed."""

import argparse
import os
import sys
import time

from rich.console import Console
from rich.live import Live

from e2e.cluster.provider import choose_cluster
from e2e.demo.picture import draw
from e2e.demo.plan import JOBS_END, LOAD_ENDS, LONGEST
from e2e.demo.report import lag_zero_after, measure, missing, picture_path, print_summary
from e2e.demo.scene import Scene
from e2e.demo.timeline import Timeline
from e2e.demo.view import decision_cells, plain_line, render
from e2e.lab.kubectl import Kubectl
from e2e.lab.opening import Shop
from e2e.lab.release import Release
from e2e.lab.results import write_results

NAMESPACE = "shop"
PLAIN_EVERY = 5.0
SETTLED = 10.0
TRY = """It is left running. With `make cluster-shell`, try:
  kubectl -n shop get dbg,dbrs,wp
  kubectl -n shop describe dbrs store
  kubectl -n shop get pods -L headroom.dev/role -w
  kubectl -n shop get dbrs store -o jsonpath='{.status.lastDecision.message}{"\\n"}'
  kubectl -n shop get wp commands -o jsonpath='{.status.lastDecision.message}{"\\n"}'
  kubectl -n shop patch dbrs store --type=json -p '[{"op": "remove", "path": "/spec/autoscaling"}]'
  kubectl -n shop scale dbrs store --replicas=1"""
STILL_UP = "The cluster is still up, so that the next run starts at once: `make cluster-down` ends it."


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(prog="python -m e2e.demo", description=__doc__)
    keep = os.environ.get("KEEP", "") not in ("", "0")
    parser.add_argument("--keep", action="store_true", default=keep, help="leave everything running (KEEP=1)")
    arguments = parser.parse_args()
    console = Console()
    cluster = choose_cluster()
    scene = Scene(
        Release(cluster.image("operator")),
        Shop(Kubectl(NAMESPACE), cluster.image("postgres17"), cluster.image("worker")),
    )
    if Kubectl("default").get("namespace", NAMESPACE):
        console.print("an earlier run is here: clearing it away")
        scene.shop.close()
    started = time.monotonic()
    scene.set(lambda text: console.print(f"[dim]{time.monotonic() - started:5.0f} s[/]  {text}"))
    timeline = Timeline()
    try:
        run(scene, timeline, console)
    finally:
        scene.end()
    met = judge(timeline, console)
    if arguments.keep:
        console.print(TRY, soft_wrap=True, highlight=False, markup=False)
    else:
        scene.shop.close()
        scene.release.uninstall()
    if cluster.name == "bundled":
        console.print(STILL_UP)
    return 0 if met else 1


def run(scene: Scene, timeline: Timeline, console: Console) -> None:
    """Let the load run and show what happens, until the lag is back at zero or time is up."""
    scene.begin(timeline)
    with Live(console=console, refresh_per_second=4, screen=False) as live:
        said, told = 0.0, 0
        console.print("the load begins: jobs and reads rise together; seconds count from here")
        while not is_over(timeline, time.time()):
            now = time.time()
            if console.is_terminal:
                live.update(render(timeline, now))
            elif now - said >= PLAIN_EVERY:
                told = tell_decisions(timeline, console, told)
                console.print(plain_line(timeline, now), soft_wrap=True, highlight=False)
                said = now
            time.sleep(0.25)


def tell_decisions(timeline: Timeline, console: Console, told: int) -> int:
    """Print the decisions that were not told yet, for where there is no terminal; returns how many are known now."""
    known = list(timeline.decisions)
    for decision in known[told:]:
        if decision.is_move:
            console.print("  ".join(decision_cells(decision, timeline.started)), soft_wrap=True, highlight=False)
    return len(known)


def is_over(timeline: Timeline, now: float) -> bool:
    """True when the load has ended and the lag has been at zero for a while, or after the longest time."""
    elapsed = now - timeline.started
    if elapsed >= LONGEST:
        return True
    back = lag_zero_after(timeline)
    return back is not None and elapsed >= max(LOAD_ENDS, JOBS_END + back) + SETTLED


def judge(timeline: Timeline, console: Console) -> bool:
    """Write figures and picture; True when every objective was measured and met."""
    figures = measure(timeline)
    samples = {"queue": timeline.queue, "reads": timeline.reads, "replicas": timeline.counts}
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
    path = write_results("demo", figures, decisions=decisions, problems=timeline.problems, samples=samples)
    print_summary(console, figures, path, draw(timeline, picture_path()))
    return not missing(figures) and all(figure.met is not False for figure in figures.values())


if __name__ == "__main__":
    sys.exit(main())
