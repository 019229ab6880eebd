"""A real primary, and folders that stand for the volumes of its replicas."""

from collections.abc import Iterator

import pytest

from headroom.adapters.postgres.conninfo import read_system_authorities
from tests.certificates import Authority, encrypt
from tests.integration.replicas.volume import SLOT, Volume
from tests.postgres_server import HBA, Server, ServerMaker, installation, primary, server_maker, servers

__all__ = ["installation", "primary", "server_maker", "servers"]


@pytest.fixture
def volume(primary: Server) -> Iterator[Volume]:
    primary.sql("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
    made = Volume(primary, primary.installation.make_folder(), primary.target(tls_mode="disable"))
    yield made
    made.close()


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def guarded(servers: ServerMaker, authority: Authority) -> Iterator[Volume]:
    """A volume of a primary that lets in nobody without a certificate of the authority's, beside the password."""
    open_line = "host replication all 127.0.0.1/32 scram-sha-256"
    assert open_line in HBA
    hba = HBA.replace(open_line, f"hostssl{open_line.removeprefix('host')} clientcert=verify-ca")
    primary = encrypt(servers.make(start=False, ssl="on", hba=hba), authority, "127.0.0.1")
    primary.sql("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
    certificate, key = authority.issue("replicas")
    # What a member trusts where the spec names no authority: all that the operator's system trusts.
    ca = (read_system_authorities() or "") + authority.ca_pem
    target = primary.target(tls_mode="verify-full", ca_pem=ca, client_certificate_pem=certificate, client_key_pem=key)
    made = Volume(primary, primary.installation.make_folder(), target)
    yield made
    made.close()
