"""Which addresses a spec may lead the operator to."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.errors import InvalidSpec
from headroom.policy.hosts import REFUSED, HostPolicy, find_api_server, parse_host_rules

REFUSED_ADDRESSES = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "169.254.169.254", "169.254.0.1", "100.100.100.200", "168.63.129.16",
    "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1",
    # The same behind another notation.
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::169.254.169.254", "64:ff9b::169.254.169.254",
    "64:ff9b::7f00:1", "2002:a9fe:a9fe::1", "2002:7f00:1::", "2001:0:0:0:0:0:8001:5601",
]  # fmt: skip
OPEN_ADDRESSES = ["10.0.0.7", "192.168.3.4", "172.16.0.1", "203.0.113.7", "100.64.0.9", "fd12:3456::7", "2001:db8::1"]


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
