"""Kopf's settings: what it may store, how it watches, how it signs in."""

from collections.abc import Iterable
from typing import Any

import kopf

from headroom.model.replica import SET_LABEL
from headroom.ports.kube import FINALIZER, SET_CHILDREN

PREFIX = "headroom.dev"


class NothingStored(kopf.DiffBaseStorage):
    """Passes look at what is, so there is no last-handled configuration to keep."""

    def fetch(self, *, body: kopf.Body) -> None:
        """There is none."""

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep none."""


def build_kopf_settings() -> kopf.OperatorSettings:
    """Settings with our own prefix and finalizer, server-side selectors, and outages waited out with patience.

    `worker_limit` stays unset: below the number of indexed objects it would stop the start for good.
    """
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.persistence.finalizer = FINALIZER
    settings.persistence.diffbase_storage = NothingStored()
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=PREFIX)
    settings.watching.server_timeout = 600
    settings.watching.client_timeout = 610
    settings.watching.chunk_size = 500
    for child in SET_CHILDREN:
        settings.watching.label_selectors[child.plural] = SET_LABEL
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = Endless()
    settings.background.instant_exit_timeout = 0.1
    settings.process.ultimate_exiting_timeout = 20
    return settings


class Endless(Iterable[float]):
    """Backoffs in seconds that grow to 10 and never end: an API server that is away comes back."""

    def __iter__(self) -> Any:
        """1, 2, 4, 8, 10, 10, ..."""
        pause = 1.0
        while True:
            yield pause
            pause = min(pause * 2, 10.0)


def register_login(registry: kopf.OperatorRegistry) -> None:
    """Sign in with the pod's service account, else with the kubeconfig."""

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
