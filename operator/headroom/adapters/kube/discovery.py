"""Which kinds the API server serves: read once for each group and version; misses are remembered for a minute."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType

from headroom.adapters.kube.answers import translate_answer
from headroom.adapters.kube.calls import Call, build_group_path
from headroom.adapters.kube.transport import Transport
from headroom.ports import kube as ports
from headroom.ports.kube import Kind, ObjectRef

MISS_LASTS_SECONDS = 60.0
KNOWN = MappingProxyType(
    {(kind.api_version, kind.name): kind for kind in vars(ports).values() if isinstance(kind, Kind)}
)


@dataclass(frozen=True, slots=True)
class _DiscoveryCall(Call):
    """The resource list of a group and version."""

    @property
    def path(self) -> str:
        """`/api/v1` or `/apis/GROUP/VERSION`."""
        return build_group_path(self.ref.kind.api_version)


@dataclass(frozen=True, slots=True)
class Group:
    """What one group and version serves; `looked_at` is monotonic."""

    kinds: dict[str, Kind]
    scalable: frozenset[str]
    looked_at: float


@dataclass(slots=True)
class Discovery:
    """Answers from memory if it can; errors are not remembered."""

    transport: Transport
    _groups: dict[str, Group] = field(default_factory=dict)

    async def resolve(self, api_version: str, kind: str) -> Kind | None:
        """The kind with its plural, or None when the server has none such."""
        known = KNOWN.get((api_version, kind))
        if known is not None:
            return known
        group = await self._read(api_version, lambda group: kind in group.kinds)
        return group.kinds.get(kind)

    async def has_scale(self, kind: Kind) -> bool:
        """True when the kind has a scale subresource."""
        group = await self._read(kind.api_version, lambda group: kind.plural in group.scalable)
        return kind.plural in group.scalable

    async def serves(self, kind: Kind) -> bool:
        """True when the server serves the kind now; the server is asked each time."""
        group = await self._fetch(kind.api_version, self.transport.clock.monotonic())
        return kind.name in group.kinds

    async def _read(self, api_version: str, has_it: Callable[[Group], bool]) -> Group:
        now = self.transport.clock.monotonic()
        group = self._groups.get(api_version)
        # A hit stays valid for the life of a process; a miss may end when somebody installs a definition.
        if group is not None and (has_it(group) or now - group.looked_at < MISS_LASTS_SECONDS):
            return group
        group = await self._fetch(api_version, now)
        self._groups[api_version] = group
        return group

    async def _fetch(self, api_version: str, now: float) -> Group:
        ref = ObjectRef(Kind(api_version, "APIResourceList", ""), "", "")
        call = _DiscoveryCall("resolve", "GET", ref, "get")
        answer = await self.transport.send(call)
        if answer.status == 404:
            return Group({}, frozenset(), now)
        if not answer.is_success:
            raise translate_answer(call, answer)
        resources = answer.parse().get("resources") or []
        kinds = {
            entry["kind"]: Kind(api_version, entry["kind"], entry["name"])
            for entry in resources
            if "/" not in entry["name"]
        }
        scalable = frozenset(
            entry["name"].removesuffix("/scale") for entry in resources if entry["name"].endswith("/scale")
        )
        return Group(kinds, scalable, now)
