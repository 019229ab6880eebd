"""The API server of the admission tests, for those that ask for it."""

from tests.admission.conftest import api, crds, namespace, server

__all__ = ["api", "crds", "namespace", "server"]
