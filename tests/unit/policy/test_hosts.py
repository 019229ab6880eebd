"""Which addresses a spec may lead the operator to."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.errors import InvalidSpec
from headroom.policy.hosts import REFUSED, HostPolicy, find_api_server, find_cluster_domain, parse_host_rules

REFUSED_ADDRESSES = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "169.254.169.254", "169.254.0.1", "100.100.100.200", "168.63.129.16",
    "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1",
    # Credentials of pods, name and time servers of AWS, metadata of Google, site-local.
    "169.254.170.23", "fd00:ec2::23", "fd00:ec2::253", "fd00:ec2::123", "fd20:ce::254", "fec0::1",
    # The same behind another notation.
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::169.254.169.254", "64:ff9b::169.254.169.254",
    "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a9:fea9:fe00::", "64:ff9b:1:1:a9:fea9:fe00::",
    "::ffff:0:169.254.169.254", "::ffff:0:127.0.0.1",
    "2001:db8::5efe:127.0.0.1", "2001:db8::200:5efe:169.254.169.254", "64:ff9b::7f00:1",
    "2002:a9fe:a9fe::1", "2002:7f00:1::", "2001:0:0:0:0:0:8001:5601",
]  # fmt: skip
OPEN_ADDRESSES = [
    "64:ff9b::10.0.0.7",
    "::ffff:0:10.0.0.7",
    "10.0.0.7",
    "192.168.3.4",
    "172.16.0.1",
    "203.0.113.7",
    "100.64.0.9",
    "fd12:3456::7",
    "2001:db8::1",
]


def make_policy(allow: tuple[str, ...] = (), deny: tuple[str, ...] = (), api: str = "") -> HostPolicy:
    return HostPolicy(parse_host_rules(allow, "allow"), parse_host_rules(deny, "deny"), find_api_server(api))


def permits(policy: HostPolicy, address: str, host: str = "db.example.com", **changes: object) -> bool:
    return policy.permits(host, address, 5432, **{"namespace": "shop", **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_an_address_of_the_machine_itself_is_refused(address: str) -> None:
    assert not permits(make_policy(), address)
    assert not permits(make_policy(("0.0.0.0/0", "::/0", "example.com")), address), (
        "a rule for everything is not enough"
    )
    assert not permits(make_policy(), address, is_member=True)


@pytest.mark.parametrize("address", OPEN_ADDRESSES)
def test_databases_in_and_outside_the_cluster_are_reached_without_a_rule(address: str) -> None:
    assert permits(make_policy(), address)


@pytest.mark.parametrize(
    ("rule", "address"),
    [("127.0.0.0/8", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "::ffff:127.0.0.1"), ("::1", "::1")],
)
def test_loopback_needs_a_rule_of_its_own(rule: str, address: str) -> None:
    assert permits(make_policy((rule, "::/0")), address)
    assert not permits(make_policy((rule, "::/0"), deny=("127.0.0.0/8", "::1")), address)
    assert not permits(make_policy(("127.0.0.1",)), "127.0.0.2")


def test_a_list_of_allowed_hosts_is_the_whole_list() -> None:
    policy = make_policy(("10.0.0.0/8", "example.com"))
    assert permits(policy, "10.1.2.3", "anything")
    assert permits(policy, "203.0.113.7", "DB.Example.COM.")
    assert permits(policy, "203.0.113.7", "example.com")
    assert not permits(policy, "203.0.113.7", "notexample.com")
    assert not permits(policy, "203.0.113.7", "example.com.evil.net")
    assert permits(policy, "::ffff:10.1.2.3", "anything"), "by the address that it stands for"


def test_what_is_denied_is_denied_although_it_is_allowed() -> None:
    policy = make_policy(("10.0.0.0/8",), deny=("10.96.0.0/12", ".internal"))
    assert permits(policy, "10.1.2.3")
    assert not permits(policy, "10.96.0.1")
    assert not permits(policy, "::ffff:10.96.0.1")
    assert not permits(policy, "10.1.2.3", "db.internal")


def test_a_rule_can_stand_for_the_namespace_of_the_object() -> None:
    policy = make_policy(("{namespace}.svc", "{namespace}.svc.cluster.local"))
    assert permits(policy, "10.0.0.1", "db.shop.svc")
    assert permits(policy, "10.0.0.1", "db.shop.svc.cluster.local")
    assert not permits(policy, "10.0.0.1", "db.bank.svc")
    assert not permits(policy, "10.0.0.1", "db.workshop.svc")
    assert permits(policy, "10.0.0.1", "db.bank.svc", namespace="bank")


@pytest.mark.parametrize(
    "written", ["db.shop.svc", "db.shop.svc.", "db.shop.svc.cluster.local", "DB.shop.SVC.Cluster.Local."]
)
@pytest.mark.parametrize(
    "rule", ["{namespace}.svc", "{namespace}.svc.cluster.local", "shop.svc", "db.shop.svc.cluster.local"]
)
def test_a_service_is_the_same_with_and_without_the_clusters_domain(rule: str, written: str) -> None:
    assert permits(make_policy((rule,)), "10.0.0.1", written)
    assert not permits(make_policy(deny=(rule,)), "10.0.0.1", written)
    assert not permits(make_policy((rule,)), "10.0.0.1", written.lower().replace("shop", "bank"))
    assert permits(make_policy(deny=(rule,)), "10.0.0.1", written.lower().replace("shop", "bank"))


def test_a_short_name_is_denied_as_a_service_and_not_allowed_as_one() -> None:
    """`db.shop` is a Service only while there is one: otherwise whoever owns `db.shop` in the internet is asked."""
    assert not permits(make_policy(deny=("kube-system.svc",)), "10.0.0.1", "db.kube-system")
    assert not permits(make_policy(("{namespace}.svc",)), "10.0.0.1", "db.shop")
    assert not permits(make_policy(("{namespace}.svc",)), "10.0.0.1", "shop.svc.example.com")


def test_a_cluster_may_have_a_domain_of_its_own() -> None:
    policy = replace(make_policy(("{namespace}.svc",)), domain="corp.example")
    assert permits(policy, "10.0.0.1", "db.shop.svc.corp.example")
    assert not permits(policy, "10.0.0.1", "db.shop.svc.cluster.local")


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("search headroom.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\n", "cluster.local"),
        ("nameserver 10.0.0.1\nsearch headroom.svc.corp.example svc.corp.example. corp.example\n", "corp.example"),
        ("search example.com\n", "cluster.local"),
        ("", "cluster.local"),
    ],
)
def test_the_clusters_domain_is_in_the_search_list(text: str, domain: str) -> None:
    assert find_cluster_domain(text) == domain


def test_replicas_are_reached_whatever_authors_may_name() -> None:
    policy = make_policy(("example.com",), deny=("10.0.0.0/8",))
    assert permits(policy, "10.1.2.3", "10.1.2.3", is_member=True)
    assert not permits(policy, "10.1.2.3", "10.1.2.3")


def test_the_api_server_is_refused_whatever_is_allowed() -> None:
    policy = make_policy(("10.96.0.1",), api="10.96.0.1")
    assert not permits(policy, "10.96.0.1")
    assert not permits(policy, "::ffff:10.96.0.1")
    assert not permits(policy, "10.96.0.1", is_member=True)
    assert permits(make_policy(api="api.example.com"), "10.96.0.1")


@pytest.mark.parametrize("text", ["", "db", "10.0.0.999", "1.2.3", "0x7f000001", "127.1", "2130706433"])
def test_what_is_no_address_is_not_connected_to(text: str) -> None:
    """The C library would read the last four as 127.0.0.1 or another address."""
    assert not permits(make_policy(), text)


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "*.example.com", "http://db", "a b", "-db", "{other}.svc", "db:5432"])
def test_a_rule_that_nobody_can_read_stops_the_start(entry: str) -> None:
    with pytest.raises(InvalidSpec, match="POLICY"):
        parse_host_rules(["example.com", entry], "POLICY")


@given(st.ip_addresses())
def test_every_form_of_an_address_is_judged_alike(address: IPv4Address | IPv6Address) -> None:
    if isinstance(address, IPv4Address):
        forms = [str(address), f"::ffff:{address}", f"64:ff9b::{address}"]
        assert len({permits(make_policy(), form) for form in forms}) == 1
    if any(ip_address(str(address)) in network for network in REFUSED):
        assert not permits(make_policy(), str(address))
