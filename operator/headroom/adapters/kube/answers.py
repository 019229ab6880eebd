"""From an answer of the API server to one of our errors, with the remedy in the message; and whose object it is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from headroom.adapters.kube.calls import APPLY_PATCH, JSON_PATCH, Call
from headroom.errors import DEFAULT_RETRY, Conflict, HeadroomError, KubeUnavailable, Refused, describe_failure
from headroom.ports.kube import Manifest, ObjectRef
from headroom.reasons import Reason

MAX_TEXT = 500
LONGEST_RETRY = timedelta(seconds=60)
QUOTA_WORDS = ("exceeded quota", "failed quota", "maximum ", "minimum ")
DENIALS = ("denied request", "denied the request", "violates PodSecurity", "security context constraint")
"""How policies, webhooks, Pod Security and OpenShift say no, whatever the HTTP status that their author chose."""
NO_RIGHT = '" cannot '
"""What RBAC writes after the name of the user."""
SCALE_ROLE_LABEL = "rbac.headroom.dev/scale-target"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: HTTP status, headers with lower-case names, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """True for 2xx."""
        return 200 <= self.status < 300

    def parse(self) -> dict[str, Any]:
        """The body as a JSON object; any other body becomes its `message`."""
        try:
            parsed = json.loads(self.body)
        except ValueError:
            parsed = None
        if isinstance(parsed, dict):
            return parsed
        return {"message": self.body[:MAX_TEXT].decode("utf-8", "replace")}


def translate_answer(call: Call, answer: Answer) -> HeadroomError:
    """The error that a failed call raises; 404 is left to the caller, who knows what it means."""
    status = answer.parse()
    text = f"{call.verb} {_describe(call)}: {str(status.get('message', ''))[:MAX_TEXT]} (HTTP {answer.status})"
    if answer.status in (408, 410, 429) or answer.status >= 500:
        return KubeUnavailable(text, reason=Reason.KUBE_UNAVAILABLE, retry_after=_retry_after(answer, status))
    if any(words in str(status.get("message", "")) for words in DENIALS):
        return Refused(f"{text}; ease the policy, or change what it names", reason=Reason.FORBIDDEN)
    if answer.status == 409:
        return Conflict(text)
    if answer.status == 403:
        return _translate_forbidden(call, status, text)
    if answer.status == 422 and _is_misfit(call, status):
        return Conflict(f"{text}: the object is not the one that was expected")
    if answer.status == 401:
        return Refused(f"{text}: the API server does not know our token", reason=Reason.FORBIDDEN)
    if answer.status == 404:
        return Refused(text, reason=Reason.FORBIDDEN)
    return Refused(text, reason=Reason.INVALID_SPEC)


def translate_failure(call: Call, failure: BaseException) -> KubeUnavailable:
    """The error for a call that got no answer."""
    cause = describe_failure(failure)
    return KubeUnavailable(f"{call.verb} {_describe(call)}: {cause[:MAX_TEXT]}", reason=Reason.KUBE_UNAVAILABLE)


def build_missing_rule(call: Call) -> dict[str, Any]:
    """The RBAC rule that would allow the call."""
    return {"apiGroups": [_group(call)], "resources": [call.resource], "verbs": [call.rbac_verb]}


def build_scale_role(call: Call) -> dict[str, Any]:
    """The ClusterRole that aggregates the right to scale this kind into the operator's."""
    plural = call.ref.kind.plural
    rule = {"apiGroups": [_group(call)], "resources": [plural, f"{plural}/scale"], "verbs": ["get", "update"]}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"headroom-scale-{plural}", "labels": {SCALE_ROLE_LABEL: "true"}},
        "rules": [rule],
    }


def _translate_forbidden(call: Call, status: Mapping[str, Any], text: str) -> Refused:
    message = str(status.get("message", ""))
    causes = (status.get("details") or {}).get("causes") or ()
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return Refused(text, reason=Reason.NAMESPACE_TERMINATING)
    if any(word in message for word in QUOTA_WORDS):
        return Refused(text, reason=Reason.QUOTA_EXCEEDED)
    if NO_RIGHT not in message:
        return Refused(text, reason=Reason.FORBIDDEN)
    if call.subresource == "scale":
        remedy = f"apply: {json.dumps(build_scale_role(call))}"
        return Refused(f"{text}; {remedy}", reason=Reason.TARGET_FORBIDDEN)
    where = f"a Role in namespace {call.ref.namespace}" if call.ref.namespace else "the ClusterRole"
    remedy = f"add to {where} of the operator: {json.dumps(build_missing_rule(call))}"
    return Refused(f"{text}; {remedy}", reason=Reason.FORBIDDEN)


def _is_misfit(call: Call, status: Mapping[str, Any]) -> bool:
    details = status.get("details") or {}
    if call.content_type == APPLY_PATCH:
        return any(cause.get("field") == "metadata.uid" for cause in details.get("causes") or ())
    # A failed test and a missing path look alike: Invalid, without details. Errors of validation have details.
    return call.content_type == JSON_PATCH and not details


def _retry_after(answer: Answer, status: Mapping[str, Any]) -> timedelta:
    text = answer.headers.get("retry-after") or (status.get("details") or {}).get("retryAfterSeconds")
    try:
        seconds = float(text) if text is not None else 0.0
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        return DEFAULT_RETRY
    return min(timedelta(seconds=seconds), LONGEST_RETRY)


def _describe(call: Call) -> str:
    ref = call.ref
    where = f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name
    return f"{call.resource} {where}".rstrip("/ ")


def _group(call: Call) -> str:
    group, slash, _ = call.ref.kind.api_version.rpartition("/")
    return group if slash else ""


def find_controller(manifest: Manifest) -> dict[str, Any] | None:
    """The owner reference with `controller: true`, if there is one."""
    owners = manifest.get("metadata", {}).get("ownerReferences") or ()
    return next((dict(owner) for owner in owners if owner.get("controller")), None)


def refuse_foreign(ref: ObjectRef, live: Manifest, wanted: Manifest) -> None:
    """Raise Refused (NameConflict) unless both have the same controller, or neither has one."""
    mine, theirs = find_controller(wanted), find_controller(live)
    if (mine or {}).get("uid") == (theirs or {}).get("uid"):
        return
    holder = f"{theirs['kind']} {theirs['name']}" if theirs else "nobody"
    message = f"{ref} exists and is controlled by {holder}; it stays untouched: rename or delete it"
    raise Refused(message, reason=Reason.NAME_CONFLICT)
