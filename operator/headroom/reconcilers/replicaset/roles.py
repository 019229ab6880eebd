"""The one writer of the role label: a patch that fails if the pod has changed since it was read."""

from collections.abc import Mapping
from datetime import datetime

from headroom.model.moments import format_time
from headroom.model.replica import (
    DRAINING_SINCE_ANNOTATION,
    DRAINING_WHY_ANNOTATION,
    ROLE_LABEL,
    PodFacts,
    Role,
)
from headroom.ports.kube import POD, JsonOp, KubeWriter, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.children import parse_pod


async def ensure_role(kube: KubeWriter, namespace: str, pod: PodFacts, role: Role) -> PodFacts:
    """Give a pod a role; returns it as it then is. Conflict: somebody wrote it since, so gather again."""
    gone = [name for name, is_set in _draining_marks(pod).items() if is_set]
    operations = [*_tests(pod), _set_label(role), *({"op": "remove", "path": _annotation(name)} for name in gone)]
    return parse_pod(await kube.patch(ObjectRef(POD, namespace, pod.name), operations))


async def ensure_draining(kube: KubeWriter, namespace: str, pod: PodFacts, why: Reason, now: datetime) -> PodFacts:
    """Take a pod out of the Service; the pod keeps when and why, so that a new process continues the drain."""
    marks = {DRAINING_SINCE_ANNOTATION: format_time(now), DRAINING_WHY_ANNOTATION: str(why)}
    added = [{"op": "add", "path": _annotation(name), "value": value} for name, value in marks.items()]
    operations = [*_tests(pod), _set_label(Role.DRAINING), *added]
    return parse_pod(await kube.patch(ObjectRef(POD, namespace, pod.name), operations))


def _tests(pod: PodFacts) -> list[JsonOp]:
    same: list[JsonOp] = [
        {"op": "test", "path": "/metadata/uid", "value": pod.uid},
        {"op": "test", "path": "/metadata/resourceVersion", "value": pod.resource_version},
    ]
    if pod.role_label is not None:
        same.append({"op": "test", "path": _label(ROLE_LABEL), "value": pod.role_label})
    return same


def _set_label(role: Role) -> JsonOp:
    # `add`, since somebody may have removed the label: `replace` would then fail in every pass.
    return {"op": "add", "path": _label(ROLE_LABEL), "value": role.value}


def _draining_marks(pod: PodFacts) -> Mapping[str, bool]:
    return {
        DRAINING_SINCE_ANNOTATION: pod.draining_since is not None,
        DRAINING_WHY_ANNOTATION: pod.why is not None,
    }


def _label(name: str) -> str:
    return f"/metadata/labels/{escape(name)}"


def _annotation(name: str) -> str:
    return f"/metadata/annotations/{escape(name)}"


def escape(name: str) -> str:
    """A name as one part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")
