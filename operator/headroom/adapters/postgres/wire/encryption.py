"""One TLS session between two buffers: what it does, and when, is decided by whoever feeds it."""

import ssl
from contextlib import suppress

MOST_PLAIN = 64 << 10


class Encryption:
    """The client's side."""

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self.is_verified = context.verify_mode is not ssl.CERT_NONE
        """The server's certificate is one that the spec trusts."""

    @property
    def certificate(self) -> bytes | None:
        """The server's (DER)."""
        return self._tls.getpeercert(binary_form=True)

    def shake(self, data: bytes = b"") -> None:
        """A step of the handshake; raises SSLWantReadError until it is done. It may take long."""
        if data:
            self._incoming.write(data)
        self._tls.do_handshake()

    def decrypt(self, record: bytes) -> bytes | None:
        """The data of one record, which may have none; None for the session's end. Raises SSLError."""
        self._incoming.write(record)
        try:
            return self._tls.read(MOST_PLAIN) or None
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLZeroReturnError:
            return None

    def encrypt(self, data: bytes) -> bytes:
        """The records that carry data; raises SSLError."""
        left = memoryview(data)
        while left:
            left = left[self._tls.write(left) :]
        return self.take_outgoing()

    def end(self) -> bytes:
        """The record that tells the server of the session's end."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        return self.take_outgoing()

    def take_outgoing(self) -> bytes:
        """What the session itself has to say."""
        return self._outgoing.read() if self._outgoing.pending else b""
