"""Secrets as logins and certificates: read one by one, never listed, never shown.

Every function raises `Refused` whose reason tells a missing Secret from a missing key and from unusable content, and
whose message names the Secret, the key, the field of the spec and the remedy. Values never appear in a message.
"""

import base64
import binascii
import re
import ssl
from dataclasses import dataclass

from headroom.api.v1alpha1.common import SecretKeyRef
from headroom.api.v1alpha1.connection import PostgresConnection
from headroom.errors import Refused
from headroom.model.database import ConnectionTarget, Credentials
from headroom.policy.guard_target import qualify_host
from headroom.ports.kube import SECRET, KubeReader, Manifest, ObjectRef
from headroom.reasons import Reason

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----.+?-----END", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SecretReader:
    """Reads Secrets of one namespace."""

    kube: KubeReader
    namespace: str

    async def credentials(self, name: str, field: str) -> Credentials:
        """The keys `username` and `password`; a line end after them, as `echo` leaves, is no part of them."""
        secret = await self._get(name, field)
        return Credentials(*(self._line(secret, name, key, field) for key in ("username", "password")))

    async def text(self, ref: SecretKeyRef, field: str) -> str:
        """One key as text."""
        return self._value(await self._get(ref.name, field), ref.name, ref.key, field)

    async def certificates(self, ref: SecretKeyRef, field: str) -> str:
        """One key that holds one or more certificates (PEM)."""
        pem = await self.text(ref, field)
        self._check_certificates(pem, ref.name, ref.key, field)
        return pem

    async def certificate_and_key(self, name: str, field: str) -> tuple[str, str]:
        """The keys `tls.crt` and `tls.key` of a Secret of type kubernetes.io/tls (PEM)."""
        secret = await self._get(name, field)
        certificate = self._value(secret, name, "tls.crt", field)
        key = self._value(secret, name, "tls.key", field)
        self._check_certificates(certificate, name, "tls.crt", field)
        if not _PRIVATE_KEY.search(key):
            raise _invalid(name, "tls.key", field, "holds no PEM private key")
        return certificate, key

    async def target(self, connection: PostgresConnection, field: str) -> ConnectionTarget:
        """All that a connection of a spec stands for; `field` is its path."""
        tls = connection.tls
        ca = certificate = key = None
        credentials = await self.credentials(connection.credentials_secret_ref.name, f"{field}.credentialsSecretRef")
        if tls.ca_secret_ref is not None:
            ca = await self.certificates(tls.ca_secret_ref, f"{field}.tls.caSecretRef")
        if tls.client_certificate_secret_ref is not None:
            where = f"{field}.tls.clientCertificateSecretRef"
            certificate, key = await self.certificate_and_key(tls.client_certificate_secret_ref.name, where)
        return ConnectionTarget(
            host=qualify_host(connection.host, self.namespace),
            port=connection.port,
            database=connection.database,
            credentials=credentials,
            tls_mode=str(tls.mode),
            ca_pem=ca,
            client_certificate_pem=certificate,
            client_key_pem=key,
        )

    async def _get(self, name: str, field: str) -> Manifest:
        secret = await self.kube.get(ObjectRef(SECRET, self.namespace, name))
        if secret is None:
            message = f"{field}: Secret {name} does not exist; create it in namespace {self.namespace}"
            raise Refused(message, reason=Reason.SECRET_NOT_FOUND)
        return secret

    def _value(self, secret: Manifest, name: str, key: str, field: str) -> str:
        encoded = (secret.get("data") or {}).get(key)
        if encoded is None:
            message = f"{field}: Secret {name} has no key {key}; add it"
            raise Refused(message, reason=Reason.SECRET_KEY_MISSING)
        try:
            value = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _invalid(name, key, field, "is not text") from error
        if not value.strip():
            raise _invalid(name, key, field, "is empty")
        return value

    def _line(self, secret: Manifest, name: str, key: str, field: str) -> str:
        value = self._value(secret, name, key, field).rstrip("\r\n")
        if any(character in value for character in "\r\n\0"):
            raise _invalid(name, key, field, "has more than one line")
        return value

    def _check_certificates(self, pem: str, name: str, key: str, field: str) -> None:
        found = _CERTIFICATE.findall(pem)
        if not found:
            raise _invalid(name, key, field, "holds no PEM certificate")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata="\n".join(found))
        except (ssl.SSLError, ValueError) as error:
            raise _invalid(name, key, field, "holds a certificate that does not parse") from error


def _invalid(name: str, key: str, field: str, problem: str) -> Refused:
    return Refused(f"{field}: key {key} of Secret {name} {problem}; replace it", reason=Reason.SECRET_INVALID)
