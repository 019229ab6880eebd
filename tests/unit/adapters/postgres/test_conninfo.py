"""What a server is told at the start of a connection; certificates are used in memory only."""

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import headroom
from headroom.adapters.postgres.conninfo import SessionNames, build_startup_parameters
from headroom.adapters.postgres.wire import messages, tls
from headroom.errors import PrimaryUnavailable
from headroom.model.database import ConnectionTarget, Credentials
from headroom.reasons import Reason
from tests.certificates import Authority

LOGIN = Credentials("monitor", "pass word ' \\ with=all")
NAME = SessionNames("0123abcd", "4567cdef").name("canary")


def target(**changes: str) -> ConnectionTarget:
    return ConnectionTarget(**{"host": "db", "port": 5432, "database": "store", **changes}, credentials=LOGIN)


def parameters(of: ConnectionTarget, **options: str) -> dict[str, str]:
    return build_startup_parameters(of, application_name=NAME, options=options)


def test_values_arrive_as_they_are() -> None:
    found = parameters(target(database="my store"), search_path="pg_catalog", odd="a b\tc\\")
    assert found["application_name"] == "headroom/canary/0123abcd/4567cdef"
    assert found["options"] == "-c search_path=pg_catalog -c odd=a\\ b\\\tc\\\\"
    assert found["database"] == "my store"


def test_the_password_is_not_among_them() -> None:
    assert LOGIN.password not in str(parameters(target()))
    assert LOGIN.password not in repr(target())


@pytest.mark.parametrize("odd", ["tab\there", "quote'", "line\nend", " host=evil", "\\"])
def test_a_name_cannot_become_another_parameter(odd: str) -> None:
    of = ConnectionTarget("db", 5432, "store", Credentials(odd, "p"))
    message = messages.build_startup(parameters(of))
    parts = message[8:-2].split(b"\0")
    assert dict(zip(parts[::2], parts[1::2], strict=True))[b"user"] == odd.encode()
    assert len(parts) == 2 * len(parameters(of))


def test_a_value_that_would_end_early_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        messages.build_startup(parameters(target(database="store\0user\0postgres")))


def test_a_name_fits_the_servers_limit() -> None:
    longest = SessionNames("x" * 16, "y" * 16).name("replication-check")
    assert len(longest) < 64


def test_key_material_is_private_in_memory_and_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority()
    certificate, key = authority.issue("monitor")
    seen: list[Path] = []
    load = ssl.SSLContext.load_cert_chain

    def watch(context: ssl.SSLContext, *paths: str, password: object) -> None:
        seen.extend(Path(path) for path in paths)
        assert [path.read_text() for path in seen] == [certificate, key]
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in seen)
        assert all(str(path.resolve()).startswith("/memfd:") for path in seen), "no file system holds it"
        load(context, *paths, password=password)  # type: ignore[arg-type]

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watch)
    of = target(tls_mode="verify-full", ca_pem=authority.ca_pem, client_certificate_pem=certificate, client_key_pem=key)
    assert tls.build_context(of).verify_mode is ssl.CERT_REQUIRED
    assert len(seen) == 2
    assert not any(path.exists() for path in seen)


def test_a_key_that_cannot_be_used_is_said_and_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    of = target(tls_mode="require", client_certificate_pem="CERT", client_key_pem="KEY")
    with pytest.raises(PrimaryUnavailable) as caught:
        tls.build_context(of)
    assert caught.value.reason is Reason.TLS_FAILED
    assert "KEY" not in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "ca", "verify", "checks_name"),
    [
        ("require", False, ssl.CERT_NONE, False),
        ("require", True, ssl.CERT_REQUIRED, False),
        ("verify-ca", True, ssl.CERT_REQUIRED, False),
        ("verify-full", True, ssl.CERT_REQUIRED, True),
    ],
)
def test_each_mode_verifies_what_it_says(mode: str, ca: bool, verify: ssl.VerifyMode, checks_name: bool) -> None:
    of = target(tls_mode=mode, **({"ca_pem": Authority().ca_pem} if ca else {}))
    context = tls.build_context(of)
    assert (context.verify_mode, context.check_hostname) == (verify, checks_name)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_server_cannot_choose_what_a_handshake_costs() -> None:
    """A DHE group of 8192 bits held the event loop for 0.25 s of processor in each handshake."""
    context = tls.build_context(target(tls_mode="require"))
    named = [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    assert named
    assert all(name.startswith("ECDHE-") for name in named), named
    assert ssl.OP_NO_RENEGOTIATION in context.options


HELLO = """
import ssl, sys
from headroom.adapters.postgres.wire import tls
context = tls._make_context(None, is_verified=False, checks_name=False)
context.minimum_version = ssl.TLSVersion.TLSv1_3
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
try:
    context.wrap_bio(incoming, outgoing).do_handshake()
except ssl.SSLWantReadError:
    sys.stdout.write(outgoing.read().hex())
"""


def test_nor_with_tls_1_3() -> None:
    """There the server chooses among the groups that we offer: ffdhe8192 took 0.12 s of processor."""
    settings = Path(tls.__file__).with_name("openssl.cnf")
    dockerfile = (Path(__file__).parents[4] / "Dockerfile").read_text()
    assert (
        f"OPENSSL_CONF=/opt/headroom/code/headroom/{settings.relative_to(Path(headroom.__file__).parent)}" in dockerfile
    )
    environment = {**os.environ, "OPENSSL_CONF": str(settings), "PYTHONPATH": os.pathsep.join(sys.path)}
    hello = bytes.fromhex(subprocess.check_output([sys.executable, "-c", HELLO], env=environment, text=True))
    # supported_groups (RFC 8446, 4.2.7): type 10, its length, the length of the list, two bytes for each.
    groups = (0x001D, 0x0017, 0x0018, 0x0019, 0x001E)
    listed = b"".join(group.to_bytes(2, "big") for group in groups)
    assert b"\x00\x0a\x00\x0c\x00\x0a" + listed in hello


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "bundle.crt"
    monkeypatch.setattr(tls, "SYSTEM_BUNDLES", (str(path),))
    monkeypatch.setattr("ssl.get_default_verify_paths", lambda: type("Paths", (), {"cafile": None}))
    tls.read_system_authorities.cache_clear()
    yield path
    tls.read_system_authorities.cache_clear()


def test_without_a_ca_the_systems_own_is_trusted(bundle: Path) -> None:
    with pytest.raises(PrimaryUnavailable) as caught:
        tls.build_context(target(tls_mode="verify-ca"))
    assert caught.value.reason is Reason.TLS_FAILED
    assert "caSecretRef" in str(caught.value)
    bundle.write_text(Authority().ca_pem)
    assert len(tls.build_context(target(tls_mode="verify-full")).get_ca_certs()) == 1


def test_the_systems_authorities_are_handed_on_without_notes(bundle: Path) -> None:
    one, two = (f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n" for name in ("one", "two"))
    bundle.write_text(f"# Authority of somebody\n{one}\n# a note\n{two}")
    assert tls.read_system_authorities() == one + two


def test_a_system_without_authorities_hands_on_none(bundle: Path) -> None:
    assert not bundle.exists()
    assert tls.read_system_authorities() is None
