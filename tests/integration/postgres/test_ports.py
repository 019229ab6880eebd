"""That test processes which run side by side never take one port for two servers."""

import subprocess
import sys

PROGRAM = """
import sys
from tests.ports import find_free_port
print(*(find_free_port() for _ in range(600)), flush=True)
sys.stdin.read()
"""


def test_processes_that_live_at_one_time_share_no_port() -> None:
    runs = [
        subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    taken = []
    for run in runs:
        assert run.stdout is not None
        taken.append({int(port) for port in run.stdout.readline().split()})
    for run in runs:
        run.communicate()
    assert all(taken)
    assert not taken[0] & taken[1] | taken[0] & taken[2] | taken[1] & taken[2]
