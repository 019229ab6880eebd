"""Connections to hosts that a spec names: resolved without blocking, checked after that, limited by namespace."""

from headroom.adapters.network.dialing import (
    HostNotAllowed,
    HostNotFound,
    Network,
    NotReached,
    NoTurn,
    Peer,
    raise_file_limit,
)
from headroom.adapters.network.resolver import AresResolver, Resolver

__all__ = [
    "AresResolver",
    "HostNotAllowed",
    "HostNotFound",
    "Network",
    "NoTurn",
    "NotReached",
    "Peer",
    "Resolver",
    "raise_file_limit",
]
