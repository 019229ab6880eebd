"""TLS as a spec asks for it, and what binds a login to the server's certificate (RFC 5929, tls-server-end-point)."""

import hashlib
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NoReturn

from headroom.errors import PrimaryUnavailable
from headroom.model.certificates import find_certificates, find_key
from headroom.model.database import ConnectionTarget
from headroom.model.der import OBJECT_IDENTIFIER, read_element
from headroom.reasons import Reason

SYSTEM_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
CIPHERS = "@SECLEVEL=2:ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"
"""Python's list for TLS 1.2 without DHE: there the server chooses the group, of up to 10,000 bits."""
_HASHES = {
    "2a864886f70d010104": "sha256",  # md5WithRSAEncryption: RFC 5929 takes SHA-256 for MD5 and SHA-1
    "2a864886f70d010105": "sha256",
    "2a864886f70d01010b": "sha256",
    "2a864886f70d01010c": "sha384",
    "2a864886f70d01010d": "sha512",
    "2a864886f70d01010e": "sha224",
    "2a8648ce3d0401": "sha256",  # ecdsa-with-SHA1
    "2a8648ce3d040301": "sha224",
    "2a8648ce3d040302": "sha256",
    "2a8648ce3d040303": "sha384",
    "2a8648ce3d040304": "sha512",
}
"""Object identifiers of signature algorithms (DER, in hexadecimal) and the hash that each uses."""


def build_context(target: ConnectionTarget) -> ssl.SSLContext:
    """The client's side of TLS for a target; raises PrimaryUnavailable if its certificates cannot be used.

    It is to run beside the event loop: 200 certificates take 30 ms, and files are parsed without Python's lock.
    """
    is_verified = target.tls_mode.startswith("verify") or (target.tls_mode == "require" and target.ca_pem is not None)
    if is_verified and target.ca_pem is None and _find_system_bundle() is None:
        message = f"{target.host}:{target.port}: this system has no CA certificates; set connection.tls.caSecretRef"
        raise PrimaryUnavailable(message, reason=Reason.TLS_FAILED)
    try:
        context = _make_context(target.ca_pem, is_verified=is_verified, checks_name=target.tls_mode == "verify-full")
        if target.client_certificate_pem is not None and target.client_key_pem is not None:
            with (
                _memory_file("sslcert", target.client_certificate_pem) as certificate,
                _memory_file("sslkey", find_key(target.client_key_pem)) as key,
            ):
                context.load_cert_chain(certificate, key, password=_refuse_passphrase)
    except (ssl.SSLError, ValueError, OSError) as error:
        message = f"{target.host}:{target.port}: the certificates of connection.tls cannot be used: {error}"
        raise PrimaryUnavailable(message, reason=Reason.TLS_FAILED) from error
    return context


def _make_context(ca_pem: str | None, *, is_verified: bool, checks_name: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.check_hostname = checks_name
    if not is_verified:
        context.verify_mode = ssl.CERT_NONE
        return context
    # What the user lists is trusted, whether or not its own issuer is listed too.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if ca_pem is None:
        context.load_verify_locations(cafile=_find_system_bundle())
        return context
    with _memory_file("sslca", "\n".join(find_certificates(ca_pem))) as authorities:
        context.load_verify_locations(cafile=authorities)
    return context


def _refuse_passphrase() -> NoReturn:
    # Else OpenSSL asks a terminal for it.
    raise ValueError("the key has a passphrase")


@contextmanager
def _memory_file(name: str, content: str) -> Iterator[str]:
    """A private file (0600) that lies in memory, has no name in any file system and is gone at the end."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


@cache
def read_system_authorities() -> str | None:
    """The system's CA certificates (PEM) without the notes beside them; None where it has none."""
    path = _find_system_bundle()
    if path is None:
        return None
    blocks = find_certificates(Path(path).read_text(encoding="utf-8", errors="replace"))
    return "".join(f"{block}\n" for block in blocks) or None


def _find_system_bundle() -> str | None:
    default = ssl.get_default_verify_paths().cafile
    return next((path for path in (default, *SYSTEM_BUNDLES) if path and Path(path).is_file()), None)


def compute_binding(certificate: bytes | None) -> bytes | None:
    """The hash of a server's certificate (DER) that a login is bound to; None where no hash is defined for it."""
    if certificate is None:
        return None
    try:
        name = _HASHES.get(_find_algorithm(certificate).hex())
    except (IndexError, ValueError):
        return None
    return None if name is None else hashlib.new(name, certificate).digest()


def _find_algorithm(certificate: bytes) -> bytes:
    """Certificate ::= SEQUENCE { tbsCertificate, SEQUENCE { algorithm OBJECT IDENTIFIER, .. }, signature }."""
    _, start, _ = read_element(certificate, 0)
    _, _, after_body = read_element(certificate, start)
    _, start, _ = read_element(certificate, after_body)
    tag, start, end = read_element(certificate, start)
    if tag != OBJECT_IDENTIFIER:
        raise ValueError("not an object identifier")
    return certificate[start:end]
