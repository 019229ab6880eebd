"""`python -m e2e.bench.replicas`: how long a new replica takes to answer its first read through the read Service.

Warm: a standby is asked to serve, beside the same label written by hand. Cold: a base backup, each followed by a bare
`pg_basebackup` and start of the same data in a pod made by hand, so that both meet the same disk. Times run from the
decision that the operator published to the first answer that a client got.
"""

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass

from rich.console import Console

from e2e.bench.bare import Bare, bare_base_backup
from e2e.bench.floor import LabelByHand
from e2e.cluster.provider import choose_cluster
from e2e.demo.timeline import parse_time
from e2e.invariants.patrol import watching
from e2e.lab import shop as objects
from e2e.lab.kubectl import Kubectl, Manifest
from e2e.lab.opening import Shop
from e2e.lab.prober import Prober
from e2e.lab.release import Release
from e2e.lab.results import Figure, at_most, percentile, write_results
from e2e.lab.waiting import wait_until

SET = "store"
MEMBERS = f"headroom.dev/replica-set={SET}"
GIB_PER_SCALE = 1 / 68
"""pgbench accounts and their key: about 15 MiB a unit of scale."""
VOLUME = "30Gi"
LOOK_SECONDS = 1.0
"""Seldom: each look costs a process on the cores that copy; the times come from the clients and the pods."""
SILENCE_SECONDS = 1.5
"""The prober calls a server new after a second of silence."""
WARM_P50, WARM_P99, WARM_RATIO, BASE_BACKUP_RATIO = 0.15, 0.5, 2.0, 1.15


@dataclass(slots=True)
class Bench:
    """One set of replicas, measured again and again."""

    shop: Shop
    prober: Prober
    console: Console

    def join(self, standbys_before: int) -> float:
        """Make one more replica serve; returns seconds from the decision to its first read."""
        known, before = {pod["metadata"]["name"] for pod in self.shop.replicas("serving")}, self._decided()
        self._ask(len(known) + 1, max(standbys_before - 1, 0))
        decided = wait_until("a decision", lambda: (at := self._decided()) != before and at, timeout=30, every=0.2)
        pod = wait_until("one more to serve", lambda: self._newcomer(known), timeout=600, every=LOOK_SECONDS)
        address = pod["status"]["podIP"]
        answered = wait_until(
            f"the first read of {address}", lambda: self.prober.first_after(address, decided), timeout=30
        )
        return answered - decided

    def leave(self, standbys: int) -> None:
        """Back to one serving replica, and nobody on the way out."""
        self._ask(1, standbys)
        self.shop.wait_counts(serving=1, standbys=standbys, timeout=200)
        kept = 1 + standbys
        wait_until("the others to be gone", lambda: len(self._members()) == kept, timeout=120)
        self._settle(kept)
        time.sleep(SILENCE_SECONDS)

    def join_and_leave(self, *, standbys: int) -> float:
        """One measurement, and back to how it was."""
        took = self.join(standbys)
        self.leave(standbys)
        return took

    def copy_by_hand(self) -> Bare:
        """One bare copy, and back to how it was."""
        took = bare_base_backup(self.shop, VOLUME)
        self._settle(1)
        return took

    def _settle(self, members: int) -> None:
        """What one measurement left to be freed and written is not the next one's to wait for."""
        wait_until("old volumes to be gone", lambda: len(self._claims()) == members and not released(), timeout=120)
        os.sync()

    def _newcomer(self, known: set[str]) -> Manifest | None:
        return next((pod for pod in self.shop.replicas("serving") if pod["metadata"]["name"] not in known), None)

    def _members(self) -> list[Manifest]:
        return self.shop.kubectl.list("pods", MEMBERS)

    def _claims(self) -> list[Manifest]:
        return self.shop.kubectl.list("pvc", MEMBERS)

    def _ask(self, replicas: int, standbys: int) -> None:
        """Change both counts in one write."""
        patch = json.dumps({"spec": {"replicas": replicas, "standbys": standbys}})
        self.shop.kubectl("patch", "dbrs", SET, "--type=merge", "-p", patch)

    def _decided(self) -> float:
        status = (self.shop.kubectl.get("dbrs", SET) or {}).get("status") or {}
        decision = status.get("lastDecision")
        return parse_time(decision["at"]) if decision else 0.0

    def repeat_warm(self, name: str, times: int) -> list[float]:
        """Activations of a standby, with progress; seconds."""
        samples = []
        for turn in range(1, times + 1):
            samples.append(self.join_and_leave(standbys=1))
            self.console.print(f"{name} {turn}/{times}: {samples[-1]:.3f} s")
        return samples

    def repeat_cold(self, name: str, times: int) -> tuple[list[float], list[Bare]]:
        """Base backups and bare ones in turn, with progress."""
        ours, bare = [], []
        for turn in range(1, times + 1):
            ours.append(self.join_and_leave(standbys=0))
            bare.append(self.copy_by_hand())
            self.console.print(
                f"{name} {turn}/{times}: {ours[-1]:.1f} s, bare {bare[-1].copy:.1f} s, by hand {bare[-1].by_hand:.1f} s"
            )
        return ours, bare


def released() -> list[Manifest]:
    """Volumes of claims that are gone, on their way to be deleted."""
    volumes = Kubectl("default").list("pv")
    return [volume for volume in volumes if volume.get("status", {}).get("phase") != "Bound"]


def main() -> int:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.replicas", description=__doc__)
    parser.add_argument("--warm", type=int, default=10, help="activations of a standby at each size (default 10)")
    parser.add_argument("--cold", type=int, default=7, help="base backups of each kind at each size (default 7)")
    parser.add_argument("--gib", type=int, nargs="+", default=[1, 4], help="sizes of the database (default 1 4)")
    parser.add_argument("--watch", action="store_true", help="count violated invariants; its clients take some CPU")
    options = parser.parse_args()
    console, cluster = Console(), choose_cluster()
    release = Release(cluster.image("operator"))
    release.install()
    shop = Shop(Kubectl("bench"), cluster.image("postgres17"), cluster.image("worker"))
    figures: dict[str, Figure] = {}
    try:
        for gib in options.gib:
            figures |= measure(shop, gib, options.warm, options.cold, console, is_watched=options.watch)
    finally:
        shop.close()
        release.uninstall()
    figures |= summarize_warm(figures)
    console.print(f"figures: {write_results('bench-replicas', figures)}")
    for name, figure in figures.items():
        console.print(f"{name:28} {figure.value:8.3f} {figure.unit}  goal {figure.goal}  met {figure.met}")
    return 0 if all(figure.met is not False for figure in figures.values()) else 1


def measure(
    shop: Shop, gib: int, warm: int, cold: int, console: Console, *, is_watched: bool = False
) -> dict[str, Figure]:
    """All figures of one size of the database."""
    console.rule(f"{gib} GiB")
    set_the_scene(shop, gib, console)
    try:
        with Prober(shop) as prober, watching(shop, is_wanted=is_watched) as watch:
            bench = Bench(shop, prober, console)
            by_hand = LabelByHand(shop, prober, SET)
            floor_samples = by_hand.measure(warm)
            warm_samples = bench.repeat_warm(f"warm {gib} GiB", warm)
            floor_samples += by_hand.measure(warm)
            bench.leave(standbys=0)
            cold_samples, bare_samples = bench.repeat_cold(f"base backup {gib} GiB", cold)
            totals = prober.totals
            watched = watch.figures(f"invariants_violated_count_{gib}gib") if watch else {}
            if watch and (report := watch.report()):
                console.print(report, highlight=False, markup=False)
    finally:
        clear_the_scene(shop)
    figures = {
        f"warm_p50_{gib}gib": at_most(percentile(warm_samples, 0.5), WARM_P50, samples=warm_samples),
        f"warm_p99_{gib}gib": at_most(percentile(warm_samples, 0.99), WARM_P99, samples=warm_samples),
        f"label_by_hand_p50_{gib}gib": Figure(round(percentile(floor_samples, 0.5), 4), samples=floor_samples),
        f"label_by_hand_p99_{gib}gib": Figure(round(percentile(floor_samples, 0.99), 4), samples=floor_samples),
    }
    return figures | compare(gib, cold_samples, bare_samples) | count(gib, totals) | watched


def compare(gib: int, cold: list[float], bare: list[Bare]) -> dict[str, Figure]:
    """Base backups by us beside bare ones, medians; by hand shows what Kubernetes alone adds to a bare one."""
    copies, by_hand = [one.copy for one in bare], [one.by_hand for one in bare]
    ours, floor, peer = (statistics.median(samples) for samples in (cold, copies, by_hand))
    return {
        f"basebackup_{gib}gib": Figure(round(ours, 3), samples=cold),
        f"bare_basebackup_{gib}gib": Figure(round(floor, 3), samples=copies),
        f"by_hand_basebackup_{gib}gib": Figure(round(peer, 3), samples=by_hand),
        f"basebackup_ratio_{gib}gib": at_most(ours / floor, BASE_BACKUP_RATIO, "ratio"),
        f"basebackup_ratio_by_hand_{gib}gib": Figure(round(ours / peer, 4), "ratio"),
    }


def count(gib: int, totals: Manifest) -> dict[str, Figure]:
    """The quality beside the speed: what the clients met."""
    return {
        f"reads_too_old_count_{gib}gib": at_most(totals.get("too_old", 0), 0, "reads"),
        f"queries_cut_count_{gib}gib": at_most(totals.get("cut", 0), 0, "queries"),
        f"failed_connections_count_{gib}gib": Figure(totals.get("errors", 0), "connections"),
    }


def set_the_scene(shop: Shop, gib: int, console: Console) -> None:
    """Primary with data, guard, set."""
    shop.open(scale=round(gib / GIB_PER_SCALE), size=VOLUME, say=console.print)
    image = shop.postgres_image
    shop.kubectl.apply(
        objects.database_guard(), objects.replica_set(image, replicas=1, standbys=1, storage={"size": VOLUME})
    )
    shop.wait_counts(serving=1, standbys=1, timeout=600)


def clear_the_scene(shop: Shop) -> None:
    """Nothing of ours stays; the primary does."""
    shop.kubectl("delete", "dbrs,dbg", "--all", "--timeout=120s", timeout=130)


def summarize_warm(figures: dict[str, Figure]) -> dict[str, Figure]:
    """The warm figures over all sizes, beside the floor: activation should not know the size of the database."""
    samples, floor = (
        [sample for name, one in figures.items() if name.startswith(prefix) for sample in one.samples]
        for prefix in ("warm_p50", "label_by_hand_p50")
    )
    warm_p50, floor_p50 = percentile(samples, 0.5), percentile(floor, 0.5)
    return {
        "warm_p50": at_most(warm_p50, WARM_P50, samples=samples),
        "warm_p99": at_most(percentile(samples, 0.99), WARM_P99, samples=samples),
        "label_by_hand_p50": Figure(round(floor_p50, 4), samples=floor),
        "warm_ratio": at_most(warm_p50 / floor_p50, WARM_RATIO, "ratio"),
    }


if __name__ == "__main__":
    sys.exit(main())
