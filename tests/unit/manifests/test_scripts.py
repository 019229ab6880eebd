"""What the scripts of a pod do with files: a folder stands for the pod, short scripts for the server's tools."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from headroom.manifests.configuration import load_scripts

SYSTEM = "7300000000000000001"
ODD_NAME = "o:l\\d 'na*me' $x"
"""All that a passfile or a shell could trip over."""
SERVER = """
/usr/bin/env -i PATH="$REAL" sleep 1
printf late >"$CREDENTIALS/password"
/usr/bin/env -i PATH="$REAL" sleep 1
"""
"""A server that runs for two seconds, in the middle of which its Secret is refreshed."""
TOOLS = {
    "pg_isready": 'echo verdict >>"$LOG"; exit "$ANSWER"',
    "pg_controldata": 'echo "Database system identifier:  $HELD"; echo "Database cluster state:  $STATE"',
    "pg_ctl": 'echo reload >>"$LOG"',
    "psql": 'printf "%s" "$SUPERUSERS"; [ -n "$SUPERUSERS" ]',
    "sleep": 'echo pause >>"$LOG"; [ -z "${LATER:-}" ] || cp "$LATER" "$PGDATA/postmaster.pid"',
    "tr": 'echo refresh >>"$LOG"; exec /usr/bin/env -i PATH="$REAL" tr "$@"',
    "mv": '[ -z "${KILLED:-}" ] || exit 137; exec /usr/bin/env -i PATH="$REAL" mv "$@"',
}


SLOT = "hr_0123abcd_4567cdef_0_a"


@dataclass(frozen=True)
class Pod:
    """The folders of a pod; the tools write down in `log` what they were called for."""

    folder: Path

    @property
    def run_folder(self) -> Path:
        return self.folder / "run"

    @property
    def passfile(self) -> str:
        return (self.run_folder / "passfile").read_text()

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().split() if path.exists() else []

    def mount(self, username: str, password: str) -> None:
        """Make, or refresh, the Secret of the login."""
        for name, text in (("username", username), ("password", password)):
            (self.folder / "credentials" / name).write_text(text)

    def write_status(self, status: str, path: str = "pgdata/postmaster.pid") -> Path:
        """Write what a server of this status writes of itself."""
        lines = ("52", self.folder / "pgdata", "1700000000", "5432", "/var/run/postgresql", "*", "  1  2", status)
        (self.folder / path).write_text("".join(f"{line}\n" for line in lines))
        return self.folder / path

    def environment(self, **changes: str) -> dict[str, str]:
        path = os.environ["PATH"]
        return {
            "PATH": f"{self.folder / 'tools'}:{path}",
            "REAL": path,
            "LOG": str(self.folder / "log"),
            "PGDATA": str(self.folder / "pgdata"),
            "CONFIG": str(self.folder / "config"),
            "PASSFILE": str(self.run_folder / "passfile"),
            "CREDENTIALS": str(self.folder / "credentials"),
            "REPLICATION_USER": "copier",
            "MONITOR_ROLE": "monitor",
            "CLIENT_TLS": "",
            "SERVER_TLS": str(self.folder / "tls"),
            "SERVER_NAMES": "store-read store-read.shop.svc",
            "AUTHORITY_DAYS": "3650",
            "CERTIFICATE_DAYS": "90",
            "REPORT": str(self.folder / "report"),
            "DATABASE": "store",
            "SUPERUSERS": '"postgres"',
            "SYSTEM_IDENTIFIER": SYSTEM,
            "HELD": SYSTEM,
            "STATE": "in archive recovery",
            "ANSWER": "0",
            "NAME": "store-0-a",
            "SLOT": SLOT,
            "PRIMARY_CONNINFO": "host=primary",
            "LOCK_SECONDS": "1",
            "REFRESH_SECONDS": "1",
            **changes,
        }

    def run(self, script: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        values = self.environment(**changes)
        command = ["sh", str(self.folder / "config" / script)]
        return subprocess.run(command, env=values, capture_output=True, text=True, timeout=20, check=False)


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    for name in ("pgdata", "config", "run", "credentials", "tls", "tools"):
        (tmp_path / name).mkdir()
    for name, text in load_scripts().items():
        (tmp_path / "config" / name).write_text(text)
    for name, text in TOOLS.items():
        (tmp_path / "tools" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "tools" / name).chmod(0o755)
    for name in ("standby.signal", "postmaster.pid"):
        (tmp_path / "pgdata" / name).write_text("")
    (tmp_path / "tls" / "tls.crt").write_text("CERTIFICATE\n")
    (tmp_path / "run" / "superusers").write_text('"postgres"\n')
    made = Pod(tmp_path)
    made.mount("copier", "first")
    return made


def test_a_password_that_was_rotated_in_is_taken_over(pod: Pod) -> None:
    for password in ("first", "p:a\\ss"):
        pod.mount("copier", password)
        assert pod.run("credentials.sh").returncode == 0
    assert pod.passfile == "*:*:*:copier:p\\:a\\\\ss\n"
    assert oct((pod.run_folder / "passfile").stat().st_mode & 0o777) == "0o600"


@pytest.mark.parametrize("name", ["copier", ODD_NAME])
def test_the_password_of_the_role_a_pod_was_made_for_outlives_a_renaming(pod: Pod, name: str) -> None:
    pod.mount(f"{name}\n", "first")
    assert pod.run("credentials.sh", REPLICATION_USER=name).returncode == 0
    before = pod.passfile
    pod.mount("newer", "second")
    done = pod.run("credentials.sh", REPLICATION_USER=name)
    assert (done.returncode, "another username" in done.stderr) == (0, True), done.stderr
    assert pod.passfile == before
    pod.mount(name, "third")
    assert pod.run("credentials.sh", REPLICATION_USER=name).returncode == 0
    assert pod.passfile == before.replace("first", "third")


def test_a_renaming_keeps_no_client_certificate_back(pod: Pod) -> None:
    folder = pod.folder / "client"
    folder.mkdir()
    for text in ("old", "new"):
        for part in ("crt", "key"):
            (folder / f"tls.{part}").write_text(f"{text}\n")
        pod.mount("copier" if text == "old" else "newer", text)
        assert pod.run("credentials.sh", CLIENT_TLS=str(folder)).returncode == 0
    assert [(pod.run_folder / f"client.{part}").read_text() for part in ("crt", "key")] == ["new\n", "new\n"]


def test_a_pod_that_never_had_its_login_takes_what_there_is(pod: Pod) -> None:
    for password in ("second", "third"):
        pod.mount("newer", password)
        assert pod.run("credentials.sh").returncode == 0
        assert pod.passfile == f"*:*:*:newer:{password}\n"


def test_runs_that_are_killed_leave_one_file_at_most_and_the_old_login(pod: Pod) -> None:
    assert pod.run("credentials.sh").returncode == 0
    before = pod.passfile
    pod.mount("copier", "second")
    for _ in range(3):
        assert pod.run("credentials.sh", KILLED="yes").returncode != 0
    assert pod.passfile == before
    assert sorted(path.name for path in pod.run_folder.iterdir()) == ["passfile", "passfile.new", "superusers"]
    assert pod.run("credentials.sh").returncode == 0
    assert sorted(path.name for path in pod.run_folder.iterdir()) == ["passfile", "superusers"]
    assert pod.passfile == "*:*:*:copier:second\n"


@pytest.mark.parametrize(("answer", "want"), [("0", 0), ("1", 1), ("2", 2)])
def test_ready_and_started_say_what_the_server_answers(pod: Pod, answer: str, want: int) -> None:
    pod.write_status("ready   ")
    for script in ("ready.sh", "started.sh"):
        assert pod.run(script, ANSWER=answer).returncode == want


@pytest.mark.parametrize(("answer", "want"), [("0", 0), ("1", 0), ("2", 1)])
def test_a_server_that_refuses_is_alive(pod: Pod, answer: str, want: int) -> None:
    assert pod.run("live.sh", ANSWER=answer).returncode == want


def test_the_readiness_probe_is_one_process(pod: Pod) -> None:
    shutil.rmtree(pod.folder / "credentials")
    (pod.folder / "tools" / "pg_isready").write_text('#!/bin/sh\necho "$PPID $$" >"$LOG"\n')
    ready = subprocess.Popen(["sh", str(pod.folder / "config" / "ready.sh")], env=pod.environment())
    assert ready.wait(20) == 0
    assert pod.log == [str(os.getpid()), str(ready.pid)], "the shell became what knocks"


@pytest.mark.parametrize("script", ["ready.sh", "live.sh", "started.sh"])
def test_probes_pass_over_a_program_that_only_searches_the_right_one(pod: Pod, script: str) -> None:
    pod.write_status("ready   ")
    binaries = pod.folder / "binaries"
    binaries.mkdir()
    for name, text in (("postgres", ""), ("pg_isready", 'echo right >>"$LOG"')):
        (binaries / name).write_text(f"#!/bin/sh\n{text}\n")
        (binaries / name).chmod(0o755)
    path = f"{pod.folder / 'tools'}:{os.environ['PATH']}:{binaries}"
    assert pod.run(script, PATH=path).returncode == 0
    assert pod.log == ["right"]


@pytest.mark.parametrize("status", ["", "starting", "stopping"])
def test_nobody_knocks_at_a_server_that_replays(pod: Pod, status: str) -> None:
    pod.write_status(status)
    assert pod.run("started.sh").returncode == 1
    assert pod.log == ["pause"] * 9


def test_a_server_that_is_not_there_has_not_started(pod: Pod) -> None:
    (pod.folder / "pgdata" / "postmaster.pid").unlink()
    done = pod.run("started.sh")
    assert (done.returncode, done.stderr, "verdict" in pod.log) == (1, "", False)


def test_a_server_that_comes_while_a_probe_looks_is_seen_by_it(pod: Pod) -> None:
    pod.write_status("starting")
    done = pod.run("started.sh", LATER=str(pod.write_status("ready   ", "later")))
    assert done.returncode == 0, done.stderr
    assert pod.log[:2] == ["pause", "verdict"]


def test_what_a_killed_server_left_behind_starts_nobody(pod: Pod) -> None:
    pod.write_status("ready   ")
    assert pod.run("started.sh", ANSWER="2").returncode != 0


def test_a_volume_that_is_no_standby_is_not_ready(pod: Pod) -> None:
    (pod.folder / "pgdata" / "standby.signal").unlink()
    assert pod.run("ready.sh").returncode == 1


def test_a_refresh_that_fails_tries_the_rest_and_names_each(pod: Pod) -> None:
    (pod.folder / "credentials" / "password").unlink()
    (pod.folder / "tls" / "tls.crt").unlink()
    done = pod.run("refresh.sh")
    assert done.returncode == 1
    assert done.stderr.count("refresh: ") == 2, done.stderr


def test_a_new_superuser_is_refused_from_the_next_look_on(pod: Pod) -> None:
    (pod.folder / "tools" / "postgres").symlink_to("/bin/true")
    assert pod.run("superusers.sh").returncode == 0
    assert pod.log == [], "nothing has changed"
    both = '"postgres"\n"root"'
    assert pod.run("superusers.sh", SUPERUSERS=both).returncode == 0
    assert (pod.run_folder / "superusers").read_text() == f"{both}\n"
    assert pod.log == ["reload"]


def test_a_server_that_does_not_tell_its_superusers_keeps_the_list_and_has_not_started(pod: Pod) -> None:
    pod.write_status("ready   ")
    (pod.run_folder / "superusers").write_text("all\n")
    for script in ("superusers.sh", "started.sh", "refresh.sh"):
        done = pod.run(script, SUPERUSERS="")
        assert (done.returncode, "superusers: " in done.stderr) == (1, True), done.stderr
    assert (pod.run_folder / "superusers").read_text() == "all\n"
    assert "verdict" not in pod.log


def test_nobody_asks_a_server_that_starts_for_its_superusers(pod: Pod) -> None:
    pod.write_status("starting")
    assert pod.run("refresh.sh", SUPERUSERS="").returncode == 0


def test_no_server_is_told_of_a_certificate_where_none_runs(pod: Pod) -> None:
    (pod.folder / "pgdata" / "postmaster.pid").unlink()
    done = pod.run("refresh.sh")
    assert (done.returncode, done.stderr, "reload" in pod.log) == (0, "", False)


def test_a_certificate_is_served_once(pod: Pod) -> None:
    for _ in range(2):
        assert pod.run("refresh.sh").returncode == 0
    assert pod.log.count("reload") == 1


def test_a_refresh_is_repeated_and_its_problem_reported_once(pod: Pod) -> None:
    (pod.folder / "credentials" / "password").unlink()
    for name, text in (("sleep", "exec /usr/bin/env -i PATH=/usr/bin:/bin sleep 0.02"), ("postgres", SERVER)):
        (pod.folder / "tools" / name).write_text(f"#!/bin/sh\n{text}\n")
        (pod.folder / "tools" / name).chmod(0o755)
    (pod.folder / "pgdata" / ".headroom-seeded").write_text(f"{SLOT}\n")
    done = pod.run("start.sh")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the login to the primary could not be refreshed") == 1, done.stderr
    assert done.stderr.count("refreshed again") == 1, done.stderr
    assert pod.passfile == "*:*:*:copier:late\n"


def test_an_image_without_flock_starts_nothing(pod: Pod) -> None:
    tools = pod.folder / "few"
    tools.mkdir()
    for name in ("sh", "cat"):
        (tools / name).symlink_to(f"/bin/{name}")
    for script in ("seed.sh", "start.sh"):
        done = pod.run(script, PATH=str(tools))
        assert (done.returncode, "the image has no flock" in done.stderr) == (3, True), done.stderr


def test_an_image_without_the_tools_of_a_server_is_told_from_a_wrong_copy(pod: Pod) -> None:
    (pod.folder / "pgdata" / ".headroom-seeded").write_text("")
    (pod.folder / "few").mkdir()
    for name in ("postgres", "pg_basebackup"):
        (pod.folder / "few" / name).write_text("#!/bin/sh\n")
        (pod.folder / "few" / name).chmod(0o755)
    done = pod.run("seed.sh", PATH=f"{pod.folder / 'few'}:/usr/bin:/bin")
    assert (done.returncode, "seed: the image has no pg_controldata" in done.stderr) == (3, True), done.stderr


def test_a_volume_that_cannot_be_locked_is_reported_with_the_cause(pod: Pod) -> None:
    (pod.folder / "tools" / "flock").write_text('#!/bin/sh\necho "flock: 9: No locks available" >&2; exit 71\n')
    (pod.folder / "tools" / "flock").chmod(0o755)
    done = pod.run("start.sh")
    assert done.returncode == 1
    assert "start: the volume cannot be locked: flock: 9: No locks available" in done.stderr
