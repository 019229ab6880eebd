"""Certificates and keys as text (PEM): found, counted and bounded before anything parses them."""

import re

from headroom.model.der import find_modulus_bits, is_whole, read_base64

MOST_CERTIFICATE_CHARACTERS = 256 << 10
"""Of one text: a system's list of all public authorities has 215 KiB."""
MOST_CERTIFICATES = 200
"""In one text: a system's list has some 150."""
MOST_KEY_CHARACTERS = 32 << 10
"""An RSA key of 4096 bits has 3 KiB, and lines beside it may say whose it is."""
MOST_KEY_BITS = 4096
"""Of an RSA key: one of 16,384 bits takes a second of a processor for each handshake."""
# The content is base64, without a hyphen: to look for the end beyond the next one would be quadratic.
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----([^-]+)-----END CERTIFICATE-----")
_KEY = re.compile(r"-----BEGIN ((?:[A-Z]{1,20} )?)PRIVATE KEY-----([^-]+)-----END \1PRIVATE KEY-----")
_ENCRYPTED = re.compile(r"-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED", re.MULTILINE)


def find_certificates(pem: str) -> tuple[str, ...]:
    """The certificates of a text, without anything beside them."""
    return tuple(found[0] for found in _CERTIFICATE.finditer(pem))


def count_certificates(pem: str) -> int:
    """How many certificates a text has."""
    return sum(1 for _ in _CERTIFICATE.finditer(pem))


def find_certificate_problem(pem: str) -> str | None:
    """What is wrong with a list of certificates, as the end of a sentence; their content is not parsed."""
    if len(pem) > MOST_CERTIFICATE_CHARACTERS:
        return f"is longer than {MOST_CERTIFICATE_CHARACTERS >> 10} KiB"
    found = _CERTIFICATE.findall(pem)
    if not found:
        return "holds no PEM certificate"
    if len(found) > MOST_CERTIFICATES:
        return f"holds more than {MOST_CERTIFICATES} certificates"
    if not all(map(_is_certificate, found)):
        return "holds a certificate that does not parse"
    return None


def find_key_problem(pem: str) -> str | None:
    """What is wrong with a private key, as the end of a sentence."""
    if len(pem) > MOST_KEY_CHARACTERS:
        return f"is longer than {MOST_KEY_CHARACTERS >> 10} KiB"
    if _ENCRYPTED.search(pem):
        return "holds a key with a passphrase, which nobody could enter"
    key = _KEY.search(pem)
    if key is None:
        return "holds no PEM private key"
    try:
        bits = find_modulus_bits(read_base64(key[2]))
    except (ValueError, IndexError):
        return "holds a private key that does not parse"
    if bits is not None and bits > MOST_KEY_BITS:
        return f"holds an RSA key of more than {MOST_KEY_BITS} bits, which takes too long at each connection"
    return None


def find_key(pem: str) -> str:
    """The private key of a text that `find_key_problem` has checked, without anything beside it."""
    key = _KEY.search(pem)
    return f"{key[0]}\n" if key is not None else ""


def _is_certificate(body: str) -> bool:
    try:
        return is_whole(read_base64(body))
    except ValueError:
        return False
