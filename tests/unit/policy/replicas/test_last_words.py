"""Which of a container's last words tell why it ended."""

import pytest

from headroom.policy.replicas.last_words import find_cause

AT = "2026-03-01 07:00:00.123 UTC [1] "
STARTING = f"{AT}FATAL:  the database system is starting up\n"
SUMMED_UP = f'{AT}FATAL:  configuration file "/etc/headroom/config/postgresql.conf" contains errors\n'
UNKNOWN = 'unrecognized configuration parameter "wrok_mem" in file "/etc/headroom/config/postgresql.conf" line 3'
ENDED = f"{AT}FATAL:  WAL ends before end of online backup\n{AT}LOG:  shut down\n"
REFUSED = 'connection to server at "db", port 5432 failed: FATAL:  password authentication failed for user "r"'
CASES = {
    "a parameter nobody knows": (f"{AT}LOG:  {UNKNOWN}\n{SUMMED_UP}", UNKNOWN),
    "a value that means nothing": (
        f'{AT}LOG:  invalid value for parameter "work_mem": "lots"\n{AT}HINT:  Valid units are "B".\n{SUMMED_UP}',
        'invalid value for parameter "work_mem": "lots"',
    ),
    "a value out of range": (
        f'{AT}LOG:  1 is outside the valid range for parameter "port" (2 .. 3)\n{SUMMED_UP}',
        '1 is outside the valid range for parameter "port" (2 .. 3)',
    ),
    "a switch that is neither on nor off": (
        f'{AT}LOG:  parameter "jit" requires a Boolean value\n{SUMMED_UP}',
        'parameter "jit" requires a Boolean value',
    ),
    "an error of a client's, which ended nothing": (
        f'{AT}ERROR:  unrecognized configuration parameter "x"\n{AT}PANIC:  could not write\n{AT}LOG:  goodbye',
        "PANIC:  could not write",
    ),
    "a replay that cannot go on": (
        f"{STARTING}{AT}FATAL:  recovery aborted because of insufficient parameter settings\n{AT}LOG:  shut down",
        "FATAL:  recovery aborted because of insufficient parameter settings",
    ),
    "a server that ran for a while": (
        f"{AT}FATAL:  could not connect to the primary server: no route\n{AT}FATAL:  terminating walreceiver\n{ENDED}",
        "FATAL:  WAL ends before end of online backup",
    ),
    "nobody but clients who came too early": (f"{STARTING}{AT}LOG:  shut down", "shut down"),
    "a library that is not in the image": (
        f'{AT}FATAL:  could not access file "none": No such file or directory\n{AT}LOG:  shut down\n',
        'FATAL:  could not access file "none": No such file or directory',
    ),
    "a copy that was not let in": (
        f"pg_basebackup: error: {REFUSED}\nseed: copy 3 of 3 failed\n",
        f"pg_basebackup: error: {REFUSED}",
    ),
    "a copy from a server that starts": (
        "pg_basebackup: error: failed: FATAL:  the database system is starting up\nseed: copy 1 of 1 failed",
        "pg_basebackup: error: failed: FATAL:  the database system is starting up",
    ),
    "a copy that is given up after a first try that failed": (
        f"pg_basebackup: error: {REFUSED}\nseed: copy 1 of 3 failed\nseed: the copy has no backup_label\n",
        "seed: the copy has no backup_label",
    ),
    "something else": ("one\n\ntwo\n", "two"),
    "nothing": (" \n", "it gave no reason"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_cause_is_told_and_not_the_summary(name: str) -> None:
    text, want = CASES[name]
    assert find_cause(text) == want


def test_a_long_line_is_cut() -> None:
    assert find_cause(f"FATAL:  {'x' * 1000}") == f"FATAL:  {'x' * 292}"
