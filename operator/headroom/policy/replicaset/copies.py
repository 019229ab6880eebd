"""The copies of a set: what a row of passes shows of them, and what one pass decided."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from headroom.model.conditions import Finding
from headroom.model.copies import NONE, CopySource, is_standby
from headroom.model.database import Mark
from headroom.model.frozen import FrozenMap
from headroom.model.replica import PodFacts, Stage
from headroom.policy.replicaset.copy_estimate import WalHistory
from headroom.policy.replicaset.copy_progress import CopyProgress
from headroom.policy.replicaset.facts import MemberFacts
from headroom.policy.replicaset.members import EvaluatedMember, StageVerdict
from headroom.policy.replicaset.restores import ANY_COPY, Choice
from headroom.reasons import Reason

SEED_TRIES_AGAIN = 1
"""The seed step's exit status when the copy failed."""
SEED_WITHOUT_SOURCE = 5
"""Its exit status on a volume without a copy when no source was chosen."""


@dataclass(frozen=True, slots=True)
class CopyMemory:
    """What a row of passes shows of the copies.

    `unfilled` names the members whose volume has no complete copy. A new process takes the others for filled, and the
    seed step tells where that is wrong. `failed` are the standbys from which the copy of a member failed, by its name.
    `rates` are those of the copies that run, by uid of the pod, `last_rate` is that of the last one that succeeded, all
    in bytes per second: how slow one became that came to nothing says nothing about the next.
    """

    unfilled: frozenset[str] = frozenset()
    failed: FrozenMap[str, frozenset[str]] = field(default_factory=FrozenMap)
    rates: FrozenMap[str, float] = field(default_factory=FrozenMap)
    last_rate: float | None = None
    wal: WalHistory = field(default_factory=WalHistory)

    def observe(
        self, found: Sequence[MemberFacts], copies: Mapping[str, CopyProgress], marks: tuple[Mark, ...]
    ) -> "CopyMemory":
        """Take up one pass."""
        names = {member.name for member in found}
        failed = {name: sources for name, sources in self.failed.items() if name in names}
        for member in found:
            source = _find_failed(member, found)
            if source:
                failed[member.name] = failed.get(member.name, frozenset()) | {source}
        measured = {uid: copy.rate or self.rates.get(uid) for uid, copy in copies.items()}
        done = [member.pod.uid for member in found if member.pod is not None and member.pod.seed.is_done]
        return CopyMemory(
            unfilled=frozenset(member.name for member in found if self._is_unfilled(member)),
            failed=FrozenMap(failed),
            rates=FrozenMap((uid, rate) for uid, rate in measured.items() if rate),
            last_rate=min((self.rates[uid] for uid in done if uid in self.rates), default=self.last_rate),
            wal=self.wal.observe(marks),
        )

    @property
    def rate(self) -> float | None:
        """How fast another copy may be expected to go; None while nobody knows."""
        return min(self.rates.values(), default=self.last_rate)

    def _is_unfilled(self, member: MemberFacts) -> bool:
        pod = member.pod
        if member.claim is None:
            return pod is None
        if member.claim.restored_from:
            return False
        if pod is None:
            return member.name in self.unfilled
        if pod.copy_source == NONE and pod.seed.exit_code != SEED_WITHOUT_SOURCE:
            return pod.is_copying and member.name in self.unfilled
        return pod.is_copying


def _find_failed(member: MemberFacts, found: Iterable[MemberFacts]) -> str:
    """The standby from which the copy of a member failed, or will, since that one is gone; empty if there is none."""
    pod = member.pod
    if pod is None or not pod.is_copying or not is_standby(pod.copy_source):
        return ""
    if pod.seed.exit_code == SEED_TRIES_AGAIN:
        return pod.copy_source
    source = next((other for other in found if other.name == pod.copy_source), None)
    return pod.copy_source if source is None or _is_gone(source, pod) else ""


def _is_gone(source: MemberFacts, copy: PodFacts) -> bool:
    """The server that the copy began from runs no more: a pod that was recreated has another address."""
    pod = source.pod
    if pod is None or pod.is_deleting or pod.is_ended:
        return True
    return pod.created_at > copy.created_at


@dataclass(frozen=True, slots=True)
class Copies:
    """What to do about the copies of a set. `sources` are of the members whose pods may be created now, `waits` say
    why others may not, both by name. `choices` are of the members without a claim that are restored since a copy would
    have to wait. `begin` is what a further member is created from, `refusal` says why none is begun. `lost` names the
    members whose pods are recreated, with another source.
    """

    sources: FrozenMap[str, CopySource] = field(default_factory=FrozenMap)
    waits: FrozenMap[str, Finding] = field(default_factory=FrozenMap)
    choices: FrozenMap[str, Choice] = field(default_factory=FrozenMap)
    begin: Choice = ANY_COPY
    refusal: Finding | None = None
    lost: frozenset[str] = frozenset()

    def settle(self, members: Iterable[EvaluatedMember]) -> tuple[EvaluatedMember, ...]:
        """The members, each with what it is made from in the end; one that waits for a source has that as verdict."""
        return tuple(self._settle(member) for member in members)

    def _settle(self, member: EvaluatedMember) -> EvaluatedMember:
        if member.name in self.choices:
            return replace(member, facts=replace(member.facts, choice=self.choices[member.name]))
        wait, verdict = self.waits.get(member.name), member.verdict
        if wait is None or verdict.stage is not Stage.SEEDED:
            return member
        is_failed = wait.reason is Reason.SEED_FAILED
        return replace(member, verdict=StageVerdict(Stage.SEEDED, wait.reason, wait.message, is_failed))
