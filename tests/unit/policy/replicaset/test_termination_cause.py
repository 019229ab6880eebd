"""Which of a container's last words tell why it ended."""

import pytest

from headroom.model.replica import ContainerFacts
from headroom.policy.replicaset.termination_cause import describe_end, find_copy_cause

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
        "could not write",
    ),
    "a replay that cannot go on": (
        f"{STARTING}{AT}FATAL:  recovery aborted because of insufficient parameter settings\n{AT}LOG:  shut down",
        "recovery aborted because of insufficient parameter settings",
    ),
    "a server that ran for a while": (
        f"{AT}FATAL:  could not connect to the primary server: no route\n{AT}FATAL:  terminating walreceiver\n{ENDED}",
        "WAL ends before end of online backup",
    ),
    "nobody but clients who came too early": (
        f"{STARTING}{AT}LOG:  shut down",
        "exit status 1, read its log for the cause",
    ),
    "a library that is not in the image": (
        f'{AT}FATAL:  could not access file "none": No such file or directory\n{AT}LOG:  shut down\n',
        (
            'could not access file "none": No such file or directory; the image lacks this library: set spec.image to '
            "one that has it, or, if no read on the replicas needs it, name it in readiness.ignoreLibraries"
        ),
    ),
    "a disk that is full, among what clients meet": (
        (
            f'{AT}FATAL:  no pg_hba.conf entry for host "10.0.0.1"\n'
            f'{AT}FATAL:  could not write to file "pg_wal/xlogtemp.40": No space left on device\n'
            f'{AT}FATAL:  password authentication failed for user "bob"\n{AT}LOG:  database system is shut down'
        ),
        'could not write to file "pg_wal/xlogtemp.40": No space left on device',
    ),
    "a volume that another server uses": (
        "start: another pod's server uses it: waiting\nstart: another pod's server still uses the volume after 60 s",
        "another pod's server still uses the volume after 60 s",
    ),
    "a server that started and had no login at first": (
        f"start: the login to the primary is as it was\n{AT}PANIC:  could not write",
        "could not write",
    ),
    "a mistake in pg_hba.conf": (
        f'{AT}LOG:  invalid authentication method "scram-sha-265"\n{AT}CONTEXT:  line 5\n{AT}FATAL:  could not load it',
        'invalid authentication method "scram-sha-265"',
    ),
    "what clients say, and nothing else": (
        (
            f"{AT}LOG:  statement: SELECT 1 /* card 4111 invalid value for parameter */\n"
            f"{AT}LOG:  duration: 1 ms  statement: SELECT ': FATAL:  x'\n\tLOG:  invalid value for parameter\n"
            f"{AT}FATAL:  sorry, too many clients already\n{AT}STATEMENT:  SELECT 4111"
        ),
        "exit status 1, read its log for the cause",
    ),
    "nothing": (" \n", "exit status 1, read its log for the cause"),
}
COPIES = {
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
def test_the_cause_is_told_and_neither_a_summary_nor_what_clients_say(name: str) -> None:
    text, want = CASES[name]
    assert describe_end(ContainerFacts(message=text, exit_code=1, ended_by="Error")) == want


@pytest.mark.parametrize("name", COPIES)
def test_what_a_copy_met_is_told(name: str) -> None:
    text, want = COPIES[name]
    assert find_copy_cause(text) == want


def test_a_server_that_was_killed_is_not_explained_by_its_log() -> None:
    text = f"{AT}FATAL:  WAL ends before end of online backup"
    assert "SIGKILL" in describe_end(ContainerFacts(message=text, exit_code=137, ended_by="Error"))
    said = describe_end(ContainerFacts(message=text, exit_code=137, ended_by="OOMKilled"))
    assert "raise resources.limits.memory" in said


def test_a_long_line_is_cut() -> None:
    assert len(describe_end(ContainerFacts(message=f"{AT}FATAL:  {'x' * 1000}", exit_code=1))) == 300
