"""One operator for the whole suite, one shop for each process of it; a failing test leaves what a person would look at.

Tests marked `alone` take the operator or a node away: they are run by themselves, the others two at a time.
"""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from e2e.cluster.provider import Cluster, choose_cluster
from e2e.invariants.patrol import LINGER_SECONDS, Patrol, Watch, parse_allowed
from e2e.lab.kubectl import CommandFailed, Kubectl
from e2e.lab.opening import Shop
from e2e.lab.release import Release

DUMPS = Path("build/e2e")
SPACE = "e2e-shop"


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return choose_cluster()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Install the operator once, before there are other processes."""
    if _is_in_charge(session):
        _release().install()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Take the operator away with the last of them."""
    if _is_in_charge(session):
        _release().uninstall()


def _is_in_charge(session: pytest.Session) -> bool:
    return not hasattr(session.config, "workerinput") and not session.config.option.collectonly


def _release() -> Release:
    return Release(choose_cluster().image("operator"))


@pytest.fixture(scope="session")
def release(cluster: Cluster) -> Release:
    release = Release(cluster.image("operator"))
    release.wait_leader()
    return release


@pytest.fixture(scope="session")
def shop(cluster: Cluster, release: Release, worker_id: str) -> Iterator[Shop]:
    """A shop whose primary holds about 75 MiB; tests share the primary and bring their own resources."""
    images = cluster.image("postgres17"), cluster.image("worker")
    shop = Shop(Kubectl(f"{SPACE}-{worker_id}"), *images, node=cluster.node_names()[0])
    if shop.kubectl.get("namespace", shop.kubectl.namespace):
        shop.close()
    shop.open(scale=5, size="2Gi")
    yield shop
    shop.close()


@pytest.fixture(scope="session")
def patrol(shop: Shop) -> Iterator[Patrol]:
    """What watches the shop, and every other namespace that this process makes, from outside."""
    patrol = Patrol.begin(shop)
    yield patrol
    patrol.end()


@pytest.fixture(autouse=True)
def invariants(request: pytest.FixtureRequest) -> Iterator[Watch | None]:
    """Fails the test when an invariant did not hold, its own clearing up included.

    `@pytest.mark.breaks("never-synchronous", why="...")` names one that a test breaks on purpose;
    `@pytest.mark.unwatched(why="...")` takes the checker away, for measurements that it would disturb.
    """
    node = request.node
    if "shop" not in request.fixturenames or node.get_closest_marker("unwatched"):
        yield None
        return
    patrol: Patrol = request.getfixturevalue("patrol")
    linger = node.get_closest_marker("lingering")
    allowed = parse_allowed((mark.args, mark.kwargs.get("why", "")) for mark in node.iter_markers("breaks"))
    watch = patrol.watch(allowed, linger_seconds=linger.args[0] if linger else LINGER_SECONDS)
    yield watch
    watch.settle()
    patrol.relieve()
    if report := watch.report():
        DUMPS.mkdir(parents=True, exist_ok=True)
        path = DUMPS / f"{_file_name(node.nodeid)}.observations.jsonl"
        watch.write(path)
        errors = patrol.witness.samples.errors[-5:]
        pytest.fail("\n".join([report, f"observations: {path}", *errors]), pytrace=False)


@pytest.fixture
def clean(shop: Shop) -> Iterator[Shop]:
    """The shop without any resource of ours, before and after."""
    _clear(shop)
    yield shop
    _clear(shop)


def _clear(shop: Shop) -> None:
    shop.kubectl("delete", "dbrs,wp,dbg", "--all", "--wait=true", "--timeout=120s", timeout=130)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections.append(("cluster", f"dumped to {dump(item.nodeid)}"))
    return report


def dump(test: str) -> Path:
    """Write what a person would look at first: resources, pods, events, the operator's log."""
    DUMPS.mkdir(parents=True, exist_ok=True)
    path = DUMPS / f"{_file_name(test)}.txt"
    with path.open("w") as out:
        for command in (
            ("get", "dbg,dbrs,wp", "-A", "-o", "yaml"),
            ("get", "pods,pvc,svc,endpointslices,pdb", "-A", "-o", "wide", "--show-labels"),
            ("get", "events", "-A", "--sort-by=.metadata.creationTimestamp"),
            ("-n", "headroom", "logs", "-l", "app.kubernetes.io/name=headroom", "--tail=400", "--prefix"),
        ):
            out.write(f"$ kubectl {' '.join(command)}\n")
            try:
                out.write(Kubectl("default")(*command) + "\n")
            except CommandFailed as error:
                out.write(f"{error}\n")
    return path


def _file_name(test: str) -> str:
    return test.replace("/", "_").replace("::", ".")
