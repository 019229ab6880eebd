"""Keys and certificates of one cluster, made anew at each start."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY = timedelta(days=365)
SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that can sign."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class Client:
    """Who a client certificate says its owner is: Kubernetes reads CN as the user and O as the groups."""

    name: str
    user: str
    group: str = ""


def clients_for(nodes: Sequence[str]) -> list[Client]:
    """Return the identities that a cluster with these nodes needs."""
    fixed = [
        Client("admin", "headroom-admin", "system:masters"),
        Client("controller-manager", "system:kube-controller-manager"),
        Client("scheduler", "system:kube-scheduler"),
        Client("kube-proxy", "system:kube-proxy"),
        Client("apiserver-kubelet", "kube-apiserver", "system:masters"),
    ]
    return fixed + [Client(f"kubelet-{node}", f"system:node:{node}", "system:nodes") for node in nodes]


def serving_names(addresses: Sequence[str]) -> list[x509.GeneralName]:
    """Return the names under which the API server is reached: Service names, localhost and addresses."""
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in (*SERVICE_NAMES, "localhost")]
    return names + [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]


def write_pki(folder: Path, *, nodes: Sequence[str], addresses: Sequence[str], now: datetime | None = None) -> None:
    """Write every key and certificate of a cluster below folder."""
    moment = now or datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    authority = new_authority("headroom-ca", moment)
    front = new_authority("headroom-front-proxy-ca", moment)
    _write(folder, "ca", authority.key, authority.certificate)
    _write(folder, "front-proxy-ca", front.key, front.certificate)
    for client in clients_for(nodes):
        _write(folder, client.name, *issue_client(authority, client, moment))
    _write(folder, "front-proxy-client", *issue_client(front, Client("front", "front-proxy-client"), moment))
    _write(folder, "apiserver", *issue_server(authority, "kube-apiserver", serving_names(addresses), moment))
    account_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "service-account.key").write_bytes(_pem(account_key))


def new_authority(name: str, now: datetime) -> Authority:
    """Return a new self-signed authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder(subject, subject, key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate)


def issue_client(
    authority: Authority, client: Client, now: datetime
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Return a key and a certificate for a client."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, client.user)]
    if client.group:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, client.group))
    return _issue(authority, x509.Name(attributes), [], ExtendedKeyUsageOID.CLIENT_AUTH, now)


def issue_server(
    authority: Authority, name: str, names: Sequence[x509.GeneralName], now: datetime
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Return a key and a certificate for a server that is reached under names."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return _issue(authority, subject, names, ExtendedKeyUsageOID.SERVER_AUTH, now)


def _issue(
    authority: Authority,
    subject: x509.Name,
    names: Sequence[x509.GeneralName],
    usage: x509.ObjectIdentifier,
    now: datetime,
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(subject, authority.certificate.subject, key, now).add_extension(
        x509.ExtendedKeyUsage([usage]), critical=False
    )
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return key, builder.sign(authority.key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + VALIDITY)
    )


def _pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(folder: Path, name: str, key: Key, certificate: x509.Certificate) -> None:
    path = folder / f"{name}.key"
    path.touch(mode=0o600)
    path.write_bytes(_pem(key))
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
