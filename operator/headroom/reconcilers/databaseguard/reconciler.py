"""One pass of a DatabaseGuard: look at the server, judge it, tell the board, the status and the metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from headroom.errors import NotServed
from headroom.model.conditions import Condition, Truth
from headroom.policy.replicaset.timeouts import ABANDON_AFTER
from headroom.ports.clock import Clock
from headroom.ports.kube import REPLICA_SET, KubeReader, Manifest
from headroom.ports.postgres import Postgres
from headroom.ports.telemetry import Telemetry
from headroom.reasons import ConditionType, Reason
from headroom.reconcilers.board import GuardBoard, GuardView
from headroom.reconcilers.databaseguard import metrics
from headroom.reconcilers.databaseguard.access import Connector
from headroom.reconcilers.databaseguard.announce import announce
from headroom.reconcilers.databaseguard.canary import CanaryLoop
from headroom.reconcilers.databaseguard.draft import Reading, build_ready, build_status, unknown_status
from headroom.reconcilers.databaseguard.holding import Holding
from headroom.reconcilers.databaseguard.look import Look, look_at_server
from headroom.reconcilers.databaseguard.state import learn, remembered_state, shown_state
from headroom.reconcilers.databaseguard.sweep import Sweeper
from headroom.reconcilers.not_yet import NotYetEvents
from headroom.reconcilers.reporter import DesiredStatus, StatusReporter

PASS_EVERY = timedelta(seconds=1)
INVALID_EVERY = timedelta(seconds=30)
"""A spec that cannot be acted on changes by an edit, and an edit wakes the loop."""
HELP_EVERY = timedelta(seconds=2)
TEARDOWN_EVERY = timedelta(seconds=1)


@dataclass(slots=True)
class GuardReconciler:
    """Implements `Reconciler` for DatabaseGuards; the only writer of the board."""

    kube: KubeReader
    reporter: StatusReporter
    postgres: Postgres
    clock: Clock
    telemetry: Telemetry
    board: GuardBoard
    sweeper: Sweeper
    _holdings: dict[str, Holding] = field(default_factory=dict)
    _not_yet: NotYetEvents = field(init=False)

    def __post_init__(self) -> None:
        self._not_yet = NotYetEvents(self.telemetry)

    async def reconcile(self, body: dict[str, Any]) -> timedelta:
        """See `Reconciler.reconcile`."""
        if not (body.get("status") or {}).get("conditions"):
            body = await self.reporter.report(body, unknown_status())
        reading = await self._read(body)
        if reading.look.spec is not None:
            self._not_yet.tell(body, reading.look.spec)
        body = await self.reporter.report(body, build_status(reading, body, self.clock.now()))
        if build_ready(reading).status is Truth.TRUE:
            await self.sweeper.ensure_swept(self._hold(body), body)
        return _pause(reading.look)

    async def teardown(self, body: dict[str, Any]) -> timedelta | None:
        """Keep looking while a ReplicaSet still needs the server to give its slots back; then let go."""
        metadata = body["metadata"]
        users = await self._users_left(body)
        if not users:
            await self.forget(metadata["uid"])
            return None
        reading = await self._read(body)
        draft = build_status(reading, body, self.clock.now())
        message = f"waits for {', '.join(f'dbrs/{name}' for name in users)}, which still use this server"
        waiting = Condition(ConditionType.READY, Truth.FALSE, Reason.DELETING, message)
        others = tuple(condition for condition in draft.conditions if condition.type is not ConditionType.READY)
        await self.reporter.report(body, DesiredStatus((waiting, *others), draft.facts, draft.numbers))
        return TEARDOWN_EVERY

    async def forget(self, uid: str) -> None:
        """See `Reconciler.forget`."""
        self.reporter.forget(uid)
        self._not_yet.forget(uid)
        holding = self._holdings.pop(uid, None)
        if holding is None:
            return
        view = self.board.read(holding.namespace, holding.name)
        if view is not None and view.uid == uid:
            self.board.remove(holding.namespace, holding.name)
        self.telemetry.forget(namespace=holding.namespace, name=holding.name)
        await holding.close()

    async def _read(self, body: Manifest) -> Reading:
        """Look, learn, and tell everybody who needs the server; the status comes after that."""
        holding = self._hold(body)
        began = self.clock.monotonic()
        look = await look_at_server(Connector(self.kube, self.postgres, self.clock), holding, body)
        now = self.clock.monotonic()
        learn(holding, look, now)
        reading = self._compose(holding, look, now)
        ready = build_ready(reading)
        self.board.post(holding.namespace, holding.name, _view(holding, look, ready, now))
        announce(self.telemetry, holding, body, reading, ready, seconds=now - began)
        return reading

    def _compose(self, holding: Holding, look: Look, now: float) -> Reading:
        window = holding.canary.window
        return Reading(
            look=look,
            state=holding.state,
            shown=shown_state(holding, look),
            now=now,
            has_had_state=holding.has_had_state,
            mark_age_seconds=now - window.marks[-1].taken_at if window.marks else None,
            commit_seconds=window.worst_now(now) if look.spec is not None and look.spec.canary.enabled else None,
            system_identifier=holding.system_identifier,
            shared_with=tuple(sorted(self._neighbours(holding))),
        )

    def _neighbours(self, holding: Holding) -> list[str]:
        """Other guards that this process keeps on the same server."""
        return [
            other.name if other.namespace == holding.namespace else f"{other.name} in {other.namespace}"
            for other in self._holdings.values()
            if other is not holding and other.link is not None and other.system_identifier is not None
            and other.system_identifier == holding.system_identifier
        ]  # fmt: skip

    def _hold(self, body: Manifest) -> Holding:
        metadata, status = body["metadata"], body.get("status") or {}
        holding = self._holdings.get(metadata["uid"])
        if holding is None:
            holding = self._make_holding(metadata["namespace"], metadata["name"], metadata["uid"], status)
            self._holdings[metadata["uid"]] = holding
        return holding

    def _make_holding(self, namespace: str, name: str, uid: str, status: dict[str, Any]) -> Holding:
        labels = {"namespace": namespace, "name": name}
        telemetry = self.telemetry
        canary = CanaryLoop(
            self.clock,
            on_commit=lambda seconds: telemetry.record(metrics.COMMIT_SECONDS, seconds, **labels),
            on_failure=lambda reason: telemetry.record(metrics.CANARY_FAILURES, 1, reason=reason, **labels),
        )
        now = self.clock.monotonic()
        state = remembered_state(status, now, self.clock.now())
        return Holding(
            namespace,
            name,
            uid,
            canary,
            state,
            now,
            system_identifier=status.get("systemIdentifier"),
            has_had_state=state.level is not None,
            said_state=state,
        )

    async def _users_left(self, body: Manifest) -> list[str]:
        """The users; raises NotServed until that has lasted too long: the kind went, and its sets with it."""
        metadata = body["metadata"]
        try:
            return await self._users(metadata["namespace"], metadata["name"])
        except NotServed:
            began = datetime.fromisoformat(metadata["deletionTimestamp"])
            if self.clock.now() - began < ABANDON_AFTER:
                raise
            return []

    async def _users(self, namespace: str, name: str) -> list[str]:
        """ReplicaSets that refer to the guard, being deleted or not."""
        sets = await self.kube.list(REPLICA_SET, namespace)
        return [item["metadata"]["name"] for item in sets if _guard_of(item) == name]


def _guard_of(replica_set: Manifest) -> object:
    """The guard that a set names; its spec may be one that cannot be acted on."""
    spec = replica_set.get("spec")
    reference = spec.get("databaseRef") if isinstance(spec, Mapping) else None
    return reference.get("name") if isinstance(reference, Mapping) else None


def _view(holding: Holding, look: Look, ready: Condition, now: float) -> GuardView:
    if not look.is_ready:
        return GuardView(holding.uid, is_ready=False, reason=ready.reason, message=ready.message, looked_at=now)
    access = holding.access
    return GuardView(
        holding.uid,
        is_ready=True,
        reason=ready.reason,
        message=ready.message,
        looked_at=now,
        target=access.target if access is not None else None,
        replication=access.replication if access is not None else None,
        server=look.server,
        connections=look.counts,
        marks=holding.canary.window.marks,
        primary=holding.link,
        slots=holding.slots,
    )


def _pause(look: Look) -> timedelta:
    if look.problem is None:
        return PASS_EVERY
    return INVALID_EVERY if look.spec is None else HELP_EVERY
