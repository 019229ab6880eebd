"""Certificates made on the spot, for tests of TLS."""

import ipaddress
import os
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.postgres_server import Server


class Authority:
    """A certificate authority with one root."""

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        usage = x509.BasicConstraints(ca=True, path_length=0)
        builder = _builder(self._name, self._name, self._key.public_key()).add_extension(usage, critical=True)
        self._root = builder.sign(self._key, hashes.SHA256())

    @property
    def ca_pem(self) -> str:
        """The root certificate."""
        return _pem(self._root)

    def issue(self, common_name: str, *alternatives: str) -> tuple[str, str]:
        """A certificate and its key (PEM) for these host names or addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(common_name), self._name, key.public_key())
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(a) for a in alternatives]), False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return _pem(builder.sign(self._key, hashes.SHA256())), private.decode()


def encrypt(server: Server, authority: Authority, *names: str) -> Server:
    """Start a server that was made with `ssl="on"` and not started, with a certificate for these names."""
    certificate, key = authority.issue("primary", *names)
    for name, content in (("server.crt", certificate), ("server.key", key), ("root.crt", authority.ca_pem)):
        path = server.data / name
        path.write_text(content)
        path.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(path, *server.installation.ids)
    server.settings["ssl_ca_file"] = "root.crt"
    server.start()
    return server


def _alternative(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
