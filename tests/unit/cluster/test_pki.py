"""Certificates say who their owner is and verify against their authority."""

import ipaddress
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from e2e.cluster.control_plane import serving_addresses
from e2e.cluster.pki import clients_for, write_pki

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pki")
    write_pki(path, nodes=["n1", "n2"], addresses=serving_addresses(), now=NOW)
    return path


def load(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def test_the_api_server_is_reachable_under_all_its_names(folder: Path) -> None:
    names = load(folder, "apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    dns = names.get_values_for_type(x509.DNSName)
    addresses = names.get_values_for_type(x509.IPAddress)
    assert {"kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"} <= set(dns)
    assert {ipaddress.ip_address(text) for text in ("127.0.0.1", "10.0.0.1", "10.96.0.1")} == set(addresses)


@pytest.mark.parametrize(
    ("name", "user", "group"),
    [
        ("admin", "headroom-admin", "system:masters"),
        ("kubelet-n1", "system:node:n1", "system:nodes"),
        ("kubelet-n2", "system:node:n2", "system:nodes"),
        ("scheduler", "system:kube-scheduler", None),
    ],
)
def test_a_client_is_who_it_says(folder: Path, name: str, user: str, group: str | None) -> None:
    subject = load(folder, name).subject
    assert [attribute.value for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [user]
    groups = [attribute.value for attribute in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    assert groups == ([group] if group else [])


@pytest.mark.parametrize("name", [client.name for client in clients_for(["n1"])])
def test_clients_are_signed_by_the_cluster_and_cannot_serve(folder: Path, name: str) -> None:
    certificate = load(folder, name)
    certificate.verify_directly_issued_by(load(folder, "ca"))
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_the_front_proxy_has_an_authority_of_its_own(folder: Path) -> None:
    certificate = load(folder, "front-proxy-client")
    certificate.verify_directly_issued_by(load(folder, "front-proxy-ca"))
    with pytest.raises(ValueError, match="Issuer"):
        certificate.verify_directly_issued_by(load(folder, "ca"))


def test_keys_fit_their_certificates_and_are_private(folder: Path) -> None:
    for path in folder.glob("*.crt"):
        key_file = path.with_suffix(".key")
        key = load_pem_private_key(key_file.read_bytes(), password=None)
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        assert key.public_key() == certificate.public_key(), path.name
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600, key_file.name


def test_certificates_are_valid_at_once(folder: Path) -> None:
    certificate = load(folder, "apiserver")
    assert certificate.not_valid_before_utc < NOW < certificate.not_valid_after_utc
