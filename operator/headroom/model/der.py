"""DER (X.690), as far as certificates and keys are looked at before OpenSSL parses them."""

import binascii

SEQUENCE, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING = 0x30, 0x02, 0x06, 0x04


def read_element(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start and end of the content of one element; raises ValueError or IndexError."""
    tag, length, start = data[at], data[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(data[start : start + count], "big"), start + count
    if start + length > len(data):
        raise ValueError("the element is cut off")
    return tag, start, start + length


def read_base64(body: str) -> bytes:
    """What is between two lines of PEM; raises ValueError."""
    return binascii.a2b_base64("".join(body.split()), strict_mode=True)


def is_whole(data: bytes) -> bool:
    """Whether it is one sequence, from its beginning to its end."""
    try:
        tag, _, end = read_element(data, 0)
    except (ValueError, IndexError):
        return False
    return tag == SEQUENCE and end == len(data)


def find_modulus_bits(key: bytes) -> int | None:
    """The size of an RSA key's modulus (RFC 8017, RFC 5958); None for a key of another kind.

    Raises ValueError or IndexError for what is neither.
    """
    tag, start, end = _read_after_version(key)
    if tag == SEQUENCE:
        # The kind of the key; the key itself follows it.
        _, start, end = _expect(key, end, OCTET_STRING)
        key = key[start:end]
        if key[0] != SEQUENCE:
            return None
        tag, start, end = _read_after_version(key)
    if tag == INTEGER:
        return int.from_bytes(key[start:end], "big").bit_length()
    if tag == OCTET_STRING:
        # An elliptic curve's: RFC 5915.
        return None
    raise ValueError("not a private key")


def _read_after_version(key: bytes) -> tuple[int, int, int]:
    _, start, _ = _expect(key, 0, SEQUENCE)
    _, _, end = _expect(key, start, INTEGER)
    return read_element(key, end)


def _expect(data: bytes, at: int, expected: int) -> tuple[int, int, int]:
    found = read_element(data, at)
    if found[0] != expected:
        raise ValueError("another element was expected")
    return found
