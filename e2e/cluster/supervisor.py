"""First process of the box: sets it up, starts its components in order and keeps them running.

Run by box.py as `python -m e2e.cluster.supervisor`; ending it ends everything in the box.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from e2e.cluster.addons import addons
from e2e.cluster.components import Places
from e2e.cluster.control_plane import control_plane
from e2e.cluster.layout import Node, node_list
from e2e.cluster.network import add_node_network, set_up_box
from e2e.cluster.node import node_components
from e2e.cluster.prepare import prepare_cluster, prepare_node
from e2e.cluster.probes import is_answering
from e2e.cluster.processes import ProcessTable
from e2e.cluster.settings import Settings, load_settings

TICK_SECONDS = 0.05
CALM_TICK_SECONDS = 0.25


class Supervisor:
    """Runs the nodes that are asked for, and writes down how things stand."""

    def __init__(self, settings: Settings, places: Places) -> None:
        """Begin with the control plane; nodes follow as they are asked for."""
        self._settings = settings
        self._places = places
        self._table = ProcessTable(settings.logs, is_answering)
        self._table.add([*control_plane(places), *addons(places)])
        self._nodes: list[Node] = []
        self._written = ""
        self._started_at = time.time()

    def run_forever(self) -> None:
        """Supervise until killed, or until the state folder is taken away."""
        while True:
            self._follow_desired()
            self._table.step()
            self._write_status()
            time.sleep(CALM_TICK_SECONDS if self._table.is_calm() else TICK_SECONDS)

    def _follow_desired(self) -> None:
        desired = json.loads(self._settings.desired_file.read_text())
        for node in node_list(desired["nodes"])[len(self._nodes) :]:
            if not node.is_first:
                add_node_network(node)
            prepare_node(node, self._settings)
            self._nodes.append(node)
            self._table.add(node_components(node, self._places))

    def _write_status(self) -> None:
        status = {
            "startedAt": self._started_at,
            "nodes": [node.name for node in self._nodes],
            "components": self._table.describe(),
        }
        text = json.dumps(status, indent=1)
        if text == self._written:
            return
        draft = self._settings.status_file.with_suffix(".new")
        draft.write_text(text)
        draft.rename(self._settings.status_file)
        self._written = text


def main() -> None:
    """Set up the box around this process and supervise it."""
    settings = load_settings()
    tools, own = (Path(argument) for argument in sys.argv[1:3])
    places = Places(tools=tools, own=own, state=settings.state, pki=settings.pki, python=sys.executable)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.environ["PATH"] = f"{tools}:{own}:/usr/sbin:/usr/bin:/sbin:/bin"
    set_up_box(settings)
    prepare_cluster(settings, places)
    Supervisor(settings, places).run_forever()


if __name__ == "__main__":
    main()
