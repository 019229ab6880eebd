"""What takes the answers of a server once the login is done."""

import asyncio

from headroom.adapters.postgres.wire.messages import Violation


class Sink(asyncio.BaseProtocol):
    """What a channel feeds after the login."""

    def take(self, data: bytes) -> None:
        """Data of the server."""
        raise NotImplementedError

    def end(self) -> None:
        """The server's side is closed."""
        raise NotImplementedError

    def abort(self, problem: Violation) -> None:
        """The server broke a bound of TLS."""
        raise NotImplementedError

    def pause(self, *, is_paused: bool) -> None:
        """The server takes no more data now, or does again."""
        raise NotImplementedError
