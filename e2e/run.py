"""`python -m e2e.run COMMAND...`: choose the cluster, bring it up, and run the command where it can be reached.

HEADROOM_CLUSTER=bundled|kind|kubeconfig chooses; NODES=2 asks the bundled one for a second node. Runs wait for each
other: each of them installs its own operator, and what one measures another would disturb.
"""

import os
import sys

from e2e.cluster.console import Console
from e2e.cluster.lock import exclusive
from e2e.cluster.provider import choose_cluster
from e2e.cluster.settings import load_settings

LOAD_BEFORE = "HEADROOM_LOAD_BEFORE"
"""Where the command finds the machine's load average of a minute from before the cluster was brought up."""

PATIENCE_SECONDS = 7200
"""The longest run is a benchmark of an hour and a half."""


def main() -> int:
    """Run the rest of the command line against a cluster that is up and holds our images."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 0 if len(sys.argv) > 1 else 2
    # The cluster's own start is load too: what was there before tells whether the machine was idle.
    os.environ.setdefault(LOAD_BEFORE, f"{os.getloadavg()[0]:.2f}")
    cluster = choose_cluster()
    with exclusive(load_settings().run_lock_file, Console(), patience_seconds=PATIENCE_SECONDS):
        cluster.ensure_up(nodes=int(os.environ.get("NODES", "1")))
        return cluster.run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
