"""What the checker reads of Kubernetes objects and of the witness; names and words are those that Headroom writes."""

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from e2e.apps.witness import Counter, parse_history
from e2e.invariants import excuses, manifests, suspicion
from e2e.invariants.facts import GuardFacts, MemberFacts, NewRead, Observation, QueryCut, ServerFacts, SnapshotFacts
from e2e.invariants.kube import Kube, read_lines
from e2e.invariants.samples import Samples, build_targets
from e2e.lab import shop
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.manifests.children import Owner, build_claim
from headroom.manifests.snapshot import build_snapshot
from headroom.model import replica, restore, snapshot
from headroom.model.condition_types import ConditionType
from headroom.model.database import Lsn
from headroom.model.replica import MemberId
from headroom.policy.replicaset.drain import BY_CHOICE
from headroom.policy.replicaset.members import LIBRARY_REASONS
from headroom.reasons import Reason
from tests.unit.invariants.scene import GUARD, SERVICE, Scene

OWNER = ("tests.headroom.dev/process", "main")


def stored(**spec: Any) -> dict[str, Any]:
    """A set as the API server stores it: with the defaults of its definition."""
    given = shop.replica_set("postgres:17", **spec)
    whole = ReplicaSetSpec.model_validate(given["spec"]).model_dump(mode="json", by_alias=True, exclude_none=True)
    return {**given, "metadata": {"name": "store", "namespace": "shop"}, "spec": whole}


def test_names_are_the_operators() -> None:
    assert manifests.SET_LABEL == replica.SET_LABEL
    assert manifests.ROLE_LABEL == replica.ROLE_LABEL
    assert manifests.RETAINED_LABEL == replica.RETAINED_LABEL
    assert manifests.WHY_ANNOTATION == replica.DRAINING_WHY_ANNOTATION
    assert manifests.SLOT_ANNOTATION == replica.SLOT_ANNOTATION
    assert manifests.RETIRE_ANNOTATION == replica.RETIRE_ANNOTATION
    assert snapshot.ANCHOR == manifests.ANCHOR_ANNOTATION
    assert manifests.RESTORED_ANCHOR_ANNOTATION in restore.RESTORED_ANNOTATIONS
    assert snapshot.ANCHOR_MARK == suspicion.ANCHOR_MARK
    assert suspicion.SLOT_NAME.pattern == replica.SLOT_PATTERN.pattern
    assert manifests.STALE_CONDITION == ConditionType.READS_MAY_BE_STALE
    assert {Reason.LAG_PANIC, Reason.READS_UNBOUNDED} == excuses.LASTING_REASONS
    assert excuses.OUTAGE_REASON == Reason.READS_UNBOUNDED
    assert {str(reason) for reason in LIBRARY_REASONS} == excuses.LIBRARY_REASONS
    assert {str(reason) for reason in BY_CHOICE} == suspicion.BY_CHOICE
    assert {str(reason) for reason in Reason} >= suspicion.MISCONFIGURED | excuses.NOT_OURS_TO_ROUTE


def test_a_set_promises_what_its_spec_says() -> None:
    found = manifests.parse_set(stored(replicas=3, mode="Active"))
    assert (found.key, found.guard, found.service) == (("shop", "store"), GUARD, SERVICE)
    assert (found.wanted, found.min_serving, found.is_active) == (3, 1, True)
    assert (found.max_lag, found.eject_lag, found.eject_grace, found.drain_timeout) == (1, 10, 10, 60)
    assert found.wal_cap == 4 << 30
    assert (found.stale_reason, found.stale_message) == ("", "")
    paused = manifests.parse_set(stored(mode="Paused", provisioning={}, routing={}))
    assert (paused.is_active, paused.wal_cap, paused.service[1]) == (False, None, "store-read")


@pytest.mark.parametrize(
    ("kind", "status", "reason", "said"),
    [
        ("ReadsMayBeStale", "True", "ReadsUnbounded", ("ReadsUnbounded", "words")),
        ("ReadsMayBeStale", "False", "AsExpected", ("", "")),
        ("ReadsMayBeStale", "Unknown", "NotYetObserved", ("", "")),
        ("Ready", "True", "LagPanic", ("", "")),
    ],
)
def test_staleness_is_said_by_its_condition_alone(kind: str, status: str, reason: str, said: tuple[str, str]) -> None:
    condition = {"type": kind, "status": status, "reason": reason, "message": "words"}
    found = manifests.parse_set({**stored(), "status": {"conditions": [condition]}})
    assert (found.stale_reason, found.stale_message) == said


def test_members_that_are_measured_and_those_with_other_libraries_are_known() -> None:
    fault = {"type": "CaughtUp", "status": "False", "reason": "CollationMismatch", "message": "words"}
    members = [
        {"name": "store-0-x", "replayLagSeconds": 0.0, "conditions": [{"type": "Serving", "reason": "AsExpected"}]},
        {"name": "store-1-x", "replayLagSeconds": 3.5, "conditions": [fault]},
        {"name": "store-2-x"},
    ]
    found = manifests.parse_set({**stored(), "status": {"members": members}})
    assert found.measured == {"store-0-x", "store-1-x"}
    assert found.mismatched == {"store-1-x"}


def test_a_guards_host_is_a_service_of_its_namespace() -> None:
    body = shop.database_guard()
    body["metadata"]["namespace"] = "shop"
    assert manifests.parse_guard(body) == GuardFacts(GUARD, "store-primary.shop", is_ready=False)
    body["status"] = {"conditions": [{"type": "Ready", "status": "True", "reason": "Connected"}]}
    assert manifests.parse_guard(body).is_ready


def pod_manifest(**labels: str) -> dict[str, Any]:
    variables = [{"name": "SLOT", "value": "hr_a_b_0_x"}]
    return {
        "metadata": {"name": "store-0-x", "namespace": "shop", "labels": labels},
        "spec": {
            "initContainers": [{"name": "seed", "env": variables}],
            "containers": [{"name": "postgresql", "env": variables}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "store-0-x"}}, {"name": "tmp"}],
        },
        "status": {"podIP": "10.0.0.1", "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def test_a_pod_has_slot_claims_and_role() -> None:
    found = manifests.parse_pod(pod_manifest(**{manifests.SET_LABEL: "store", manifests.ROLE_LABEL: "serving"}))
    assert (found.set_name, found.role, found.slot) == ("store", "serving", "hr_a_b_0_x")
    assert (found.claims, found.ip, found.is_ready) == (("store-0-x",), "10.0.0.1", True)


OWNER_SET = Owner("store", "shop", "uid")
STAMPS = snapshot.Stamps("1", 1, 17, "Stopped", "hr_a_b_0_x", "hr_a_b_s_y", Lsn(1), Lsn(2))


def test_a_snapshot_has_a_set_and_an_anchor() -> None:
    taken = build_snapshot(OWNER_SET, "store-s-y", claim="c", class_name="d", stamps=STAMPS)
    assert manifests.parse_snapshot(taken) == SnapshotFacts(("shop", "store-s-y"), "store", "uid", "hr_a_b_s_y")
    taken["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert manifests.parse_snapshot(taken) == SnapshotFacts(
        ("shop", "store-s-y"), "store", "uid", "hr_a_b_s_y", is_deleting=True
    )
    assert manifests.parse_snapshot({"metadata": {"name": "mine", "namespace": "shop"}}) is None


def test_a_claim_holds_the_anchors_of_both_its_snapshots() -> None:
    body = build_claim(OWNER_SET, MemberId(0, "x"), ReplicaSetSpec.model_validate(stored()["spec"]).storage, slot="s")
    restored = restore.format_restored(replace(STAMPS, anchor="hr_a_b_s_x"))
    body["metadata"]["annotations"] |= {**STAMPS.format(), **restored}
    found = manifests.parse_claim(body)
    assert found is not None
    assert found.anchors == {"hr_a_b_s_x", "hr_a_b_s_y"}


def test_a_foreign_pod_counts_with_its_claims_alone() -> None:
    found = manifests.parse_pod(pod_manifest())
    assert (found.slot, found.claims) == ("", ("store-0-x",))


def test_claims_are_those_that_the_operator_writes() -> None:
    spec = ReplicaSetSpec.model_validate(stored()["spec"])
    body = build_claim(OWNER_SET, MemberId(0, "x"), spec.storage, slot="hr_a_b_0_x")
    found = manifests.parse_claim(body)
    assert found is not None
    assert (found.key, found.set_name, found.slot, found.is_leaving) == (
        ("shop", "store-0-x"), "store", "hr_a_b_0_x", False,
    )  # fmt: skip
    body["metadata"]["annotations"][manifests.RETIRE_ANNOTATION] = "Retired"
    leaving = manifests.parse_claim(body)
    assert leaving is not None
    assert leaving.is_leaving
    body["metadata"]["labels"][manifests.RETAINED_LABEL] = "store"
    assert manifests.parse_claim(body) is None


def test_listed_are_the_ready_endpoints_of_all_slices() -> None:
    def entry(address: str, *, ready: bool) -> dict[str, Any]:
        return {
            "metadata": {"namespace": "shop", "labels": {manifests.SERVICE_LABEL: "store-read"}},
            "endpoints": [{"addresses": [address], "conditions": {"ready": ready}}],
        }

    slices = [entry("10.0.0.1", ready=True), entry("10.0.0.2", ready=True), entry("10.0.0.3", ready=False)]
    assert manifests.parse_listed(slices) == {SERVICE: {"10.0.0.1", "10.0.0.2"}}


@pytest.mark.parametrize(("text", "seconds"), [("1m30s", 90), ("250ms", 0.25), ("1h", 3600), ("0s", 0)])
def test_durations(text: str, seconds: float) -> None:
    assert manifests.parse_duration(text) == timedelta(seconds=seconds).total_seconds()


@pytest.mark.parametrize(("value", "size"), [("4Gi", 4 << 30), ("1.5Mi", 3 << 19), (1024, 1024), ("2G", 2 * 10**9)])
def test_sizes(value: str | int, size: int) -> None:
    assert manifests.parse_quantity(value) == size


def test_only_namespaces_of_this_process_are_looked_at() -> None:
    kube = Kube(OWNER)
    for name, value in (("shop", "main"), ("other", "gw1")):
        labels = {OWNER[0]: value}
        kube.objects["namespaces"].take({"type": "ADDED", "object": {"metadata": {"name": name, "labels": labels}}})
        body = stored()
        body["metadata"]["namespace"] = name
        kube.objects["sets"].take({"type": "ADDED", "object": body})
    assert [one.key for one in kube.facts()["sets"]] == [("shop", "store")]


def test_a_guard_that_is_gone_is_remembered_while_its_namespace_is_there() -> None:
    kube = Kube(OWNER)
    space = {"metadata": {"name": "shop", "labels": dict([OWNER])}}
    body = shop.database_guard()
    body["metadata"]["namespace"] = "shop"
    kube.objects["namespaces"].take({"type": "ADDED", "object": space})
    for kind, is_gone in (("ADDED", False), ("DELETED", True), ("ADDED", False)):
        kube.objects["guards"].take({"type": kind, "object": body})
        assert [guard.is_gone for guard in kube.facts()["guards"]] == [is_gone]
    kube.objects["namespaces"].take({"type": "DELETED", "object": space})
    assert kube.facts()["guards"] == ()


def test_a_lease_that_was_not_renewed_has_no_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    kube, lease = Kube(OWNER), {"holderIdentity": "pod-1", "leaseDurationSeconds": 9}
    body = {"metadata": {"name": "headroom", "namespace": "headroom", "resourceVersion": "1"}, "spec": lease}
    kube.objects["leases"].replace([body])
    now[0] = 108.0
    assert (kube.facts()["leader"], kube.facts()["renewed_at"]) == ("pod-1", 100.0)
    now[0] = 109.5
    kube.objects["leases"].replace([body])
    assert kube.facts()["leader"] == "", "a list that shows the same version is no renewal"
    kube.objects["leases"].take({"type": "MODIFIED", "object": {**body, "spec": {**lease, "holderIdentity": ""}}})
    assert kube.facts()["leader"] == ""


class Parts:
    def stream(self, _size: int) -> list[bytes]:
        return [b'{"a"', b": 1}\n\n{", b'"b": 2}\n']


def test_lines_of_a_watch_come_whole() -> None:
    assert list(read_lines(Parts())) == [b'{"a": 1}', b'{"b": 2}']  # type: ignore[arg-type]


def test_the_witness_is_aimed_at_primaries_members_and_services() -> None:
    scene = Scene()
    targets = build_targets(scene.observe(), 1.5)
    assert targets["primaries"] == {"shop/store": {"host": "store-primary.shop", "port": 5432, "database": "shop"}}
    assert sorted(targets["members"]) == ["shop/store-0-x", "shop/store-1-x"]
    assert targets["members"]["shop/store-0-x"]["host"] == "10.0.0.0"
    assert targets["services"]["shop/store-read"]["host"] == "store-read.shop"
    scene.set_pod(0, ip="")
    scene.has_set = False
    assert build_targets(scene.observe(), 1.5)["members"] == {}


PRIMARY = {
    "kind": "primary", "key": "shop/store", "in_recovery": False, "system_id": "7", "timeline": 2,
    "slots": [{"name": "hr_x", "active": True, "kept": 16.0}, {"name": "lost", "active": False, "kept": None}],
    "synchronous": ["hr_x"], "slot_wal_limit": -1048576, "forks": {"1": 99},
}  # fmt: skip
MEMBER = {
    "kind": "member", "key": "shop/store-0-x", "in_recovery": True, "system_id": "7", "timeline": None,
    "streaming": False, "position": None, "staleness": None,
    "sessions": [{"pid": 3, "user": "shop", "age": 1.5}],
}  # fmt: skip


def test_samples_become_facts_and_events_come_once() -> None:
    samples, now = Samples(), 10.0**9
    read = {"kind": "read", "key": "shop/store-read", "address": "10.0.0.1"}
    cut = {"kind": "cut", "key": "shop/store-read", "address": "10.0.0.1", "code": "57P01", "message": "m", "ran": 1.0}
    for sample in (PRIMARY, MEMBER, {**read, "staleness": 0.5}, {**read, "staleness": None}, cut):
        samples.take(sample, now)
    samples.take({"kind": "error", "key": "shop/store", "message": "refused"}, now)
    found = samples.collect()
    server: ServerFacts = found["servers"][GUARD]
    assert (server.system_id, server.timeline, server.forks, server.slot_wal_limit) == ("7", 2, {1: 99}, None)
    assert [(one.name, one.kept_bytes) for one in server.slots] == [("hr_x", 16), ("lost", None)]
    member: MemberFacts = found["members"]["shop", "store-0-x"]
    assert (member.timeline, member.position, member.sessions[0].age) == (None, 0, 1.5)
    assert found["reads"] == (NewRead(SERVICE, "10.0.0.1", 0.5),)
    assert found["cuts"] == (QueryCut(SERVICE, "10.0.0.1", "57P01", "m", 1.0),)
    assert samples.errors == ["shop/store: refused"]
    assert (samples.collect()["reads"], samples.collect()["cuts"]) == ((), ())


def test_what_the_threads_share_is_locked() -> None:
    samples = Samples()
    threads = [threading.Thread(target=lambda: [samples.take(MEMBER, 1e9) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert all(isinstance(Observation(0.0, **samples.collect()), Observation) for _ in range(200))
    for thread in threads:
        thread.join()


def test_staleness_is_the_age_of_the_next_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    counter = Counter()
    assert counter.staleness(5, 100.0) is None
    for number in (6, 7, 8):
        assert counter.begin(found=5) == number
        now[0] += 1
        counter.commit(number)
    assert counter.staleness(8, 110.0) == 0.0, "it shows the newest: nothing is missing"
    assert counter.staleness(7, 110.0) == 7.0, "8 was committed at 103"
    assert counter.staleness(5, 110.0) == 9.0
    assert counter.staleness(7, 102.0) == 0.0, "asked before the commit was known"
    assert counter.staleness(None, 110.0) is None


def test_a_history_file_tells_where_timelines_ended() -> None:
    text = "1\t0/3000060\tno recovery target specified\n\n2\t1/5000000\tno recovery target specified\n"
    assert parse_history(text) == {1: 0x3000060, 2: (1 << 32) + 0x5000000}
    assert parse_history(None) == {}
