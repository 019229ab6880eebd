"""Which addresses the operator may connect to on behalf of a spec: checked after a name was resolved.

Four kinds of addresses are refused unless the administrator names them: loopback, link-local, those of no single host,
and the metadata services of clouds, which hand out credentials of the machine. The API server's are refused always.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from headroom.errors import InvalidSpec

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

OWN_NAMESPACE = "{namespace}"
"""Stands for the namespace of the object in a rule such as `{namespace}.svc`."""
REFUSED: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host, RFC 1122
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, with the metadata service of AWS, Azure, Google and most others
        "100.100.100.200/32",  # metadata service of Alibaba Cloud
        "168.63.129.16/32",  # Azure's host service
        "192.0.0.192/32",  # metadata service of Oracle Cloud Classic
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "::1/128",
        "fe80::/10",
        "fec0::/10",  # site-local, RFC 3879
        "64:ff9b:1::/48",  # NAT64, RFC 8215: each network has the IPv4 address at another place in it
        "fd00:ec2::/32",  # AWS: metadata, credentials of pods, name and time servers
        "fd20:ce::/32",  # Google Cloud: metadata
        "ff00::/8",
    )
)
_LAST_32_BITS: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "64:ff9b::/96",  # NAT64, RFC 6052
        "64:ff9b:1::/48",  # NAT64, RFC 8215, if the prefix has 96 bits
        "::ffff:0:0:0/96",  # SIIT, RFC 2765
        "::/96",  # compatible, RFC 4291
    )
)
"""Prefixes whose last 32 bits are an IPv4 address."""
ISATAP = 0x00005EFE
"""Bits 64 to 95 of an address with an IPv4 address behind them, whatever its prefix (RFC 5214)."""
CLUSTER_DOMAIN = "cluster.local"
_NAME = re.compile(r"\.?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


@dataclass(frozen=True, slots=True)
class HostRules:
    """Networks, and ends of names: `example.com` is that name and all below it."""

    networks: tuple[Network, ...] = ()
    names: tuple[str, ...] = ()

    def match(self, hosts: Collection[str], addresses: Collection[Address], namespace: str, domain: str) -> bool:
        """Whether one of these forms of a name, or an address it has, is meant."""
        names = [_shorten(name.replace(OWN_NAMESPACE, namespace), domain) for name in self.names]
        is_named = any(host == name or host.endswith(f".{name}") for host in hosts for name in names)
        return is_named or any(_is_in(address, self.networks) for address in addresses)

    def __bool__(self) -> bool:
        return bool(self.networks or self.names)


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """`allow` empty: every host that is not refused. Refused addresses need a rule of `allow` that is as narrow.

    `api_server` are addresses with the port, None for every port. `domain` is the cluster's own: with and without it,
    a name of a Service is the same.
    """

    allow: HostRules = HostRules()
    deny: HostRules = HostRules()
    api_server: frozenset[tuple[Address, int | None]] = field(default_factory=frozenset)
    domain: str = CLUSTER_DOMAIN

    def permits(self, host: str, address: str, port: int, *, namespace: str = "", is_member: bool = False) -> bool:
        """Whether the operator may connect to `address`, which `host` was resolved to.

        `is_member`: the address is that of a replica's pod, as the API server tells it, and no author chose it.
        """
        forms = _find_forms(address)
        if forms is None:
            return False
        if any((form, known) in self.api_server for form in forms for known in (port, None)):
            return False
        if any(_is_in(form, REFUSED) for form in forms) and not self._is_lifted(forms):
            return False
        if is_member:
            return True
        name = _shorten(host.lower().rstrip("."), self.domain)
        # `db.shop` is a Service by the search list, and may be a host of the internet: it is denied as both, and
        # allowed as the latter.
        if self.deny.match((name, f"{name}.svc"), forms, namespace, self.domain):
            return False
        return not self.allow or self.allow.match((name,), forms, namespace, self.domain)

    def _is_lifted(self, forms: Collection[Address]) -> bool:
        """A rule for a part of what is refused lifts it there; one for everything does not."""
        return all(
            any(_covers(refused, rule) and form in rule for rule in self.allow.networks)
            for form in forms
            for refused in REFUSED
            if form in refused
        )


def parse_host_rules(entries: Iterable[str], setting: str) -> HostRules:
    """Networks (CIDR), addresses and ends of names; raises InvalidSpec that names `setting`."""
    networks: list[Network] = []
    names: list[str] = []
    for entry in (text.strip().lower() for text in entries):
        network = _parse_network(entry)
        if network is not None:
            networks.append(network)
        elif _NAME.fullmatch(entry.replace(OWN_NAMESPACE, "namespace")):
            names.append(entry.removeprefix("."))
        elif entry:
            remedy = "write a network such as 10.0.0.0/8, or the end of a name such as example.com"
            raise InvalidSpec(setting, f"{entry!r} is neither a network nor a name", remedy)
    return HostRules(tuple(networks), tuple(names))


def find_api_server(host: str) -> frozenset[tuple[Address, int | None]]:
    """The API server's address for `HostPolicy`; nothing for a name, which has to be resolved first."""
    try:
        return frozenset({(ip_address(host), None)})
    except ValueError:
        return frozenset()


def find_cluster_domain(resolver_settings: str) -> str:
    """The cluster's domain by the search list of a pod's /etc/resolv.conf (`svc.cluster.local`)."""
    lists = (line.split()[1:] for line in resolver_settings.splitlines() if line.startswith("search"))
    found = (name.rstrip(".").lower() for names in lists for name in names)
    return next((name.removeprefix("svc.") for name in found if name.startswith("svc.")), CLUSTER_DOMAIN)


def _shorten(name: str, domain: str) -> str:
    """A name of a Service without the cluster's domain: `db.shop.svc`."""
    return name.removesuffix(f".{domain}") if name.endswith(f".svc.{domain}") else name


def _parse_network(text: str) -> Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _find_forms(text: str) -> tuple[Address, ...] | None:
    """The address, and the IPv4 address inside it, where a gateway or the kernel would take it out; None: neither."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return (address,)
    teredo = address.teredo
    inner = address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
    is_last = _is_in(address, _LAST_32_BITS) or int(address) >> 32 & 0xFDFFFFFF == ISATAP
    if inner is None and is_last and int(address) > 1:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    return (address,) if inner is None else (address, inner)


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _covers(wide: Network, narrow: Network) -> bool:
    return wide.prefixlen <= narrow.prefixlen and narrow.network_address in wide
