"""Commands of `python -m e2e.cluster`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster.box import Box
from e2e.cluster.build import build_binaries, own_folder, tools_folder, OWN_PROGRAMS, TOOL_PROGRAMS
from e2e.cluster.console import Console
from e2e.cluster.errors import ClusterError
from e2e.cluster.images import build_images
from e2e.cluster.lock import exclusive
from e2e.cluster.prerequisites import ensure_prerequisites
from e2e.cluster.settings import Settings, load_settings


def command_up(settings, console, nodes):
    with exclusive(settings.lock_file, console):
        ensure_prerequisites(console)
        build_binaries(settings, console)
        build_images(settings, console)
        box = Box(settings)
        if box.outer_pid() is None:
            box.clean()
            box.want_nodes(nodes)
            (settings.state / "bin").mkdir(exist_ok=True)
            for n in TOOL_PROGRAMS: (settings.state/"bin"/n).symlink_to(tools_folder(settings)/n)
            for n in OWN_PROGRAMS: (settings.state/"bin"/n).symlink_to(own_folder(settings)/n)
            box.start(tools=tools_folder(settings), own=own_folder(settings))
        else:
            box.want_nodes(max(nodes, box.wanted_nodes()))
        t=time.time()
        seen=set()
        while time.time()-t<90:
            s = box.status()
            if s:
                for c in s["components"]:
                    k=(c["name"],c["state"],c["failures"])
                    if k not in seen and c["state"]!="waiting":
                        seen.add(k); print(f"{time.time()-t:6.2f}", *k)
                if len(s["nodes"])>=nodes and all(c["state"]=="ready" for c in s["components"]): break
            time.sleep(0.05)
        else:
            raise ClusterError("not up")


def main() -> int:
    s=load_settings(); c=Console()
    a=sys.argv[1:]
    try:
        if a[0]=="up": command_up(s,c,s.nodes or 1)
        elif a[0]=="down":
            with exclusive(s.lock_file,c):
                b=Box(s); b.end(); b.clean()
        elif a[0]=="exec":
            b=Box(s); cmd=b.command(a[2:] if a[1]=="--" else a[1:]); os.execvpe(cmd[0],cmd,b.environment())
    except ClusterError as e:
        sys.stderr.write(str(e)+"\n"); return 1
    return 0
