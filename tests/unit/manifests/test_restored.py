"""What a claim and a pod of a member say that is made from a snapshot, and what they read back."""

from dataclasses import replace

import pytest

from headroom.adapters.kube.projection import project
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.manifests.children import VolumeSource, build_claim
from headroom.manifests.pod import build_pod
from headroom.model.copies import FROM_NONE
from headroom.model.restore import RESTORED_ANNOTATIONS, format_restored, parse_restored
from headroom.model.snapshot import STAMP_ANNOTATIONS
from headroom.ports.kube import CLAIM, Manifest
from headroom.reconcilers.replicaset.children import parse_claim, parse_restored_stamps
from tests.unit.manifests.test_golden import MEMBER, OWNER, SLOT, SMALL, SOURCE, STAMPS, make_upstream

SPEC = ReplicaSetSpec.model_validate(SMALL)
GI = 1024**3
LIVE = {"uid": "u", "resourceVersion": "1"}


def claim_of(source: VolumeSource | None) -> Manifest:
    claim = build_claim(OWNER, MEMBER, SPEC.storage, slot=SLOT, source=source, why="it is newest")
    claim["metadata"] |= LIVE
    return claim


def test_a_claim_from_a_snapshot_is_read_back_with_all_that_a_restore_needs() -> None:
    claim = claim_of(SOURCE)
    assert (parse_claim(claim).restored_from, parse_restored_stamps(claim)) == (SOURCE.name, STAMPS)
    assert parse_claim(claim).slot == SLOT
    assert parse_claim(project(CLAIM, claim)).why == "it is newest"


def test_the_watch_keeps_what_is_read_back() -> None:
    assert parse_restored_stamps(project(CLAIM, claim_of(SOURCE))) == STAMPS


def test_an_ordinary_claim_is_of_no_snapshot_whatever_its_annotations_say() -> None:
    claim = claim_of(None)
    assert "dataSource" not in claim["spec"]
    claim["metadata"]["annotations"] |= format_restored(STAMPS)
    assert parse_restored_stamps(claim) is None


def test_the_stamps_of_a_restored_member_are_not_taken_for_those_of_a_source() -> None:
    assert not set(RESTORED_ANNOTATIONS) & set(STAMP_ANNOTATIONS)
    assert parse_restored(STAMPS.format()) is None


@pytest.mark.parametrize(("size", "want"), [(0, 20 * GI), (5 * GI, 20 * GI), (21 * GI, 21 * GI)])
def test_a_claim_is_as_large_as_the_spec_asks_or_the_snapshot_needs(size: int, want: int) -> None:
    claim = claim_of(VolumeSource(SOURCE.name, size, STAMPS))
    assert claim["spec"]["resources"]["requests"]["storage"] == str(want)


def test_what_a_pod_was_restored_from_does_not_change_its_template() -> None:
    upstream = make_upstream("disable", None)
    pods = [
        build_pod(
            OWNER, MEMBER, SPEC, config="c", slot=SLOT, upstream=upstream, source=replace(FROM_NONE, restored=restored)
        )
        for restored in (None, STAMPS)
    ]
    assert pods[0]["metadata"] == pods[1]["metadata"], "the hash of the template is there"
    found = [{entry["name"]: entry["value"] for entry in pod["spec"]["initContainers"][0]["env"]} for pod in pods]
    different = {name: (found[0][name], found[1][name]) for name in found[0] if found[0][name] != found[1][name]}
    assert different == {"RESTORE": ("", "Stopped"), "RESTORED_SLOT": ("", STAMPS.source_slot)}
