"""Certificates that members make for themselves: told by the kubelet, published for clients, verified by us."""

from typing import Any

import pytest

from headroom.manifests.children import BUNDLE_KEY, bundle_name, parse_bundle
from headroom.model.conditions import Truth
from headroom.ports.kube import CONFIG_MAP, POD, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.children import parse_authority
from tests.certificates import Authority
from tests.manifests import NAMESPACE, make
from tests.unit.reconcilers.replicaset.world import NAME, World

BUNDLE = ObjectRef(CONFIG_MAP, NAMESPACE, bundle_name(NAME))
GIVEN = {"certificateSecretRef": {"name": "store-read-tls"}}


def read_bundle(world: World) -> dict[str, str]:
    found = world.cluster.read(BUNDLE)
    return {} if found is None else parse_bundle(found["data"])


def read_pods(world: World) -> dict[str, str]:
    """The uid of each member's pod."""
    return {name: world.read(ObjectRef(POD, NAMESPACE, name))["metadata"]["uid"] for name in world.members.reports}


def make_world(**spec: Any) -> World:
    world = World(makes_certificates=True)
    world.add_set(**spec)
    return world


async def test_each_member_is_published_before_it_serves_and_reached_by_its_own_authority() -> None:
    world = make_world(replicas=2, standbys=1)
    while len(world.serving()) < 2:
        await world.run(0.5)
        assert set(world.serving()) <= set(read_bundle(world))
        assert world.clock.monotonic() < 120
    await world.run(20)
    assert read_bundle(world) == {name: text.strip() for name, text in world.members.reports.items()}
    assert len(read_bundle(world)) == 3
    data = world.read(BUNDLE)["data"]
    assert data[BUNDLE_KEY].count("BEGIN CERTIFICATE") == 3
    assert [world.replica(name).has_tls for name in world.members.reports] == [True] * 3
    assert world.condition("Ready")["message"].endswith("clients need TLS, unless spec.tls.allowPlaintext is true")


@pytest.mark.long
async def test_no_member_serves_while_its_certificate_cannot_be_published() -> None:
    world = World(makes_certificates=True)
    stranger = make(CONFIG_MAP, BUNDLE.name, data={"theirs": "untouched"})
    world.cluster.seed(stranger)
    world.add_set()
    await world.run(60)
    assert world.serving() == []
    assert world.read(BUNDLE)["data"] == {"theirs": "untouched"}
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == (Truth.FALSE, Reason.NAME_CONFLICT)
    assert BUNDLE.name in ready["message"]
    [stage] = {member["stage"] for member in world.status["members"]}
    assert stage == "CaughtUp"
    world.cluster.remove(BUNDLE)
    await world.run(20)
    assert len(world.serving()) == 1
    assert world.condition("Ready")["status"] == "True"


async def test_whoever_has_the_address_of_a_member_next_is_not_taken_for_it() -> None:
    world = make_world(replicas=1, standbys=1)
    await world.run(40)
    [standby] = set(world.members.reports) - set(world.serving())
    server = world.replica(standby)
    server.authority = Authority("somebody else").ca_pem
    server.restart()
    await world.run(10)
    [member] = [member for member in world.status["members"] if member["name"] == standby]
    streaming = next(entry for entry in member["conditions"] if entry["type"] == "Streaming")
    assert streaming["reason"] == Reason.MEMBER_UNREACHABLE
    assert "not accepted" in streaming["message"]


@pytest.mark.long
async def test_an_upgrade_exchanges_members_one_at_a_time_and_each_is_published_first() -> None:
    world = World()
    world.add_set(replicas=2, standbys=1)
    await world.run(60)
    assert read_bundle(world) == {}
    assert "without TLS" in world.condition("Ready")["message"]
    world.members.makes_certificates = True
    world.edit_spec(postgresql={"parameters": {"work_mem": "32MB"}})
    world.restart()
    for _ in range(240):
        await world.run(0.5)
        assert len(world.serving()) >= 2
        assert world.condition("Ready")["status"] == "True"
        encrypted = {name for name in world.serving() if world.replica(name).has_tls}
        assert encrypted <= set(read_bundle(world))
    assert len(read_bundle(world)) == 3
    assert all(world.replica(name).has_tls for name in world.members.reports)


async def test_a_member_keeps_its_place_while_its_pod_is_recreated_and_loses_it_with_the_member() -> None:
    world = make_world(replicas=1, standbys=1)
    await world.run(40)
    before = read_bundle(world)
    [standby] = set(before) - set(world.serving())
    world.members.copies = False
    world.cluster.remove(ObjectRef(POD, NAMESPACE, standby))
    for _ in range(10):
        await world.run(1)
        assert read_bundle(world) == before
    world.members.copies = True
    await world.run(20)
    assert read_bundle(world) == before
    world.edit_spec(standbys=0)
    await world.run(30)
    assert set(read_bundle(world)) == set(world.serving())


async def test_a_bundle_that_was_edited_or_deleted_is_put_right_and_nobody_leaves() -> None:
    world = make_world(replicas=1, standbys=1)
    await world.run(40)
    before, serving = world.read(BUNDLE)["data"], world.serving()
    forged = Authority("forged").ca_pem
    world.cluster.edit(BUNDLE, lambda item: item["data"].update({BUNDLE_KEY: forged}))
    await world.run(40)
    assert world.read(BUNDLE)["data"] == before
    world.cluster.remove(BUNDLE)
    for _ in range(10):
        await world.run(1)
        assert world.serving() == serving
    assert world.read(BUNDLE)["data"] == before


async def test_the_users_certificate_is_verified_by_the_authority_in_its_secret() -> None:
    authority = Authority("the user's")
    world = make_world(replicas=1, standbys=0, tls=GIVEN)
    certificate, key = authority.issue("store-read")
    parts = {"tls.crt": certificate, "tls.key": key}
    world.set_secret("store-read-tls", **parts, **{BUNDLE_KEY: authority.ca_pem})
    await world.run(40)
    assert world.serving()
    assert world.read(BUNDLE)["data"][BUNDLE_KEY] == authority.ca_pem
    [name] = world.serving()
    server = world.replica(name)
    server.authority = authority.ca_pem
    server.restart()
    await world.run(10)
    assert world.condition("Ready")["status"] == "True"
    server.authority = Authority("somebody else").ca_pem
    server.restart()
    await world.run(20)
    assert world.condition("ReadsMayBeStale")["status"] == "True"
    assert "not accepted" in str(world.status)


async def test_a_paused_set_publishes_the_users_authority_beside_its_own_and_exchanges_no_pod() -> None:
    world = make_world(replicas=1, standbys=1)
    await world.run(40)
    own, pods = read_bundle(world), read_pods(world)
    authority = Authority("the user's")
    certificate, key = authority.issue("store-read")
    world.set_secret("store-read-tls", **{"tls.crt": certificate, "tls.key": key, BUNDLE_KEY: authority.ca_pem})
    world.edit_spec(mode="Paused", tls=GIVEN)
    await world.run(5)
    published = world.read(BUNDLE)["data"][BUNDLE_KEY]
    assert authority.ca_pem.strip() in published
    await world.run(150)
    assert (world.read(BUNDLE)["data"][BUNDLE_KEY], read_bundle(world)) == (published, own)
    assert read_pods(world) == pods
    world.edit_spec(mode="Active")
    await world.run(60)
    assert not set(read_pods(world).values()) & set(pods.values())


async def test_a_secret_without_an_authority_is_said() -> None:
    world = make_world(replicas=1, standbys=0, tls=GIVEN)
    certificate, key = Authority("the user's").issue("store-read")
    world.set_secret("store-read-tls", **{"tls.crt": certificate, "tls.key": key})
    await world.run(40)
    ready = world.condition("Ready")
    assert ready["status"] == "True"
    assert "add their authority to Secret store-read-tls as ca.crt" in ready["message"]
    world.kube.calls.clear()
    await world.run(120)
    secrets = [ref for verb, ref in world.kube.calls if ref.name == "store-read-tls"]
    assert len(secrets) <= 3, "once a minute"


async def test_an_image_that_cannot_encrypt_is_said_with_its_reason() -> None:
    world = World(makes_certificates=True)
    world.members.make_certificate = lambda name: "no TLS: the image has no openssl\n"
    world.add_set(replicas=1, standbys=0)
    await world.run(40)
    assert world.serving()
    message = world.condition("Ready")["message"]
    assert "without TLS (the image has no openssl), see spec.tls" in message


@pytest.mark.parametrize(
    "report",
    [
        "",
        "no TLS: the image has no openssl",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        f"{Authority('a').ca_pem}{Authority('b').ca_pem}",
        f"{Authority('a').ca_pem}\nand more",
        Authority("a").issue("a")[1],
    ],
    ids=["nothing", "a reason", "no certificate", "two", "text beside it", "a key"],
)
def test_only_one_certificate_and_nothing_beside_it_is_believed(report: str) -> None:
    assert parse_authority(report) == ""


def test_a_report_is_believed_as_it_was_made() -> None:
    pem = Authority("a").ca_pem
    assert parse_authority(pem) == pem.strip()
