"""The certificate that a member makes for itself, on real servers: verified by clients, renewed, never lent."""

import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.replicas.volume import SLOT, Volume

pytestmark = pytest.mark.postgres
SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
MOST_OF_REPORT = 4096
"""Bytes that the kubelet keeps of what a container reports."""
BY_NAME = {"host": "localhost", "hostaddr": "127.0.0.1", "sslmode": "verify-full"}
NAMES = ("store-read", "store-read.shop", "store-read.shop.svc", "store-0-a")


def read_report(volume: Volume) -> str:
    return (volume.folder / "run" / "report").read_text()


def seed(volume: Volume, **changes: str) -> Path:
    """Fill the volume; the file of what the member reported, as a client would trust it."""
    seeded = volume.run("seed.sh", **changes)
    assert seeded.returncode == 0, seeded.stderr
    trusted = volume.folder / "trusted.crt"
    trusted.write_text(read_report(volume))
    return trusted


def read_served(volume: Volume) -> bytes:
    """The certificate that the server shows now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", volume.port), 5) as plain:
        plain.sendall(SSL_REQUEST)
        assert plain.recv(1) == b"S"
        with context.wrap_socket(plain) as secure:
            return secure.getpeercert(binary_form=True) or b""


def test_clients_verify_a_member_by_what_it_reported(volume: Volume) -> None:
    trusted = seed(volume)
    assert read_report(volume).count("BEGIN CERTIFICATE") == 1
    assert len(read_report(volume)) <= MOST_OF_REPORT
    assert "PRIVATE" not in read_report(volume)
    volume.start()
    for name in NAMES:
        refusal = volume.find_refusal(host=name, hostaddr="127.0.0.1", sslmode="verify-full", sslrootcert=str(trusted))
        assert refusal is None, name
    refusal = volume.find_refusal(host="other", hostaddr="127.0.0.1", sslmode="verify-full", sslrootcert=str(trusted))
    assert refusal is not None
    assert "does not match host name" in refusal


def test_no_key_can_be_read_by_others_and_each_is_where_it_should_be(volume: Volume) -> None:
    seed(volume)
    keys = [path for path in volume.folder.rglob("*.key") if "client-tls" not in path.parts]
    assert sorted(path.relative_to(volume.folder) for path in keys) == [
        Path(f"data/.headroom-tls/{SLOT}.key"),
        Path("run/server.key"),
    ]
    assert {oct(path.stat().st_mode & 0o777) for path in keys} == {"0o600"}
    assert oct((volume.folder / "data" / ".headroom-tls").stat().st_mode & 0o777) == "0o700"


def test_a_certificate_near_its_end_is_renewed_while_sessions_go_on(volume: Volume) -> None:
    trusted = seed(volume)
    volume.start()
    with volume.connect(**BY_NAME, sslrootcert=str(trusted), autocommit=True) as session:
        before = read_served(volume)
        _shorten(volume)
        end = time.monotonic() + 15
        while read_served(volume) == before or _is_served_short(volume):
            assert time.monotonic() < end, volume.log
            time.sleep(0.1)
        assert session.execute("SELECT 1").fetchone() == (1,), "the session from before goes on"
    assert volume.find_refusal(**BY_NAME, sslrootcert=str(trusted)) is None
    assert volume.server is not None
    assert volume.server.poll() is None


def _shorten(volume: Volume) -> None:
    """Give the server a certificate for a day; the pod's own refresh may come between, and makes one for 90."""
    names, certificate = (volume.folder / "run" / name for name in ("server.names", "server.crt"))
    for _ in range(10):
        names.unlink(missing_ok=True)
        issued = volume.run("certificate.sh", CERTIFICATE_DAYS="1")
        assert issued.returncode == 0, issued.stderr
        if _is_short(certificate.read_text()):
            return
    pytest.fail("it was renewed each time before anybody looked")


def _is_short(pem: str) -> bool:
    command = ["openssl", "x509", "-noout", "-checkend", str(2 * 86400)]
    return subprocess.run(command, input=pem, text=True, capture_output=True, check=False).returncode != 0


def _is_served_short(volume: Volume) -> bool:
    return _is_short(ssl.DER_cert_to_PEM_cert(read_served(volume)))


def test_another_pod_on_the_same_volume_is_known_by_the_same_authority(volume: Volume) -> None:
    trusted = seed(volume)
    before = read_report(volume)
    for path in (volume.folder / "run").iterdir():
        path.unlink()
    assert volume.run("seed.sh").returncode == 0
    assert read_report(volume) == before
    volume.start()
    assert volume.find_refusal(**BY_NAME, sslrootcert=str(trusted)) is None


def test_an_authority_past_half_of_its_time_is_replaced_with_the_pod(volume: Volume) -> None:
    seed(volume, AUTHORITY_DAYS="100")
    before = read_report(volume)
    trusted = seed(volume, AUTHORITY_DAYS="300")
    assert read_report(volume) != before
    volume.start()
    assert volume.find_refusal(**BY_NAME, sslrootcert=str(trusted)) is None


def test_a_copied_volume_does_not_lend_its_authority(volume: Volume) -> None:
    """A volume made from a snapshot of another member's has that one's key."""
    trusted = seed(volume)
    other = "hr_0123abcd_4567cdef_1_b"
    (volume.folder / "data" / "pgdata" / ".headroom-seeded").write_text(f"{other}\n")
    assert volume.run("seed.sh", SLOT=other).returncode == 0
    assert read_report(volume) != trusted.read_text()
    assert [path.name for path in (volume.folder / "data" / ".headroom-tls").glob("*.key")] == [f"{other}.key"]


@pytest.mark.parametrize(
    ("subject", "names"),
    [
        ("primary.shop.svc", "DNS:primary.shop.svc"),
        ("primary.shop.svc", "DNS:store-read,DNS:primary.shop.svc"),
        ("primary.shop.svc", ""),
        ("store-0-a", "IP:127.0.0.1"),
        ("store-0-a", "DNS:store-read,IP:10.96.0.1"),
        ("store-0-a", "DNS:store-read,IP:fd00::1"),
        ("127.0.0.1", ""),
    ],
)
def test_an_authority_cannot_speak_for_other_hosts(volume: Volume, subject: str, names: str) -> None:
    """Whoever takes over a replica has its key, and clients that trust the set's authorities trust them for no more."""
    trusted = seed(volume)
    sign_with_the_stolen_key(volume, subject, names)
    volume.start()
    refusal = volume.find_refusal(sslmode="verify-ca", sslrootcert=str(trusted))
    assert refusal is not None
    assert "certificate verify failed" in refusal
    assert "subtree violation" in verify(volume, trusted)


def test_what_is_signed_by_hand_for_the_right_host_is_verified(volume: Volume) -> None:
    """So the test above refuses names and nothing else."""
    trusted = seed(volume)
    sign_with_the_stolen_key(volume, "store-0-a", "DNS:store-read")
    assert verify(volume, trusted).endswith(": OK\n")


def verify(volume: Volume, trusted: Path) -> str:
    command = ["openssl", "verify", "-CAfile", str(trusted), str(volume.folder / "run" / "server.crt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr + done.stdout


def sign_with_the_stolen_key(volume: Volume, subject: str, names: str) -> None:
    """Put a certificate in the place of the server's that its authority has signed for another host."""
    run, key = volume.folder / "run", volume.folder / "data" / ".headroom-tls" / SLOT
    (volume.folder / "extensions").write_text(f"subjectAltName = {names}\n" if names else "")
    request = ["openssl", "req", "-new", "-key", str(run / "server.key"), "-subj", f"/CN={subject}"]
    sign = ["openssl", "x509", "-req", "-CA", f"{key}.crt", "-CAkey", f"{key}.key", "-set_serial", "7", "-days", "90"]
    made = subprocess.run([*request, "-config", str(run / "tls.conf")], capture_output=True, check=True).stdout
    sign += ["-extfile", str(volume.folder / "extensions")]
    leaf = subprocess.run(sign, input=made, capture_output=True, check=True).stdout
    (run / "server.crt").write_bytes(leaf + Path(f"{key}.crt").read_bytes())


def test_a_server_that_cannot_encrypt_says_so_and_serves_without(volume: Volume) -> None:
    few = volume.folder / "few"
    few.mkdir(mode=0o755)
    done = volume.run("seed.sh", PATH=_path_without_openssl(volume, few))
    assert done.returncode == 0, done.stderr
    assert read_report(volume) == "no TLS: the image has no openssl\n"
    volume.start()
    assert volume.find_refusal(sslmode="disable") is None
    refusal = volume.find_refusal(sslmode="require")
    assert refusal is not None
    assert "does not support SSL" in refusal


def _path_without_openssl(volume: Volume, few: Path) -> str:
    """The programs of the image but one."""
    root = volume.primary.installation.root or Path("/")
    for folder in ("usr/bin", "bin"):
        for path in (root / folder).iterdir():
            if path.name != "openssl" and not (few / path.name).is_symlink():
                (few / path.name).symlink_to(f"/{folder}/{path.name}")
    return f"{volume.primary.installation.bin_folder}:{few}:/usr/sbin:/sbin"
