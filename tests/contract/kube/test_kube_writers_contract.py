"""What every implementation of the Kube port promises, held against each of them: apply, status and scale."""

import pytest

from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.kube.api import ApiKube
from headroom.errors import Conflict, Refused
from headroom.ports.kube import (
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    SERVICE,
    Manifest,
    ObjectRef,
)
from headroom.reasons import Reason

from .conftest import SAMPLE, World, eventually
from .kube_objects import (
    build_budget,
    build_config_map,
    build_deployment,
    build_sample,
    build_service,
    find_unsorted,
    ref_of,
    reference_to,
    version_of,
)


class TestApplying:
    async def test_the_first_apply_creates_and_the_second_changes_nothing(self, world: World) -> None:
        first = await world.kube.apply(build_service(world, ports=[{"name": "pg", "port": 5432}]))
        again = await world.kube.apply(build_service(world, ports=[{"name": "pg", "port": 5432}]))
        assert first["spec"]["selector"] == {"role": "serving"}
        assert version_of(again) == version_of(first)

    async def test_what_is_no_longer_named_is_taken_away(self, world: World) -> None:
        await world.kube.apply(build_config_map(world, data={"a": "1", "b": "2"}, labels={"x": "1"}))
        after = await world.kube.apply(build_config_map(world, data={"a": "3"}))
        assert after["data"] == {"a": "3"}
        assert after["metadata"].get("labels", {}) == {}

    async def test_what_others_wrote_is_kept(self, world: World) -> None:
        await world.kube.apply(build_config_map(world, data={"a": "1"}))
        await world.kube.patch(ref_of(world, CONFIG_MAP, "one"), [{"op": "add", "path": "/data/theirs", "value": "x"}])
        after = await world.kube.apply(build_config_map(world, data={"a": "2"}))
        assert after["data"] == {"a": "2", "theirs": "x"}

    async def test_ports_are_merged_by_number_and_protocol(self, world: World) -> None:
        pg, extra = {"name": "pg", "port": 5432}, {"name": "extra", "port": 6432}
        await world.kube.apply(build_service(world, ports=[pg, extra]))
        after = await world.kube.apply(build_service(world, ports=[{**pg, "name": "postgres"}]))
        assert [(port["name"], port["port"]) for port in after["spec"]["ports"]] == [("postgres", 5432)]

    async def test_a_value_changed_by_others_is_taken_back(self, world: World) -> None:
        await world.kube.apply(build_config_map(world, data={"a": "1"}))
        await world.kube.patch(
            ref_of(world, CONFIG_MAP, "one"), [{"op": "replace", "path": "/data/a", "value": "theirs"}]
        )
        after = await world.kube.apply(build_config_map(world, data={"a": "1"}))
        assert after["data"] == {"a": "1"}

    async def test_the_manager_and_its_fields_are_recorded(self, world: World) -> None:
        applied = await world.kube.apply(build_config_map(world, data={"a": "1"}))
        entries = [entry for entry in applied["metadata"]["managedFields"] if entry["operation"] == "Apply"]
        assert [entry["manager"] for entry in entries] == ["headroom"]
        assert entries[0]["fieldsV1"] == {"f:data": {"f:a": {}}}

    async def test_an_object_put_in_its_place_meanwhile_is_a_conflict(self, world: World) -> None:
        if isinstance(world.kube, MemoryKube):
            pytest.skip("the API in memory looks and applies in one step")
        assert isinstance(world.kube, ApiKube)
        first = await world.kube.create(build_config_map(world))
        ref = ref_of(world, CONFIG_MAP, "one")
        await world.kube.delete(ref, uid=first["metadata"]["uid"])
        second = await world.kube.create(build_config_map(world))

        class Behind(ApiKube):
            async def get(self, ref: ObjectRef) -> Manifest | None:
                return first

        way = world.kube._transport
        with pytest.raises(Conflict):
            await Behind(way.client, clock=way.clock).apply(build_config_map(world, data={"a": "2"}))
        assert await world.kube.get(ref) == second

    async def test_a_budget_is_replaced_whole_in_its_selector(self, world: World) -> None:
        await world.kube.apply(build_budget(world))
        changed = build_budget(world)
        changed["spec"] = {"minAvailable": 2, "selector": {"matchLabels": {"other": "x"}}}
        after = await world.kube.apply(changed)
        assert after["spec"]["minAvailable"] == 2
        assert after["spec"]["selector"] == {"matchLabels": {"other": "x"}}
        assert after["metadata"]["generation"] == 2
        live = await world.kube.get(ref_of(world, DISRUPTION_BUDGET, "store"))
        assert live is not None
        assert live["spec"] == after["spec"]

    async def test_an_object_of_nobody_is_not_taken_over(self, world: World) -> None:
        owner = await world.kube.create(build_config_map(world, "owner"))
        theirs = await world.kube.create(build_service(world, ports=[{"name": "pg", "port": 5432}]))
        mine = build_service(world, ports=[{"name": "pg", "port": 1234}], ownerReferences=[reference_to(owner)])
        with pytest.raises(Refused) as refusal:
            await world.kube.apply(mine)
        assert refusal.value.reason is Reason.NAME_CONFLICT
        assert await world.kube.get(ref_of(world, SERVICE, "read")) == theirs

    async def test_our_own_object_is_applied_again(self, world: World) -> None:
        owner = await world.kube.create(build_config_map(world, "owner"))
        mine = build_config_map(world, "child", ownerReferences=[reference_to(owner)])
        await world.kube.apply(mine)
        after = await world.kube.apply({**mine, "data": {"a": "2"}})
        assert after["data"] == {"a": "2"}
        assert after["metadata"]["ownerReferences"] == [reference_to(owner)]


class TestStatus:
    async def test_status_is_replaced_whole_and_the_spec_stays(self, world: World) -> None:
        created = await world.kube.create(build_sample(world))
        ref = ref_of(world, SAMPLE, "one")
        first = await world.kube.replace_status(
            ref, resource_version=version_of(created), status={"replicas": 2, "ready": 1}
        )
        second = await world.kube.replace_status(ref, resource_version=version_of(first), status={"replicas": 3})
        assert second["status"] == {"replicas": 3}
        assert second["spec"] == created["spec"]
        assert second["metadata"]["generation"] == 1

    async def test_the_same_status_again_keeps_the_version(self, world: World) -> None:
        created = await world.kube.create(build_sample(world))
        ref = ref_of(world, SAMPLE, "one")
        first = await world.kube.replace_status(ref, resource_version=version_of(created), status={"replicas": 2})
        again = await world.kube.replace_status(ref, resource_version=version_of(first), status={"replicas": 2})
        assert version_of(again) == version_of(first)

    async def test_a_stale_version_is_a_conflict(self, world: World) -> None:
        created = await world.kube.create(build_sample(world))
        ref = ref_of(world, SAMPLE, "one")
        await world.kube.patch(ref, [{"op": "add", "path": "/metadata/labels", "value": {"x": "1"}}])
        with pytest.raises(Conflict):
            await world.kube.replace_status(ref, resource_version=version_of(created), status={"replicas": 1})

    async def test_a_missing_object_is_a_conflict(self, world: World) -> None:
        with pytest.raises(Conflict):
            await world.kube.replace_status(
                ref_of(world, SAMPLE, "nothing"), resource_version="1", status={"replicas": 1}
            )


class TestOrderOfKeys:
    """What is read back has its keys sorted, so that their order is never news."""

    async def test_a_custom_resource_has_sorted_keys_at_every_level(self, world: World) -> None:
        sample = build_sample(world)
        sample["metadata"]["labels"] = {"y": "1", "x": "1"}
        created = await world.kube.create(sample)
        ref = ref_of(world, SAMPLE, "one")
        status = {"selector": "a=b", "replicas": 1, "members": [{"name": "b", "lag": {"seconds": 1, "bytes": 2}}]}
        written = await world.kube.replace_status(ref, resource_version=version_of(created), status=status)
        patched = await world.kube.patch(ref, [{"op": "add", "path": "/metadata/labels/a", "value": "1"}])
        found = await world.kube.get(ref)
        [listed] = await world.kube.list(SAMPLE, world.namespace)
        assert written["status"] == status
        for body in (created, written, patched, found, listed):
            assert find_unsorted(body) == []

    async def test_maps_of_other_kinds_have_sorted_keys(self, world: World) -> None:
        config = build_config_map(world, data={"b": "2", "a": "1"}, labels={"y": "1", "x": "1"})
        created = await world.kube.create(config)
        applied = await world.kube.apply({**config, "data": {"c": "3", "b": "2", "a": "1"}})
        for body in (created, applied, await world.kube.get(ref_of(world, CONFIG_MAP, "one"))):
            assert body is not None
            assert find_unsorted([body["data"], body["metadata"]["labels"]]) == []

    async def test_another_order_of_keys_is_no_change(self, world: World) -> None:
        created = await world.kube.create(build_sample(world))
        ref = ref_of(world, SAMPLE, "one")
        first = await world.kube.replace_status(
            ref, resource_version=version_of(created), status={"replicas": 1, "selector": "a=b"}
        )
        again = await world.kube.replace_status(
            ref, resource_version=version_of(first), status={"selector": "a=b", "replicas": 1}
        )
        assert again == first


class TestScaling:
    async def test_scale_is_read_and_written_with_its_version(self, world: World) -> None:
        created = await world.kube.create(build_sample(world, replicas=1))
        ref = ref_of(world, SAMPLE, "one")
        status = {"replicas": 1, "selector": "app=workers,tier=back"}
        await world.kube.replace_status(ref, resource_version=version_of(created), status=status)
        scale = await world.kube.get_scale(ref)
        assert scale is not None
        assert (scale.spec_replicas, scale.status_replicas) == (1, 1)
        assert scale.selector == "app=workers,tier=back"
        assert scale.uid == created["metadata"]["uid"]
        written = await world.kube.set_scale(scale, 3)
        assert written.spec_replicas == 3
        live = await world.kube.get(ref)
        assert live is not None
        assert live["spec"] == {"replicas": 3, "note": "as created"}
        assert live["metadata"]["generation"] == 2
        assert written.resource_version == version_of(live)

    async def test_a_deployment_is_scaled_and_its_selector_read(self, world: World) -> None:
        await world.kube.create(build_deployment(world, replicas=0))
        ref = ref_of(world, DEPLOYMENT, "workers")

        async def is_scaled() -> bool:
            scale = await world.kube.get_scale(ref)
            assert scale is not None
            assert scale.selector == "app=workers,tier=back"
            try:
                return (await world.kube.set_scale(scale, 2)).spec_replicas == 2
            except Conflict:
                # The deployment controller writes its status beside us.
                return False

        await eventually(is_scaled, "a scale without a writer in between")
        live = await world.kube.get(ref)
        assert live is not None
        assert live["spec"]["replicas"] == 2

    async def test_a_scale_that_somebody_changed_is_a_conflict(self, world: World) -> None:
        await world.kube.create(build_sample(world))
        scale = await world.kube.get_scale(ref_of(world, SAMPLE, "one"))
        assert scale is not None
        await world.kube.set_scale(scale, 2)
        with pytest.raises(Conflict):
            await world.kube.set_scale(scale, 5)

    async def test_scaling_what_is_gone_is_a_conflict(self, world: World) -> None:
        created = await world.kube.create(build_sample(world))
        ref = ref_of(world, SAMPLE, "one")
        scale = await world.kube.get_scale(ref)
        assert scale is not None
        await world.kube.delete(ref, uid=created["metadata"]["uid"])
        with pytest.raises(Conflict):
            await world.kube.set_scale(scale, 1)

    async def test_the_scale_writer_is_recorded(self, world: World) -> None:
        await world.kube.create(build_sample(world))
        ref = ref_of(world, SAMPLE, "one")
        scale = await world.kube.get_scale(ref)
        assert scale is not None
        await world.kube.set_scale(scale, 4)
        live = await world.kube.get(ref)
        assert live is not None
        entries = [e for e in live["metadata"]["managedFields"] if e.get("subresource") == "scale"]
        assert [entry["manager"] for entry in entries] == ["headroom"]
        assert entries[0]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}

    async def test_a_missing_target_is_none(self, world: World) -> None:
        assert await world.kube.get_scale(ref_of(world, DEPLOYMENT, "nothing")) is None
        assert await world.kube.get_scale(ref_of(world, SAMPLE, "nothing")) is None

    async def test_a_kind_without_scale_is_refused(self, world: World) -> None:
        await world.kube.create(build_config_map(world))
        with pytest.raises(Refused) as refusal:
            await world.kube.get_scale(ref_of(world, CONFIG_MAP, "one"))
        assert refusal.value.reason is Reason.TARGET_NOT_SCALABLE
