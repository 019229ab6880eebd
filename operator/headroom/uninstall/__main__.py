"""End the operator, release our finalizers, describe what stays: what runs before the release is deleted.

`python -m headroom.uninstall --deployment NAME --selector k=v,... --timeout-seconds 120`. Nothing that serves is
touched: replicas, their claims and Services, slots and workers stay as they are. Exit status 1 and a sentence if
something blocks it; running it again is safe.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from headroom.adapters.clock import SystemClock
from headroom.adapters.kube.api import ApiKube
from headroom.adapters.kube.connect import connect
from headroom.errors import HeadroomError
from headroom.settings import parse_settings
from headroom.uninstall.release import Release, uninstall


def parse_release(arguments: Sequence[str], environment: Mapping[str, str]) -> Release:
    """Read the command line and the two settings it shares with the operator; raises InvalidSpec or exits."""
    parser = argparse.ArgumentParser(prog="python -m headroom.uninstall", description=__doc__)
    parser.add_argument("--deployment", required=True, help="name of the operator's Deployment")
    parser.add_argument("--selector", required=True, help="labels of the operator's pods: name=value,name=value")
    parser.add_argument("--timeout-seconds", type=float, default=120.0, help="how long its pods may take to end")
    given, settings = parser.parse_args(arguments), parse_settings(environment)
    labels = dict(label.split("=", 1) for label in given.selector.split(","))
    return Release(settings.namespace, given.deployment, labels, settings.watch_namespaces, given.timeout_seconds)


async def run(release: Release) -> int:
    """Uninstall with the API server this process can reach; returns the exit status."""
    clock = SystemClock()
    kube = ApiKube(await connect(), clock=clock)
    try:
        await uninstall(kube, clock, release, partial(print, flush=True))
    except HeadroomError as error:
        print(f"Not uninstalled: {error}", file=sys.stderr, flush=True)
        return 1
    finally:
        await kube.close()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(run(parse_release(sys.argv[1:], os.environ))))
