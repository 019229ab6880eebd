"""A real primary, and a folder that stands for a replica's volume, with the pod's own scripts run on it."""

from tests.postgres_server import installation, primary, server_maker, servers

__all__ = ["installation", "primary", "server_maker", "servers"]
