"""What every implementation of the Kube port promises, held against each of them: objects and their lives."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from headroom.adapters.inmemory.kube import MemoryKube
from headroom.errors import Conflict, NotServed, Refused
from headroom.ports.kube import (
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    POD,
    Kind,
)
from headroom.reasons import Reason

from .conftest import SAMPLE, World, eventually
from .kube_objects import (
    build_claim,
    build_config_map,
    build_pod,
    build_sample,
    ref_of,
    reference_to,
    version_of,
)


class TestReading:
    async def test_a_missing_object_is_none(self, world: World) -> None:
        assert await world.kube.get(ref_of(world, CONFIG_MAP, "nothing")) is None

    async def test_a_created_object_is_read_back_with_uid_and_version(self, world: World) -> None:
        created = await world.kube.create(build_config_map(world))
        found = await world.kube.get(ref_of(world, CONFIG_MAP, "one"))
        assert found == created
        assert found["metadata"]["uid"]
        assert found["metadata"]["resourceVersion"]
        assert found["data"] == {"a": "1"}
        assert (found["apiVersion"], found["kind"]) == ("v1", "ConfigMap")

    async def test_list_gives_what_has_all_the_labels_with_kind_filled_in(self, world: World) -> None:
        await world.kube.create(build_config_map(world, "one", labels={"x": "1", "y": "1"}))
        await world.kube.create(build_config_map(world, "two", labels={"x": "1", "y": "2"}))
        await world.kube.create(build_config_map(world, "three"))
        both = await world.kube.list(CONFIG_MAP, world.namespace, labels={"x": "1"})
        only = await world.kube.list(CONFIG_MAP, world.namespace, labels={"x": "1", "y": "2"})
        assert sorted(item["metadata"]["name"] for item in both) == ["one", "two"]
        assert [item["metadata"]["name"] for item in only] == ["two"]
        assert {(item["apiVersion"], item["kind"]) for item in both} == {("v1", "ConfigMap")}

    async def test_an_empty_namespace_lists_all_namespaces(self, world: World) -> None:
        await world.kube.create(build_config_map(world, labels={"contract": world.namespace}))
        found = await world.kube.list(CONFIG_MAP, "", labels={"contract": world.namespace})
        assert [item["metadata"]["namespace"] for item in found] == [world.namespace]

    async def test_a_kind_that_is_not_served_has_no_list_at_all(self, world: World) -> None:
        nowhere = Kind("contract.headroom.dev/v1", "Gadget", "gadgets")
        with pytest.raises(NotServed):
            await world.kube.list(nowhere, world.namespace)


class TestCreating:
    async def test_a_taken_name_is_a_conflict(self, world: World) -> None:
        await world.kube.create(build_config_map(world))
        with pytest.raises(Conflict):
            await world.kube.create(build_config_map(world))

    async def test_status_is_not_taken_from_a_create(self, world: World) -> None:
        pod = await world.kube.create({**build_pod(world), "status": {"phase": "Running", "podIP": "10.9.9.9"}})
        assert pod.get("status", {}).get("podIP") is None

    async def test_a_missing_name_is_refused(self, world: World) -> None:
        manifest = build_config_map(world)
        del manifest["metadata"]["name"]
        with pytest.raises(Refused) as refusal:
            await world.kube.create(manifest)
        assert refusal.value.reason is Reason.INVALID_SPEC
        assert "name" in str(refusal.value)

    async def test_an_unknown_kind_is_refused(self, world: World) -> None:
        with pytest.raises(Refused, match="Gadget"):
            await world.kube.create({"apiVersion": "v1", "kind": "Gadget", "metadata": {"name": "x"}})

    async def test_generation_starts_at_one(self, world: World) -> None:
        sample = await world.kube.create(build_sample(world))
        assert sample["metadata"]["generation"] == 1

    async def test_a_namespace_that_is_not_there_is_no_conflict(self, world: World) -> None:
        if isinstance(world.kube, MemoryKube):
            pytest.skip("the API in memory has every namespace")
        manifest = build_config_map(world)
        manifest["metadata"]["namespace"] = "contract-nowhere"
        with pytest.raises(Refused, match="contract-nowhere"):
            await world.kube.create(manifest)


class TestPatching:
    async def test_a_patch_changes_what_it_names_and_moves_the_version(self, world: World) -> None:
        before = await world.kube.create(build_config_map(world))
        after = await world.kube.patch(
            ref_of(world, CONFIG_MAP, "one"), [{"op": "add", "path": "/data/b", "value": "2"}]
        )
        assert after["data"] == {"a": "1", "b": "2"}
        assert version_of(after) != version_of(before)
        assert after["metadata"]["uid"] == before["metadata"]["uid"]

    async def test_a_patch_that_changes_nothing_keeps_the_version(self, world: World) -> None:
        before = await world.kube.create(build_config_map(world))
        after = await world.kube.patch(
            ref_of(world, CONFIG_MAP, "one"), [{"op": "replace", "path": "/data/a", "value": "1"}]
        )
        assert version_of(after) == version_of(before)

    @pytest.mark.parametrize(
        ("path", "value"),
        [("/metadata/uid", "another"), ("/metadata/labels/role", "serving"), ("/metadata/labels/none", "x")],
    )
    async def test_a_failed_test_is_a_conflict_and_changes_nothing(self, world: World, path: str, value: str) -> None:
        created = await world.kube.create(build_config_map(world, labels={"role": "standby"}))
        ref = ref_of(world, CONFIG_MAP, "one")
        operations = [
            {"op": "test", "path": path, "value": value},
            {"op": "replace", "path": "/metadata/labels/role", "value": "changed"},
        ]
        with pytest.raises(Conflict):
            await world.kube.patch(ref, operations)
        assert await world.kube.get(ref) == created

    async def test_the_guarded_role_change_goes_through_once(self, world: World) -> None:
        pod = await world.kube.create(build_pod(world))
        ref = ref_of(world, POD, "store-1")
        operations = [
            {"op": "test", "path": "/metadata/uid", "value": pod["metadata"]["uid"]},
            {"op": "test", "path": "/metadata/labels/role", "value": "standby"},
            {"op": "replace", "path": "/metadata/labels/role", "value": "serving"},
        ]
        after = await world.kube.patch(ref, operations)
        assert after["metadata"]["labels"]["role"] == "serving"
        with pytest.raises(Conflict):
            await world.kube.patch(ref, operations)

    async def test_a_stale_version_in_a_test_is_a_conflict(self, world: World) -> None:
        old = await world.kube.create(build_config_map(world))
        ref = ref_of(world, CONFIG_MAP, "one")
        await world.kube.patch(ref, [{"op": "add", "path": "/data/b", "value": "2"}])
        with pytest.raises(Conflict):
            await world.kube.patch(
                ref,
                [
                    {"op": "test", "path": "/metadata/resourceVersion", "value": version_of(old)},
                    {"op": "remove", "path": "/data/b"},
                ],
            )

    async def test_a_missing_object_is_a_conflict(self, world: World) -> None:
        with pytest.raises(Conflict):
            await world.kube.patch(ref_of(world, CONFIG_MAP, "nothing"), [{"op": "add", "path": "/data", "value": {}}])

    @pytest.mark.parametrize(
        "operation",
        [
            {"op": "remove", "path": "/data/nothing"},
            {"op": "add", "path": "/nothing/below", "value": "x"},
            {"op": "remove", "path": "/metadata/finalizers/0"},
        ],
    )
    async def test_a_path_that_is_not_there_is_a_conflict(self, world: World, operation: dict[str, Any]) -> None:
        created = await world.kube.create(build_config_map(world))
        with pytest.raises(Conflict):
            await world.kube.patch(ref_of(world, CONFIG_MAP, "one"), [operation])
        assert await world.kube.get(ref_of(world, CONFIG_MAP, "one")) == created

    async def test_replace_adds_a_member_that_is_not_there(self, world: World) -> None:
        await world.kube.create(build_config_map(world))
        after = await world.kube.patch(
            ref_of(world, CONFIG_MAP, "one"), [{"op": "replace", "path": "/data/b", "value": "2"}]
        )
        assert after["data"] == {"a": "1", "b": "2"}

    @pytest.mark.parametrize(("path", "value"), [("/metadata/uid", "another"), ("/metadata/name", "another")])
    async def test_identity_cannot_be_patched(self, world: World, path: str, value: str) -> None:
        await world.kube.create(build_config_map(world))
        with pytest.raises(Refused) as refusal:
            await world.kube.patch(ref_of(world, CONFIG_MAP, "one"), [{"op": "replace", "path": path, "value": value}])
        assert refusal.value.reason is Reason.INVALID_SPEC

    async def test_a_pods_spec_cannot_be_changed(self, world: World) -> None:
        await world.kube.create(build_pod(world))
        with pytest.raises(Refused) as refusal:
            await world.kube.patch(
                ref_of(world, POD, "store-1"),
                [{"op": "replace", "path": "/spec/nodeSelector", "value": {"other": "true"}}],
            )
        assert refusal.value.reason is Reason.INVALID_SPEC

    async def test_a_patch_does_not_reach_the_status(self, world: World) -> None:
        await world.kube.create(build_sample(world))
        after = await world.kube.patch(
            ref_of(world, SAMPLE, "one"), [{"op": "add", "path": "/status", "value": {"replicas": 7}}]
        )
        assert "status" not in after

    async def test_generation_moves_with_the_spec_only(self, world: World) -> None:
        await world.kube.create(build_sample(world))
        ref = ref_of(world, SAMPLE, "one")
        labelled = await world.kube.patch(ref, [{"op": "add", "path": "/metadata/labels", "value": {"x": "1"}}])
        changed = await world.kube.patch(ref, [{"op": "replace", "path": "/spec/note", "value": "new"}])
        assert labelled["metadata"]["generation"] == 1
        assert changed["metadata"]["generation"] == 2


class TestDeleting:
    async def test_deleting_takes_the_object_away_and_again_is_success(self, world: World) -> None:
        created = await world.kube.create(build_config_map(world))
        ref, uid = ref_of(world, CONFIG_MAP, "one"), created["metadata"]["uid"]
        assert await world.kube.delete(ref, uid=uid) is None
        assert await world.kube.get(ref) is None
        assert await world.kube.delete(ref, uid=uid) is None

    async def test_another_incarnation_is_a_conflict(self, world: World) -> None:
        created = await world.kube.create(build_config_map(world))
        ref = ref_of(world, CONFIG_MAP, "one")
        await world.kube.delete(ref, uid=created["metadata"]["uid"])
        second = await world.kube.create(build_config_map(world))
        with pytest.raises(Conflict):
            await world.kube.delete(ref, uid=created["metadata"]["uid"])
        assert await world.kube.get(ref) == second

    async def test_a_stale_version_is_a_conflict(self, world: World) -> None:
        created = await world.kube.create(build_config_map(world))
        ref = ref_of(world, CONFIG_MAP, "one")
        await world.kube.patch(ref, [{"op": "add", "path": "/data/b", "value": "2"}])
        with pytest.raises(Conflict):
            await world.kube.delete(ref, uid=created["metadata"]["uid"], resource_version=version_of(created))
        assert await world.kube.get(ref) is not None

    async def test_a_finalizer_holds_until_it_is_removed(self, world: World) -> None:
        created = await world.kube.create(build_config_map(world, finalizers=["headroom.dev/contract"]))
        ref, uid = ref_of(world, CONFIG_MAP, "one"), created["metadata"]["uid"]
        answer = await world.kube.delete(ref, uid=uid)
        held = await world.kube.get(ref)
        assert held is not None
        assert held["metadata"]["deletionTimestamp"]
        assert answer == held
        await world.kube.delete(ref, uid=uid)
        await world.kube.patch(
            ref,
            [
                {"op": "test", "path": "/metadata/finalizers/0", "value": "headroom.dev/contract"},
                {"op": "remove", "path": "/metadata/finalizers/0"},
            ],
        )
        assert await world.kube.get(ref) is None

    async def test_a_pod_without_a_node_goes_at_once(self, world: World) -> None:
        pod = await world.kube.create(build_pod(world))
        ref = ref_of(world, POD, "store-1")
        assert await world.kube.delete(ref, uid=pod["metadata"]["uid"], grace_seconds=60) is None
        assert await world.kube.get(ref_of(world, POD, "store-1")) is None

    async def test_the_grace_of_a_pod_ends_at_its_deletion_time_and_can_only_get_shorter(self, world: World) -> None:
        manifest = build_pod(world)
        manifest["spec"]["nodeName"] = "nowhere"
        uid, ref = (await world.kube.create(manifest))["metadata"]["uid"], ref_of(world, POD, "store-1")
        seen = []
        for seconds in (3600, 15, 600):
            await world.kube.delete(ref, uid=uid, grace_seconds=seconds)
            held = await world.kube.get(ref)
            assert held is not None
            metadata = held["metadata"]
            seen.append((metadata["deletionGracePeriodSeconds"], datetime.fromisoformat(metadata["deletionTimestamp"])))
        (long, ends_late), short, again = seen
        assert long == 3600
        assert short == (15, ends_late - timedelta(seconds=3585)) == again
        await world.kube.delete(ref, uid=uid, grace_seconds=0)

    async def test_a_claim_is_protected_while_it_is_deleted(self, world: World) -> None:
        claim = await world.kube.create(build_claim(world))
        assert claim["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]


class TestCollecting:
    async def test_what_an_owner_leaves_behind_is_collected(self, world: World) -> None:
        if not world.has_controllers:
            pytest.skip("this API server has no controller manager, which does the collecting")
        owner = await world.kube.create(build_config_map(world, "owner"))
        await world.kube.create(build_config_map(world, "child", ownerReferences=[reference_to(owner)]))
        await world.kube.delete(ref_of(world, CONFIG_MAP, "owner"), uid=owner["metadata"]["uid"])

        async def is_gone() -> bool:
            return await world.kube.get(ref_of(world, CONFIG_MAP, "child")) is None

        await eventually(is_gone, "the child to be collected")


class TestResolving:
    async def test_a_served_kind_is_found_by_its_name(self, world: World) -> None:
        assert await world.kube.resolve("apps/v1", "Deployment") == DEPLOYMENT
        assert await world.kube.resolve(SAMPLE.api_version, "Sample") == SAMPLE
        assert await world.kube.resolve("v1", "Pod") == POD
        assert await world.kube.resolve("v1", "PersistentVolumeClaim") == CLAIM

    @pytest.mark.parametrize(
        ("api_version", "kind"), [("apps/v1", "Gadget"), ("nothing.example/v1", "Gadget"), ("apps/v9", "Deployment")]
    )
    async def test_what_is_not_served_is_none(self, world: World, api_version: str, kind: str) -> None:
        assert await world.kube.resolve(api_version, kind) is None
