"""TLS: what each mode accepts and refuses, with certificates that never touch a disk."""

from dataclasses import dataclass

import pytest

from headroom.adapters.postgres.wire import login
from headroom.errors import PrimaryUnavailable
from headroom.ports.postgres import Postgres
from headroom.reasons import Reason
from tests.certificates import Authority, encrypt
from tests.postgres_server import MONITOR, Server, ServerMaker

ENCRYPTED_ONLY = """
local all all trust
host all postgres 127.0.0.1/32 trust
hostssl all all 127.0.0.1/32 {method}
"""


@dataclass
class TlsServer:
    server: Server
    authority: Authority


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def make_server(servers: ServerMaker, authority: Authority, *names: str, method: str = "scram-sha-256") -> Server:
    return encrypt(servers.make(start=False, ssl="on", hba=ENCRYPTED_ONLY.format(method=method)), authority, *names)


@pytest.fixture
def tls(servers: ServerMaker, authority: Authority) -> TlsServer:
    return TlsServer(make_server(servers, authority, "127.0.0.1"), authority)


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_encrypted_modes_connect(postgres: Postgres, tls: TlsServer, mode: str) -> None:
    ca = None if mode == "require" else tls.authority.ca_pem
    link = await postgres.open_primary(tls.server.target(tls_mode=mode, ca_pem=ca))
    assert (await link.identify()).missing_rights == ()
    rows = tls.server.sql(
        "SELECT bool_and(ssl) AS ssl, count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
        " WHERE application_name LIKE 'headroom/%'"
    )
    assert rows == [{"ssl": True, "count": 3}]


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
async def test_a_certificate_of_another_authority_is_refused(postgres: Postgres, tls: TlsServer, mode: str) -> None:
    target = tls.server.target(tls_mode=mode, ca_pem=Authority("somebody else").ca_pem)
    with pytest.raises(PrimaryUnavailable) as caught:
        await postgres.open_primary(target)
    assert caught.value.reason is Reason.TLS_FAILED


async def test_the_systems_authorities_do_not_vouch_for_ours(postgres: Postgres, tls: TlsServer) -> None:
    with pytest.raises(PrimaryUnavailable) as caught:
        await postgres.open_primary(tls.server.target(tls_mode="verify-full"))
    assert caught.value.reason is Reason.TLS_FAILED


async def test_only_verify_full_looks_at_the_host_name(
    postgres: Postgres, servers: ServerMaker, authority: Authority
) -> None:
    server = make_server(servers, authority, "elsewhere.example")
    link = await postgres.open_primary(server.target(tls_mode="verify-ca", ca_pem=authority.ca_pem))
    assert await link.position()
    with pytest.raises(PrimaryUnavailable) as caught:
        await postgres.open_primary(server.target(tls_mode="verify-full", ca_pem=authority.ca_pem))
    assert caught.value.reason is Reason.TLS_FAILED
    assert "connection.tls" in str(caught.value)


async def test_in_the_clear_the_server_refuses_and_the_log_says_why(
    postgres: Postgres, tls: TlsServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with pytest.raises(PrimaryUnavailable) as caught:
        await postgres.open_primary(tls.server.target(tls_mode="disable"))
    assert caught.value.reason is Reason.PASSWORD_REJECTED
    assert "pg_hba.conf" in str(caught.value)
    assert "no encryption" in caplog.text


async def test_a_server_without_tls_is_told_apart(postgres: Postgres, primary: Server) -> None:
    with pytest.raises(PrimaryUnavailable) as caught:
        await postgres.open_primary(primary.target(tls_mode="require"))
    assert caught.value.reason is Reason.TLS_FAILED


async def test_a_client_certificate_logs_in(postgres: Postgres, servers: ServerMaker, authority: Authority) -> None:
    server = make_server(servers, authority, "127.0.0.1", method="cert")
    certificate, key = authority.issue("headroom_monitor")
    target = server.target(
        tls_mode="verify-full", ca_pem=authority.ca_pem, client_certificate_pem=certificate, client_key_pem=key
    )
    link = await postgres.open_primary(target)
    assert await link.position()
    mismatch, stranger_key = authority.issue("somebody")
    wrong = server.target(
        tls_mode="verify-full", ca_pem=authority.ca_pem, client_certificate_pem=mismatch, client_key_pem=stranger_key
    )
    with pytest.raises(PrimaryUnavailable) as caught:
        await postgres.open_primary(wrong)
    assert caught.value.reason is Reason.PASSWORD_REJECTED


async def test_a_cleartext_password_is_never_sent_in_the_clear(postgres: Postgres, servers: ServerMaker) -> None:
    server = servers.make(hba="local all all trust\nhost all postgres all trust\nhost all all all password\n")
    with pytest.raises(PrimaryUnavailable) as caught:
        await postgres.open_primary(server.target(tls_mode="disable"))
    assert caught.value.reason is Reason.PASSWORD_METHOD_WEAK
    assert "scram-sha-256" in str(caught.value)


@pytest.mark.parametrize("mode", ["disable", "require"])
async def test_md5_is_answered_only_when_the_spec_says_so(
    postgres: Postgres, servers: ServerMaker, authority: Authority, mode: str
) -> None:
    hba = "local all all trust\nhost all postgres all trust\nhost all all all md5\n"
    made = servers.make(start=False, ssl="on", hba=hba, password_encryption="md5")
    server = encrypt(made, authority, "127.0.0.1")
    server.sql(f"ALTER ROLE {MONITOR.username} PASSWORD '{MONITOR.password}'")
    with pytest.raises(PrimaryUnavailable) as caught:
        await postgres.open_primary(server.target(tls_mode=mode))
    assert caught.value.reason is Reason.PASSWORD_METHOD_WEAK
    link = await postgres.open_primary(server.target(tls_mode=mode, password_method="md5"))
    assert await link.position()


async def test_a_login_is_bound_to_the_servers_certificate(
    postgres: Postgres, tls: TlsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server refuses a login that is bound to another certificate than its own: somebody stands between."""
    link = await postgres.open_primary(tls.server.target(tls_mode="require"))
    assert await link.position()
    monkeypatch.setattr(login, "compute_binding", lambda _certificate: b"another certificate's hash......")
    with pytest.raises(PrimaryUnavailable) as caught:
        await postgres.open_primary(tls.server.target(tls_mode="require"))
    # The server is known by now, and so are its words shown.
    assert "channel binding" in str(caught.value)
