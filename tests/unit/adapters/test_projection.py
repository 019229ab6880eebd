"""What the cache keeps of objects that are large on purpose."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.kube.cache import WatchCache
from headroom.adapters.kube.projection import KEPT_ANNOTATIONS, MAX_CHILD, MAX_LABELS, project
from headroom.ports.kube import (
    CONFIG_MAP,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    OUR_KINDS,
    POD,
    SET_CHILDREN,
    WATCHED,
    WORKER_POOL,
    Kind,
    Manifest,
    ObjectRef,
)

SET, ROLE = "headroom.dev/replica-set", "headroom.dev/role"
OPERATOR = Path(__file__).parents[3] / "operator" / "headroom"


def make_huge(kind: Kind, **parts: Any) -> Manifest:
    """An object whose metadata has about a megabyte, as the API server takes it."""
    labels = {f"label-{number}": "x" * 63 for number in range(2000)}
    metadata = {
        "namespace": "shop",
        "name": "huge",
        "uid": "u",
        "resourceVersion": "1",
        "generation": 3,
        "labels": {**labels, SET: "store", ROLE: "serving"},
        "annotations": {"team": "x" * 200_000, "headroom.dev/slot": "hr_1", "headroom.dev/retire": "x" * 50_000},
        "ownerReferences": [
            *({"kind": "ConfigMap", "name": "x" * 200, "uid": str(number)} for number in range(1000)),
            {"kind": "ReplicaSet", "name": "store", "uid": "s", "controller": True},
        ],
        "finalizers": ["x/" + "y" * 200] * 500,
        "managedFields": [{"fieldsV1": {"x": "y" * 100_000}}],
    }
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, **parts}


@pytest.mark.parametrize("kind", WATCHED, ids=lambda kind: kind.name)
def test_of_huge_metadata_only_what_passes_read_is_kept(kind: Kind) -> None:
    seen = make_huge(kind)
    found = project(kind, seen)
    kept = found["metadata"]
    print(f"\n{kind.name}: {len(json.dumps(seen)):,} bytes, {len(json.dumps(found)):,} kept")
    assert kept["annotations"] == {"headroom.dev/slot": "hr_1"}
    assert kept["ownerReferences"] == [{"kind": "ReplicaSet", "name": "store", "uid": "s", "controller": True}]
    assert len(kept.get("labels", {})) <= MAX_LABELS
    assert len(json.dumps(found)) < 12_000
    if kind in SET_CHILDREN:
        assert (kept["labels"][SET], kept["labels"][ROLE]) == ("store", "serving")


def test_every_annotation_that_the_program_names_is_kept() -> None:
    """One that is read and not kept would never be seen."""
    named = set()
    for path in OPERATOR.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                if any(name.endswith("_ANNOTATION") for name in names) and isinstance(node.value.value, str):
                    named.add(node.value.value)
    assert len(named) >= 9
    assert named <= set(KEPT_ANNOTATIONS)


@pytest.mark.parametrize("kind", SET_CHILDREN, ids=lambda kind: kind.name)
def test_a_child_that_is_too_large_to_be_ours_is_kept_by_its_name_only(kind: Kind) -> None:
    for body in ({"data": {"x": "y" * 1_000_000}}, {"data": {f"k{number}": "v" for number in range(100_000)}}):
        found = project(kind, make_huge(kind, **body))
        assert found.keys() == {"apiVersion", "kind", "metadata"}


def test_a_child_of_ours_is_kept_whole() -> None:
    body = {"data": {"postgresql.conf": "x" * (MAX_CHILD // 2)}}
    assert project(CONFIG_MAP, make_huge(CONFIG_MAP, **body))["data"] == body["data"]
    endpoints = [{"addresses": ["10.0.0.1"], "targetRef": {"uid": "u"}, "conditions": {"ready": True}}] * 100
    assert len(project(ENDPOINT_SLICE, make_huge(ENDPOINT_SLICE, endpoints=endpoints))["endpoints"]) == 100


def test_a_selector_of_thousands_of_labels_is_one_that_nobody_can_list_by() -> None:
    labels = {f"label-{number}": "x" * 63 for number in range(5000)}
    found = project(DEPLOYMENT, make_huge(DEPLOYMENT, spec={"selector": {"matchLabels": labels}, "replicas": 2}))
    assert found["spec"] == {"replicas": 2, "selector": {}}
    plain = {"matchLabels": {"app": "mailer"}}
    assert project(DEPLOYMENT, make_huge(DEPLOYMENT, spec={"selector": plain}))["spec"]["selector"] == plain
    more = {**plain, "matchExpressions": [{"key": "a", "operator": "In", "values": ["x" * 63] * 10_000}]}
    assert project(DEPLOYMENT, make_huge(DEPLOYMENT, spec={"selector": more}))["spec"]["selector"] == {}


@pytest.mark.parametrize("kind", OUR_KINDS, ids=lambda kind: kind.name)
def test_a_thousand_huge_objects_take_little(kind: Kind) -> None:
    cache = WatchCache(MemoryClock())
    for number in range(1000):
        seen = make_huge(kind, spec={"a": 1})
        seen["metadata"] |= {"name": f"huge-{number}", "uid": f"u{number}"}
        cache.observe(kind, seen)
    total = sum(len(json.dumps(found)) for found in cache.list(kind, "shop"))
    print(f"\na thousand {kind.name}s of a megabyte: {total:,} bytes are kept")
    assert total < 1_000_000


@pytest.mark.parametrize("version", ["²", "٣", "", "1" * 5000, "-1", "1_0"])
def test_a_version_that_is_no_number_is_no_error(version: str) -> None:
    cache = WatchCache(MemoryClock())
    for text in (version, "7", version):
        cache.observe(POD, {"metadata": {"namespace": "shop", "name": "a", "uid": "u", "resourceVersion": text,
                                         "labels": {SET: "store"}}})  # fmt: skip
    found = cache.get(ObjectRef(POD, "shop", "a"))
    assert found is not None
    assert cache.get(ObjectRef(WORKER_POOL, "shop", "a")) is None
