"""The digits of an installation: the same for its pods, another for any other one, and those of earlier versions."""

import pytest

from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.app import find_installation
from headroom.errors import InvalidSpec
from headroom.model.replica import hash8
from headroom.ports.kube import NAMESPACE, ObjectRef
from headroom.settings import Settings


def make_kube() -> MemoryKube:
    kube = MemoryKube()
    for name in ("kube-system", "ops"):
        Cluster(kube).seed({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": f"uid-{name}"}})
    return kube


def make_settings(lease_name: str = "headroom", *watched: str, installation: str = "") -> Settings:
    return Settings(namespace="ops", lease_name=lease_name, watch_namespaces=watched, installation=installation)


async def test_two_releases_of_a_namespace_have_different_ids_and_one_former_one() -> None:
    kube = make_kube()
    first = await find_installation(make_settings("headroom", "shop"), kube)
    second = await find_installation(make_settings("headroom-two", "mail"), kube)
    assert first[0] != second[0]
    assert first[1] == second[1] == (hash8(f"{uid_of(kube, 'ops')}/ops"),)
    assert first == await find_installation(make_settings("headroom", "shop", "other"), kube)


async def test_the_whole_cluster_is_named_by_kube_system() -> None:
    kube = make_kube()
    install_id, former = await find_installation(make_settings(), kube)
    assert install_id == hash8(f"{uid_of(kube, 'kube-system')}/ops/headroom")
    assert former == (hash8(f"{uid_of(kube, 'kube-system')}/ops"),)


async def test_a_name_that_was_given_is_taken_as_it_is_and_has_no_former_one() -> None:
    assert await find_installation(make_settings(installation="ours"), make_kube()) == (hash8("ours"), ())


async def test_a_namespace_that_is_not_there_is_said() -> None:
    with pytest.raises(InvalidSpec, match="kube-system was not found"):
        await find_installation(make_settings(), MemoryKube())


def uid_of(kube: MemoryKube, name: str) -> str:
    return str(kube.store.entries[ObjectRef(NAMESPACE, "", name)].manifest["metadata"]["uid"])
