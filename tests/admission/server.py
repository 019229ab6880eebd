"""The few requests the admission tests make."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

Body = dict[str, Any]
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SCHEMA_TAKES_SECONDS = 2.0
ESTABLISHED_WITHIN_SECONDS = 20.0


@dataclass(frozen=True)
class Refusal:
    """Why an object was refused: each cause with its field, and the message as a user sees it."""

    code: int
    message: str
    causes: tuple[tuple[str, str], ...]

    def has(self, field_path: str, says: str) -> bool:
        """Whether a cause names this field and says this; unknown fields have no cause of their own."""
        if any(path == field_path and says in message for path, message in self.causes):
            return True
        return f'unknown field "{field_path}"' in self.message and says == "unknown field"


@dataclass
class Server:
    """An API server and a namespace in it."""

    api: client.ApiClient
    namespace: str
    stored: list[tuple[str, str, str]] = field(default_factory=list)

    def install(self, crds: list[Body]) -> None:
        """Create or replace CRDs and wait until their kinds are served with these schemas."""
        has_changed = [self._put_crd(crd) for crd in crds]
        if any(has_changed):
            # Nothing in the API tells when the handlers have taken up a changed schema.
            time.sleep(SCHEMA_TAKES_SECONDS)
        for crd in crds:
            self._await_served(crd)

    def uninstall(self, crd: Body) -> None:
        """Delete a CRD."""
        self._call("DELETE", f"{CRD_PATH}/{crd['metadata']['name']}")

    def try_create_crd(self, crd: Body) -> Refusal | None:
        """Ask for a CRD without storing it; None when it would be accepted."""
        return self._try("POST", CRD_PATH, [("dryRun", "All")], crd)

    def discover(self, group: str) -> list[Body]:
        """The resources of a group, subresources included."""
        return list(self._call("GET", f"/apis/{group}/v1alpha1")["resources"])

    def columns(self, group: str, plural: str) -> list[Body]:
        """The columns that `kubectl get` shows."""
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
        return list(self._call("GET", self._path(group, plural), accept=accept)["columnDefinitions"])

    def try_create(self, group: str, plural: str, body: Body) -> Refusal | None:
        """Ask for an object without storing it; None when it would be accepted."""
        return self._try("POST", self._path(group, plural), [("dryRun", "All"), ("fieldValidation", "Strict")], body)

    def try_store(self, group: str, plural: str, body: Body) -> Body:
        """The object as it would be stored, with its defaults; raises ApiException. Unknown fields are refused."""
        return self._call("POST", self._path(group, plural), [("dryRun", "All"), ("fieldValidation", "Strict")], body)

    def try_replace(self, group: str, plural: str, body: Body, *, dry_run: bool = True) -> Refusal | None:
        """Replace the spec of a stored object; None when it was, or would be, accepted."""
        path = f"{self._path(group, plural)}/{body['metadata']['name']}"
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": self.get(group, plural, body)}}
        return self._try("PUT", path, [("fieldValidation", "Strict"), *([("dryRun", "All")] if dry_run else [])], body)

    def get(self, group: str, plural: str, body: Body) -> str:
        """The resourceVersion of a stored object."""
        stored = self._call("GET", f"{self._path(group, plural)}/{body['metadata']['name']}")
        return str(stored["metadata"]["resourceVersion"])

    def read(self, group: str, plural: str, name: str) -> Body | None:
        """A stored object, or None."""
        try:
            return self._call("GET", f"{self._path(group, plural)}/{name}")
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def create(self, group: str, plural: str, body: Body) -> Body:
        """Store an object; it is removed at the end of the session."""
        stored = self._call("POST", self._path(group, plural), [], body)
        self.stored.append((group, plural, body["metadata"]["name"]))
        return stored

    def merge(self, group: str, plural: str, name: str, patch: Body, subresource: str = "") -> Refusal | None:
        """Merge-patch an object or one of its subresources; None when accepted."""
        path = f"{self._path(group, plural)}/{name}{subresource}"
        return self._try("PATCH", path, [], patch, content_type="application/merge-patch+json")

    def delete(self, group: str, plural: str, name: str) -> None:
        """Ask for deletion."""
        self._call("DELETE", f"{self._path(group, plural)}/{name}")

    def remove_stored_objects(self) -> None:
        """Delete what `create` stored and what is still there."""
        for group, plural, name in self.stored:
            if self.read(group, plural, name) is not None:
                self.delete(group, plural, name)

    def _put_crd(self, crd: Body) -> bool:
        """Whether a stored CRD was changed."""
        path = f"{CRD_PATH}/{crd['metadata']['name']}"
        try:
            stored = self._call("GET", path)
        except ApiException as error:
            if error.status != 404:
                raise
            self._call("POST", CRD_PATH, [], crd)
            return False
        if stored["spec"]["versions"][0]["schema"] == crd["spec"]["versions"][0]["schema"]:
            return False
        metadata = {**crd["metadata"], "resourceVersion": stored["metadata"]["resourceVersion"]}
        replaced = self._call("PUT", path, [], {**crd, "metadata": metadata})
        return bool(replaced["metadata"]["generation"] != stored["metadata"]["generation"])

    def _await_served(self, crd: Body) -> None:
        deadline = time.monotonic() + ESTABLISHED_WITHIN_SECONDS
        while not self._is_served(crd):
            name = crd["metadata"]["name"]
            assert time.monotonic() < deadline, f"{name} was not served within {ESTABLISHED_WITHIN_SECONDS} s"
            time.sleep(0.1)

    def _is_served(self, crd: Body) -> bool:
        stored = self._call("GET", f"{CRD_PATH}/{crd['metadata']['name']}")
        conditions = {entry["type"]: entry["status"] for entry in (stored.get("status") or {}).get("conditions") or ()}
        if conditions.get("Established") != "True":
            return False
        group, plural = crd["spec"]["group"], crd["spec"]["names"]["plural"]
        try:
            self._call("GET", self._path(group, plural))
        except ApiException as error:
            if error.status == 404:
                return False
            raise
        return True

    def _path(self, group: str, plural: str) -> str:
        return f"/apis/{group}/v1alpha1/namespaces/{self.namespace}/{plural}"

    def _try(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]],
        body: Body,
        content_type: str = "application/json",
    ) -> Refusal | None:
        try:
            self._call(method, path, query, body, content_type=content_type)
        except ApiException as error:
            return _refusal(error)
        return None

    def _call(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None = None,
        body: Body | None = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Body:
        headers = {"Content-Type": content_type, "Accept": accept}
        request = self.api.param_serialize(
            method,
            path,
            query_params=query or [],
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        response = self.api.call_api(*request, _request_timeout=10.0)
        text = response.read()
        if not 200 <= response.status <= 299:
            raise ApiException(status=response.status, reason=response.reason, body=text.decode())
        return dict(json.loads(text))


def _refusal(error: ApiException) -> Refusal:
    status = dict(json.loads(error.body or "{}"))
    causes = (status.get("details") or {}).get("causes") or []
    pairs = tuple((str(cause.get("field", "")), str(cause.get("message", ""))) for cause in causes)
    return Refusal(int(error.status or 0), str(status.get("message", error.body)), pairs)
