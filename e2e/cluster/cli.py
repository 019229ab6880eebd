"""Commands of `python -m e2e.cluster`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from e2e.cluster.ahead import FORKY, ensure_root_ahead
from e2e.cluster.cluster import Cluster
from e2e.cluster.console import Console
from e2e.cluster.errors import ClusterError
from e2e.cluster.provider import choose_cluster
from e2e.cluster.sanity import run_sanity
from e2e.cluster.settings import load_settings
from e2e.cluster.status import print_status, read_status

Command = Callable[[Cluster, argparse.Namespace], int]
NOT_RUNNING = "The cluster is not running: start it with `make cluster-up`."
SHELL_SETUP = """\
[ -f ~/.bashrc ] && . ~/.bashrc
PATH="$HEADROOM_CLUSTER_PATH"
trap 'exit 0' EXIT
PS1='(headroom) \\w\\$ '
"""


def build(cluster: Cluster, _arguments: argparse.Namespace) -> int:
    cluster.build()
    return 0


def up(cluster: Cluster, arguments: argparse.Namespace) -> int:
    cluster.up(arguments.nodes or cluster.settings.nodes)
    return 0


def down(cluster: Cluster, _arguments: argparse.Namespace) -> int:
    cluster.down()
    return 0


def shell(cluster: Cluster, _arguments: argparse.Namespace) -> int:
    setup = cluster.settings.state / "shell.rc"
    cluster.box.command([])
    setup.write_text(SHELL_SETUP)
    cluster.execute(["bash", "--rcfile", str(setup), "-i"])
    return 0


def execute(cluster: Cluster, arguments: argparse.Namespace) -> int:
    cluster.execute(command_words(arguments))
    return 0


def status(cluster: Cluster, arguments: argparse.Namespace) -> int:
    found = read_status(cluster.settings)
    if found is None:
        print("null" if arguments.json else NOT_RUNNING)
        return 0
    print_status(found, as_json=arguments.json)
    return 0


def load(cluster: Cluster, arguments: argparse.Namespace) -> int:
    cluster.load_archive(arguments.archive)
    return 0


def kubeconfig(cluster: Cluster, _arguments: argparse.Namespace) -> int:
    if not cluster.settings.kubeconfig.exists():
        raise ClusterError(NOT_RUNNING)
    print(cluster.settings.kubeconfig)
    return 0


def images(cluster: Cluster, _arguments: argparse.Namespace) -> int:
    cluster.refresh_images()
    return 0


def node(cluster: Cluster, arguments: argparse.Namespace) -> int:
    cluster.set_link(arguments.name, is_up=arguments.action == "join")
    return 0


def csi_sanity(cluster: Cluster, _arguments: argparse.Namespace) -> int:
    chosen = choose_cluster().name
    if chosen != "bundled":
        print(f"skipped: tests run on {chosen}, which has storage of its own (HEADROOM_CLUSTER=bundled chooses ours)")
        return 0
    cluster.build_programs()
    return run_sanity()


def postgres_ahead(cluster: Cluster, arguments: argparse.Namespace) -> int:
    print(ensure_root_ahead(cluster.settings, cluster.console, is_fresh=arguments.fresh))
    return 0


def command_words(arguments: argparse.Namespace) -> list[str]:
    """Return the command after the optional `--`."""
    words: list[str] = arguments.words
    words = words[1:] if words[:1] == ["--"] else words
    if not words:
        raise ClusterError("A command is missing: write it after `--`.")
    return words


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description="A real Kubernetes on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: Command, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(function=function)
        return command

    add("build", build, "compile the programs and make the images that are not in the cache")
    add("up", up, "start the cluster and wait until it is ready").add_argument(
        "--nodes", type=int, help="how many nodes, 1 or 2 (default: NODES, else as it is)"
    )
    add("down", down, "end the cluster and remove its traces, except for the cache")
    add("shell", shell, "open a shell in which kubectl, helm and ctr reach the cluster")
    text = "run a command inside the cluster's network, with KUBECONFIG, kubectl, helm and ctr"
    add("exec", execute, text).add_argument("words", nargs=argparse.REMAINDER, metavar="-- CMD")
    add("status", status, "show nodes, components, uptime and memory").add_argument(
        "--json", action="store_true", help="for programs"
    )
    add("load", load, "load an image archive into every node").add_argument(
        "archive", type=Path, metavar="IMAGE.tar", help="made by docker save or as an OCI archive"
    )
    add("kubeconfig", kubeconfig, "print the path of the kubeconfig, valid inside the box")
    add("images", images, "make the images that changed and load them into the running cluster")
    link = add("node", node, "cut a node off the network, or join it again")
    link.add_argument("action", choices=["cut", "join"])
    link.add_argument("name", metavar="NODE")
    add("csi-sanity", csi_sanity, "run the CSI conformance suite against the storage driver")
    text = f"print the path of a root file system with PostgreSQL {FORKY.postgres}, and make it if there is none"
    add("postgres-ahead", postgres_ahead, text).add_argument(
        "--fresh", action="store_true", help="make it anew: the Debian that it is from changes from day to day"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; failures are one sentence on standard error."""
    chosen = make_parser().parse_args(arguments)
    function: Command = chosen.function
    try:
        return function(Cluster(load_settings(), Console()), chosen)
    except ClusterError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: the same command goes on where it was\n")
        return 130
