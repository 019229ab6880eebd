"""Real servers for the witness."""

from tests.postgres_server import installation, primary, server_maker, servers

__all__ = ["installation", "primary", "server_maker", "servers"]
