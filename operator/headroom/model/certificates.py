"""Certificates and keys as text (PEM): found, counted and bounded before anything parses them."""

import binascii
import re

MOST_CERTIFICATE_CHARACTERS = 256 << 10
"""Of one text: a system's list of all public authorities has 215 KiB."""
MOST_CERTIFICATES = 200
"""In one text: a system's list has some 150."""
MOST_KEY_CHARACTERS = 32 << 10
"""An RSA key of 16,384 bits has 13 KiB."""
# The content is base64, without a hyphen: to look for the end beyond the next one would be quadratic.
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----([^-]+)-----END CERTIFICATE-----")
_KEY = re.compile(r"-----BEGIN (?:[A-Z]{1,20} )?PRIVATE KEY-----[^-]+-----END")
_ENCRYPTED = re.compile(r"-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED", re.MULTILINE)
_SEQUENCE = 0x30


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
    if not all(map(_is_whole, found)):
        return "holds a certificate that does not parse"
    return None


def find_key_problem(pem: str) -> str | None:
    """What is wrong with a private key, as the end of a sentence."""
    if len(pem) > MOST_KEY_CHARACTERS:
        return f"is longer than {MOST_KEY_CHARACTERS >> 10} KiB"
    if _ENCRYPTED.search(pem):
        return "holds a key with a passphrase, which nobody could enter"
    return None if _KEY.search(pem) else "holds no PEM private key"


def _is_whole(body: str) -> bool:
    """Whether it is base64 of one DER sequence, from its beginning to its end."""
    try:
        data = binascii.a2b_base64("".join(body.split()), strict_mode=True)
    except (binascii.Error, ValueError):
        return False
    if len(data) < 2 or data[0] != _SEQUENCE:
        return False
    length, start = data[1], 2
    if length & 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(data[2:start], "big")
    return start + length == len(data)
