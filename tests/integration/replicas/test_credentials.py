"""Logins and certificates of replicas on real servers: shown, verified, rotated while they serve."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from headroom.manifests.configuration import CA_FILE, REQUIRE_AUTH_SINCE
from headroom.model.database import ConnectionTarget
from tests.certificates import Authority
from tests.integration.replicas.volume import SLOT, Volume
from tests.postgres_server import REPLICATION, Server

pytestmark = pytest.mark.postgres
NEW_PASSWORD = "n:e\\w '\u00c1\" word"
"""All that a passfile, a shell or a conninfo could trip over."""


def rotate(volume: Volume, password: str) -> None:
    """As a person does it: the role first, then the Secret, which the kubelet refreshes."""
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(REPLICATION.username), sql.Literal(password))
    volume.primary.sql(statement.as_string(None))
    (volume.folder / "credentials" / "password").write_text(password)


def break_off(volume: Volume) -> None:
    """End replication; returns when the primary has seen its end."""
    [row] = volume.primary.sql("SELECT pid, pg_terminate_backend(pid) AS ended FROM pg_stat_replication")
    assert row["ended"]
    end = time.monotonic() + 10
    while volume.primary.sql("SELECT FROM pg_stat_replication WHERE pid = %s", [row["pid"]]):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_replica_reconnects_with_the_password_that_was_rotated_in(volume: Volume) -> None:
    assert volume.run("seed.sh").returncode == 0
    volume.start()
    rotate(volume, NEW_PASSWORD)
    break_off(volume)
    volume.wait_until_streaming()
    passfile = volume.folder / "run" / "passfile"
    assert oct(passfile.stat().st_mode & 0o777) == "0o600"
    assert sorted(path.name for path in passfile.parent.glob("passfile*")) == ["passfile"]


def test_a_login_that_cannot_be_read_leaves_the_old_one_and_the_replica_ready(volume: Volume) -> None:
    assert volume.run("seed.sh").returncode == 0
    volume.start()
    before = (volume.folder / "run" / "passfile").read_text()
    (volume.folder / "credentials" / "password").unlink()
    volume.wait_for_log("refresh: the login to the primary could not be refreshed")
    assert volume.run("ready.sh").returncode == 0
    assert (volume.folder / "run" / "passfile").read_text() == before
    break_off(volume)
    volume.wait_until_streaming()


def test_a_replica_goes_on_as_its_role_when_the_secret_names_another(volume: Volume) -> None:
    assert volume.run("seed.sh").returncode == 0
    volume.start()
    volume.primary.sql("CREATE ROLE newer LOGIN REPLICATION PASSWORD 'another'")
    for name, text in (("username", "newer"), ("password", "another")):
        (volume.folder / "credentials" / name).write_text(text)
    volume.wait_for_log("credentials: ")
    break_off(volume)
    volume.wait_until_streaming()


def test_a_replica_that_has_not_started_takes_over_its_login(volume: Volume) -> None:
    assert volume.run("seed.sh").returncode == 0
    for segment in (volume.pgdata / "pg_wal").glob("0*"):
        segment.unlink()
    (volume.folder / "credentials" / "password").write_text("wrong")
    volume.server = volume.begin("start.sh")
    volume.wait_for_log("password authentication failed")
    assert volume.run("started.sh").returncode == 1
    (volume.folder / "credentials" / "password").write_text(REPLICATION.password)
    volume.wait_until_started()


@pytest.mark.parametrize(
    "password",
    [
        "a'b\"c\\d:e $1 %s #",
        "p\u00c4ss \u6f22\u5b57 \U0001f642",
        " lead and trail ",
        "\ufb01sh\u00a0\u2460",
        "x" * 1000,
    ],
    ids=["quotes", "unicode", "spaces", "prepared", "long"],
)
def test_a_replica_copies_and_streams_with_a_password_of_any_letters(volume: Volume, password: str) -> None:
    """The last but one is changed before it is compared (SASLprep), by server and client alike."""
    rotate(volume, password)
    seeded = volume.run("seed.sh")
    assert seeded.returncode == 0, seeded.stderr
    volume.start()
    volume.wait_until_streaming()


def test_a_line_end_after_a_password_is_no_part_of_it(volume: Volume) -> None:
    (volume.folder / "credentials" / "password").write_text(f"{REPLICATION.password}\r\n")
    seeded = volume.run("seed.sh")
    assert seeded.returncode == 0, seeded.stderr


def read_streams(primary: Server) -> list[tuple[bool, str]]:
    """Of each stream: whether it is encrypted, and the common name of the certificate that the replica shows."""
    query = "SELECT ssl, client_dn FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)"
    return [(row["ssl"], row["client_dn"].rpartition("/CN=")[2]) for row in primary.sql(query)]


def test_a_replica_verifies_the_primary_and_shows_its_own_certificate(guarded: Volume) -> None:
    seeded = guarded.run("seed.sh")
    assert seeded.returncode == 0, seeded.stderr
    assert oct((guarded.folder / "run" / "client.key").stat().st_mode & 0o777) == "0o600"
    guarded.start()
    guarded.wait_until_streaming()
    assert read_streams(guarded.primary) == [(True, "replicas")]


def test_a_replica_shows_the_certificate_that_was_rotated_in(guarded: Volume, authority: Authority) -> None:
    assert guarded.run("seed.sh").returncode == 0
    guarded.start()
    for name, text in zip(("tls.crt", "tls.key"), authority.issue("renewed"), strict=True):
        (guarded.folder / "client-tls" / name).write_text(text)
    end = time.monotonic() + 20
    while read_streams(guarded.primary) != [(True, "renewed")]:
        assert time.monotonic() < end, guarded.log
        break_off(guarded)
        guarded.wait_until_streaming()


def test_a_primary_of_another_authority_is_refused(guarded: Volume) -> None:
    (guarded.folder / "config" / CA_FILE).write_text(Authority("somebody else").ca_pem)
    done = guarded.run("seed.sh")
    assert (done.returncode, "certificate verify failed" in done.stderr) == (1, True), done.stderr


def test_a_renewed_certificate_of_the_replica_is_served_without_a_restart(
    primary: Server, authority: Authority, tmp_path: Path
) -> None:
    primary.sql("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
    renewed = Authority("renewed")
    trusted = {}
    for name, issuer in (("old", authority), ("new", renewed)):
        trusted[name] = tmp_path / name
        trusted[name].write_text(issuer.ca_pem)
    folder, target = primary.installation.make_folder(), primary.target(tls_mode="disable")
    volume = Volume(primary, folder, target, certificate=authority.issue("replica", "127.0.0.1"))
    try:
        assert volume.run("seed.sh").returncode == 0
        volume.start()
        volume.connect(sslmode="verify-full", sslrootcert=str(trusted["old"])).close()
        volume.serve(*renewed.issue("replica", "127.0.0.1"))
        end = time.monotonic() + 10
        while (refusal := volume.find_refusal(sslmode="verify-full", sslrootcert=str(trusted["new"]))) is not None:
            assert "certificate verify failed" in refusal
            assert time.monotonic() < end, "the old certificate is served still"
            time.sleep(0.1)
    finally:
        volume.close()


@pytest.fixture
def made_volumes(primary: Server) -> Iterator[Callable[..., Volume]]:
    made: list[Volume] = []

    def make(target: ConnectionTarget | None = None, **options: Any) -> Volume:
        if not made:
            primary.sql("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
        folder = primary.installation.make_folder()
        made.append(Volume(primary, folder, target or primary.target(tls_mode="disable"), **options))
        return made[-1]

    yield make
    for volume in made:
        volume.close()


@pytest.mark.parametrize("hba", [(), ("host all all all md5",)], ids=["default", "a line for MD5"])
def test_roles_with_an_md5_password_log_in_by_intent_only(
    made_volumes: Callable[..., Volume], hba: tuple[str, ...]
) -> None:
    volume = made_volumes(hba=hba)
    with volume.primary.connect() as granting:
        for method in ("md5", "scram-sha-256"):
            granting.execute(f"SET password_encryption = '{method}'")
            granting.execute(f"CREATE ROLE \"{method}\" LOGIN PASSWORD 'a password'")
    assert volume.run("seed.sh").returncode == 0
    volume.start()
    refusals = [volume.find_refusal(user=method, password="a password") for method in ("md5", "scram-sha-256")]
    assert [refusal is None for refusal in refusals] == [bool(hba), True]


def read_password_of(listener: socket.socket, said: list[bytes]) -> None:
    """The attack: a server that asks every client for its password in clear."""
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            with client:
                client.settimeout(5)
                client.recv(8192)
                client.sendall(b"R" + (8).to_bytes(4, "big") + (3).to_bytes(4, "big"))
                said.append(client.recv(8192))


def test_a_replica_gives_its_password_to_no_server_that_asks_for_it(
    made_volumes: Callable[..., Volume], primary: Server
) -> None:
    if primary.installation.major < REQUIRE_AUTH_SINCE:
        pytest.skip("its libpq cannot be told so without TLS")
    said: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=read_password_of, args=(listener, said), daemon=True)
        thread.start()
        volume = made_volumes(primary.target(tls_mode="disable", port=listener.getsockname()[1]))
        done = volume.run("seed.sh")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    assert done.returncode != 0
    assert said, "it was asked"
    assert not any(REPLICATION.password.encode() in text for text in said), said
