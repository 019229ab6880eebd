"""What libpq is told: certificates in memory only, deadlines, a name."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from headroom.adapters.postgres import conninfo
from headroom.adapters.postgres.conninfo import SessionNames, connection_string
from headroom.errors import PrimaryUnavailable
from headroom.model.database import ConnectionTarget, Credentials
from headroom.reasons import Reason

LOGIN = Credentials("monitor", "pass word ' \\ with=all")
NAME = SessionNames("0123abcd", "4567cdef").name("canary")


def target(**changes: str) -> ConnectionTarget:
    return ConnectionTarget(**{"host": "db", "port": 5432, "database": "store", **changes}, credentials=LOGIN)


def parameters(of: ConnectionTarget, **options: str) -> dict[str, object]:
    with connection_string(of, application_name=NAME, options=options) as text:
        return dict(conninfo_to_dict(text))


def test_values_arrive_as_they_are() -> None:
    found = parameters(target(), search_path="pg_catalog", odd="a b")
    assert found["password"] == LOGIN.password
    assert found["application_name"] == "headroom/canary/0123abcd/4567cdef"
    assert found["options"] == r"-c search_path=pg_catalog -c odd=a\ b"
    assert found["sslmode"] == "prefer"


def test_a_name_fits_the_servers_limit() -> None:
    longest = SessionNames("x" * 16, "y" * 16).name("replication-check")
    assert len(longest) < 64


def test_a_dead_peer_is_seen_within_three_seconds() -> None:
    found = {key: int(str(value)) for key, value in parameters(target()).items() if str(value).isdigit()}
    assert found["tcp_user_timeout"] <= 3000
    assert found["keepalives_idle"] + found["keepalives_interval"] * found["keepalives_count"] <= 3
    assert found["connect_timeout"] <= 3


def test_key_material_is_private_in_memory_and_gone_afterwards() -> None:
    of = target(tls_mode="verify-full", ca_pem="CA", client_certificate_pem="CERT", client_key_pem="KEY")
    with connection_string(of, application_name=NAME, options={}) as text:
        found = conninfo_to_dict(text)
        files = {name: Path(str(found[name])) for name in ("sslrootcert", "sslcert", "sslkey")}
        assert {name: path.read_text() for name, path in files.items()} == {
            "sslrootcert": "CA",
            "sslcert": "CERT",
            "sslkey": "KEY",
        }
        for path in files.values():
            assert path.stat().st_mode & 0o777 == 0o600
            assert str(path.resolve()).startswith("/memfd:"), "no file system holds it"
    assert not any(path.exists() for path in files.values())


def test_key_material_is_gone_after_an_error() -> None:
    seen: list[Path] = []

    def fail() -> None:
        of = target(tls_mode="verify-full", ca_pem="CA")
        with connection_string(of, application_name=NAME, options={}) as text:
            seen.append(Path(str(conninfo_to_dict(text)["sslrootcert"])))
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()
    assert seen
    assert not seen[0].exists()


def test_without_a_ca_the_systems_own_is_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.crt"
    bundle.write_text("CA")
    monkeypatch.setattr(conninfo, "SYSTEM_BUNDLES", (str(bundle),))
    monkeypatch.setattr("ssl.get_default_verify_paths", lambda: type("Paths", (), {"cafile": None}))
    assert parameters(target(tls_mode="verify-full"))["sslrootcert"] == str(bundle)
    monkeypatch.setattr(conninfo, "SYSTEM_BUNDLES", ())
    with pytest.raises(PrimaryUnavailable) as caught:
        parameters(target(tls_mode="verify-ca"))
    assert caught.value.reason is Reason.TLS_FAILED
    assert "caSecretRef" in str(caught.value)


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "bundle.crt"
    monkeypatch.setattr(conninfo, "SYSTEM_BUNDLES", (str(path),))
    monkeypatch.setattr("ssl.get_default_verify_paths", lambda: type("Paths", (), {"cafile": None}))
    conninfo.read_system_authorities.cache_clear()
    yield path
    conninfo.read_system_authorities.cache_clear()


def test_the_systems_authorities_are_handed_on_without_notes(bundle: Path) -> None:
    one, two = (f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n" for name in ("one", "two"))
    bundle.write_text(f"# Authority of somebody\n{one}\n# a note\n{two}")
    assert conninfo.read_system_authorities() == one + two


def test_a_system_without_authorities_hands_on_none(bundle: Path) -> None:
    assert not bundle.exists()
    assert conninfo.read_system_authorities() is None


@pytest.mark.parametrize(
    ("mode", "is_hardened"), [("disable", True), ("prefer", True), ("require", False), ("verify-full", False)]
)
def test_a_password_never_goes_in_the_clear(mode: str, is_hardened: bool) -> None:
    assert ("require_auth" in parameters(target(tls_mode=mode, ca_pem="CA"))) == is_hardened
