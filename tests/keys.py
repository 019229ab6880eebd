"""Keys and certificates that cost as much as they can, and those that bind no login."""

import base64
import secrets
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


def encode(tag: int, content: bytes) -> bytes:
    """One element of DER."""
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def encode_numbers(*numbers: int) -> bytes:
    return encode(0x30, b"".join(encode(2, each.to_bytes(each.bit_length() // 8 + 1, "big")) for each in numbers))


def write_pem(kind: str, der: bytes) -> str:
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(der).decode()}-----END {kind}-----\n"


def wrap(pem: str) -> str:
    """A key of RSA in the form of PKCS 8."""
    return write_pem("PRIVATE KEY", wrap_der(base64.b64decode("".join(pem.splitlines()[1:-1]))))


def wrap_der(inner: bytes, _number: int = 0) -> bytes:
    rsa = bytes.fromhex("300d06092a864886f70d0101010500")
    return encode(0x30, b"\2\1\0" + rsa + encode(0x04, inner))


def odd(bits: int) -> int:
    return secrets.randbits(bits) | 1 | 3 << (bits - 2)


@cache
def make_rsa(bits: int) -> tuple[str, int]:
    """A key of the right shape and its modulus, made at once: its factors are no primes, so that nobody verifies it."""
    first, second = odd(bits // 2), odd(bits // 2)
    parts = (odd(bits // 2 - 1) for _ in range(3))
    der = encode_numbers(0, first * second, 65537, odd(bits - 1), first, second, *parts)
    return write_pem("RSA PRIVATE KEY", der), first * second


def sign(public: Any, private: Any, *, subject: str = "a", issuer: str = "a", is_ca: bool = False) -> x509.Certificate:
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (subject, issuer)]
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(names[1], names[0], public, secrets.randbits(64) | 1, now - DAY, now + 9 * DAY)
    builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    address = x509.DNSName("127.0.0.1"), x509.IPAddress(ip_address("127.0.0.1"))
    builder = builder.add_extension(x509.SubjectAlternativeName(address), critical=False)
    return builder.sign(private, None if isinstance(private, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def read(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def make_client(bits: int) -> tuple[str, str]:
    """A client's certificate and its RSA key."""
    key, modulus = make_rsa(bits)
    public = rsa.RSAPublicNumbers(65537, modulus).public_key()
    return read(sign(public, ec.generate_private_key(ec.SECP256R1()))), key


def make_chain(length: int) -> tuple[str, str, str]:
    """Certificates up to a root, the first one's key, and the root. Each signature takes some 15 ms to verify.

    OpenSSL takes a public exponent as long as the modulus, up to 3072 bits.
    """
    usual = rsa.generate_private_key(65537, 3072).private_numbers()
    order = (usual.p - 1) * (usual.q - 1)
    while True:
        exponent = odd(3070)
        try:
            secret = pow(exponent, -1, order)
            break
        except ValueError:
            continue
    public = rsa.RSAPublicNumbers(exponent, usual.public_numbers.n)
    halves = rsa.rsa_crt_dmp1(secret, usual.p), rsa.rsa_crt_dmq1(secret, usual.q)
    numbers = rsa.RSAPrivateNumbers(usual.p, usual.q, secret, *halves, usual.iqmp, public)
    key = numbers.private_key(unsafe_skip_rsa_key_validation=True)
    root = sign(key.public_key(), key, subject=f"i{length}", issuer=f"i{length}", is_ca=True)
    found = [sign(key.public_key(), key, subject=f"i{at}", issuer=f"i{at + 1}", is_ca=at > 0) for at in range(length)]
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    return "".join(map(read, found)), pem, read(root)


def make_unbinding() -> tuple[str, str]:
    """A certificate that is its own authority, and its key, of a kind for which no binding is defined."""
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return read(sign(key.public_key(), key, is_ca=True)), pem


def serve(certificate: str, key: str) -> ssl.SSLContext:
    """The server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(certificate + key)
        file.flush()
        context.load_cert_chain(Path(file.name))
    return context
