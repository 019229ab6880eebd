"""Bulkheads: each part of the operator has its own places and its own rate on the way to the API server.

Places are what a slow answer takes away, calls a second are what a busy part takes away: neither is lent to another
part. The sums stay below the client's 100 connections, so that a place always has one.
"""

from dataclasses import dataclass

from headroom.adapters.kube.api import ApiKube
from headroom.adapters.kube.limits import Limits

GUARD_LIMITS = Limits(concurrency=8, calls_per_second=20, burst=40)
"""A guard reads Secrets once a minute and writes its status."""
REPLICA_LIMITS = Limits(concurrency=24, calls_per_second=50, burst=100)
"""A calm set sends nothing; an ejection must find a place at once."""
POOL_LIMITS = Limits(concurrency=16, calls_per_second=200, burst=400)
"""A calm pool sends nothing. One that grows sends about five calls a step and a list of pods each few seconds: where a
hundred of a thousand pools fall behind at one moment that is 140 a second, and none may wait for five seconds."""
EVENT_LIMITS = Limits(concurrency=4, calls_per_second=10, burst=20)
"""At most five events a second are sent at all."""


@dataclass(frozen=True, slots=True)
class Bulkheads:
    """The same API server, once for each part that must not wait for another; the elector has one of its own, too."""

    guards: ApiKube
    replicas: ApiKube
    pools: ApiKube
    events: ApiKube


def build_bulkheads(kube: ApiKube) -> Bulkheads:
    """Bulkheads over one client, with its fence and telemetry."""
    return Bulkheads(
        guards=kube.with_limits(GUARD_LIMITS),
        replicas=kube.with_limits(REPLICA_LIMITS),
        pools=kube.with_limits(POOL_LIMITS),
        events=kube.with_limits(EVENT_LIMITS),
    )
