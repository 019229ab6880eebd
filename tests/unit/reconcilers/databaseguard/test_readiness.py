"""Ready: the precise reason for everything that can be wrong, the remedy in the message, and recovery by itself."""

import re
from collections import Counter

import pytest

from headroom.api.kinds import DATABASE_GUARD
from headroom.errors import Refused
from headroom.model.database import Lsn
from headroom.ports.kube import SECRET
from headroom.reasons import Reason
from tests.unit.api.test_columns import show
from tests.unit.reconcilers.databaseguard.world import GuardWorld


async def test_first_sight_writes_every_condition_as_unknown(world: GuardWorld) -> None:
    seen: list[dict[str, str]] = []
    report = world.kube.replace_status

    async def watch(*args: object, **kwargs: object) -> object:
        status = kwargs["status"]
        seen.append({entry["type"]: entry["status"] for entry in status["conditions"]})
        return await report(*args, **kwargs)

    world.kube.replace_status = watch
    await world.step()
    assert seen[0] == {"Ready": "Unknown", "SignalAvailable": "Unknown", "Stalled": "Unknown"}
    assert set(seen[-1]) == set(seen[0])


async def test_a_healthy_server_is_ready_and_its_view_is_posted(world: GuardWorld) -> None:
    await world.run(8)
    assert world.ready == ("True", "Connected")
    assert world.condition("Stalled")["status"] == "False"
    assert world.condition("SignalAvailable")["status"] == "True"
    status = world.status
    assert status["systemIdentifier"] == world.primary.system_identifier
    assert status["state"] == "Healthy"
    assert status["connections"] == {"used": 0, "usable": 92, "budget": 55}
    assert status["commitLatencyMilliseconds"] > 0
    view = world.view
    assert view.is_ready
    assert view.target is not None
    assert view.target.host == "store-primary.shop.svc"
    assert view.replication is not None
    assert world.links is not None
    assert world.links.slots is not None
    assert view.server is not None
    assert len(view.marks) >= 5
    assert [mark.lsn for mark in view.marks] == sorted({mark.lsn for mark in view.marks})
    assert isinstance(view.marks[-1].lsn, Lsn)


async def test_what_is_accepted_and_not_acted_on_is_said_and_changes_no_verdict(world: GuardWorld) -> None:
    world.edit_spec(lambda spec: spec.update(mode="Enforce"))
    await world.run(3)
    assert world.ready == ("True", "Connected")
    assert world.condition("Ready")["message"].endswith("; accepted, but not acted on yet: mode")
    assert world.telemetry.reasons("store").count(Reason.NOT_ACTED_ON) == 1, "once for each generation"


REMARKS = {
    "a superuser": (lambda w: setattr(w.primary.roles["monitor"], "is_superuser", True), "LoginTooPowerful"),
    "in clear text": (
        lambda w: w.edit_spec(lambda spec: spec["connection"].update(tls={"mode": "disable"})),
        "TLSWeak",
    ),
    "no canary": (lambda w: w.edit_spec(lambda spec: spec.update(canary={"enabled": False})), "CanaryDisabled"),
}


@pytest.mark.parametrize("remark", REMARKS.values(), ids=REMARKS)
async def test_a_remark_is_in_the_line_of_a_guard_that_is_ready(world: GuardWorld, remark: tuple[object, str]) -> None:
    disturb, reason = remark
    disturb(world)
    await world.run(8)
    line = show(DATABASE_GUARD, world.body())
    assert (line["READY"], line["REASON"]) == ("True", reason)
    told = [(event.type_, str(event.reason)) for event in world.telemetry.events if str(event.reason) == reason]
    assert told == [("Normal", reason)], "once"
    assert world.condition("Stalled")["status"] == "False"


async def test_a_right_that_the_operator_lacks_waits_for_a_person(world: GuardWorld) -> None:
    refusal = Refused('secrets "store-monitor" is forbidden: User "x" cannot get', reason=Reason.FORBIDDEN)
    world.kube.faults.fail(refusal, verb="get", kind=SECRET, times=1000)
    await world.run(3)
    assert world.ready == ("False", "Forbidden")
    assert (world.condition("Stalled")["status"], world.condition("Stalled")["reason"]) == ("True", "Forbidden")


CASES = {
    "down": (lambda w: setattr(w.primary, "is_down", True), Reason.PRIMARY_UNREACHABLE, "False"),
    "hung": (lambda w: setattr(w.primary, "is_hung", True), Reason.PRIMARY_TIMEOUT, "False"),
    "unknown host": (lambda w: w.postgres.servers.clear(), Reason.HOST_NOT_FOUND, "True"),
    "wrong password": (
        lambda w: setattr(w.primary.roles["monitor"], "password", "changed"),
        Reason.PASSWORD_REJECTED,
        "True",
    ),
    "no database": (lambda w: setattr(w.primary, "database", "other"), Reason.DATABASE_NOT_FOUND, "True"),
    "pooler": (lambda w: setattr(w.primary, "is_pooler", True), Reason.NOT_A_DIRECT_CONNECTION, "True"),
    "too old": (lambda w: setattr(w.primary, "version", 130_012), Reason.UNSUPPORTED_VERSION, "True"),
    "too new": (lambda w: setattr(w.primary, "version", 190_000), Reason.UNSUPPORTED_VERSION, "True"),
    "full": (lambda w: w.primary.settings.update(max_connections="3"), Reason.NO_CONNECTION_LEFT, "False"),
    "no secret": (lambda w: w.remove_secret("store-monitor"), Reason.SECRET_NOT_FOUND, "True"),
    "no key": (lambda w: w.set_secret("store-monitor", username="x"), Reason.SECRET_KEY_MISSING, "True"),
    "empty key": (lambda w: w.set_secret("store-monitor", username="x", password="\n"), Reason.SECRET_INVALID, "True"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_what_is_wrong_is_named(world: GuardWorld, case: tuple[object, Reason, str]) -> None:
    disturb, reason, is_stalled = case
    disturb(world)
    await world.run(3)
    assert world.ready == ("False", str(reason))
    assert world.condition()["message"]
    assert world.condition("Stalled")["status"] == is_stalled
    assert world.condition("SignalAvailable")["status"] == "False"
    assert not world.view.is_ready
    assert world.view.finding.reason is reason
    assert world.links is None
    assert world.status["state"] == "Unknown"
    assert "monitor-password" not in str(world.status)


async def test_in_recovery_is_not_a_primary(world: GuardWorld) -> None:
    world.primary.upstream = world.primary
    await world.run(2)
    assert world.ready == ("False", "NotAPrimary")


async def test_a_corrected_secret_is_found_within_seconds(world: GuardWorld) -> None:
    world.set_secret("store-monitor", username="monitor", password="wrong")
    await world.run(5)
    assert world.ready == ("False", "PasswordRejected")
    message = world.condition()["message"]
    assert message.count("(Secret store-monitor)") == 1
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.search(rf"\(Secret store-monitor\), changed {moment}, refused since {moment}$", message)
    world.set_secret("store-monitor", username="monitor", password="monitor-password")
    before = world.clock.monotonic()
    while world.ready[0] != "True":
        await world.step()
    assert world.clock.monotonic() - before <= 4


async def test_a_corrected_host_takes_effect_at_once(world: GuardWorld) -> None:
    world.edit_spec(lambda spec: spec["connection"].update(host="no-such-host"))
    await world.run(5)
    assert world.ready[0] == "False"
    world.edit_spec(lambda spec: spec["connection"].update(host="store-primary"))
    await world.run(3)
    assert world.ready == ("True", "Connected")


async def test_a_refused_login_is_not_repeated_every_second(world: GuardWorld) -> None:
    world.set_secret("store-monitor", username="monitor", password="wrong")
    await world.run(60)
    assert 4 <= world.postgres.opened.count("observer") <= 8


async def test_a_password_mended_on_the_server_is_found(world: GuardWorld) -> None:
    world.primary.roles["monitor"].password = "rotated"
    await world.run(3)
    assert world.ready == ("False", "PasswordRejected")
    world.primary.roles["monitor"].password = "monitor-password"
    await world.run(12)
    assert world.ready == ("True", "Connected")


async def test_a_rotated_secret_is_taken_up_within_a_minute(world: GuardWorld) -> None:
    await world.run(2)
    world.primary.roles["monitor"].password = "rotated"
    world.set_secret("store-monitor", username="monitor", password="rotated")
    await world.run(63)
    assert world.ready == ("True", "Connected")
    assert world.view.target is not None
    assert world.view.target.credentials.password == "rotated"


async def test_a_restart_of_the_server_passes_by_itself(world: GuardWorld) -> None:
    await world.run(3)
    world.primary.is_down = True
    world.primary.restart()
    await world.run(60)
    assert world.ready == ("False", "PrimaryUnreachable")
    world.primary.is_down = False
    await world.run(4)
    assert world.ready == ("True", "Connected")
    assert world.view.marks[-1].taken_at >= world.clock.monotonic() - 3, "the canary goes on as well"


@pytest.mark.parametrize("right", ["pg_monitor", "pg_signal_backend", "pg_use_reserved_connections"])
async def test_a_missing_right_is_named_with_its_grant_and_leaves_ready_true(world: GuardWorld, right: str) -> None:
    world.primary.roles["monitor"].rights -= {right}
    await world.run(3)
    assert world.ready == ("True", "MissingRight")
    assert f'GRANT {right} TO "monitor"' in world.condition()["message"]
    assert world.view.is_ready
    expected = "False" if right == "pg_monitor" else "True"
    assert world.condition("SignalAvailable")["status"] == expected
    assert ("lockWaiters" in world.status) == (right != "pg_monitor")


@pytest.mark.parametrize(
    ("disturb", "reason"),
    [
        (lambda w: w.remove_secret("store-replication"), Reason.SECRET_NOT_FOUND),
        (lambda w: w.set_secret("store-replication", username="nobody", password="x"), Reason.PASSWORD_REJECTED),
    ],
    ids=["no secret", "wrong login"],
)
async def test_a_broken_replication_login_is_said_and_the_rest_works(
    world: GuardWorld, disturb: object, reason: Reason
) -> None:
    disturb(world)
    await world.run(6)
    assert world.ready == ("False", str(reason))
    assert "replicas cannot be made" in world.condition()["message"]
    assert "store-replication" in world.condition()["message"]
    assert world.view.is_ready, "pools and guard go on"
    assert world.links is not None
    assert world.links.slots is None
    world.set_secret("store-replication", username="replication", password="replication-password")
    await world.run(8)
    assert world.ready == ("True", "Connected")
    assert world.links is not None
    assert world.links.slots is not None


async def test_without_a_replication_login_nothing_is_missing(world: GuardWorld) -> None:
    world.edit_spec(lambda spec: spec["connection"].pop("replicationSecretRef"))
    await world.run(2)
    assert world.ready == ("True", "Connected")
    assert world.links is not None
    assert world.links.slots is None


async def test_tls_that_verifies_nothing_is_said(world: GuardWorld) -> None:
    world.edit_spec(lambda spec: spec["connection"].update(tls={"mode": "disable"}))
    await world.run(2)
    assert world.ready[0] == "True"
    assert "not encrypted" in world.condition()["message"]


async def test_an_ip_or_dotted_host_is_left_as_it_is(world: GuardWorld) -> None:
    other = world.postgres.add(type(world.primary)("10.1.2.3", roles=world.primary.roles))
    world.edit_spec(lambda spec: spec["connection"].update(host="10.1.2.3"))
    await world.run(2)
    assert world.view.target is not None
    assert world.view.target.host == other.host


async def test_a_spec_that_cannot_be_acted_on_is_named_by_field(world: GuardWorld) -> None:
    world.edit_spec(lambda spec: spec.update(cores=0))
    await world.step()
    assert world.ready == ("False", "InvalidSpec")
    assert "spec.cores" in world.condition()["message"]


async def test_another_system_is_held_until_a_person_accepts_it(world: GuardWorld) -> None:
    await world.run(2)
    first = world.primary.system_identifier
    world.primary.system_identifier = "7400000000000000009"
    world.primary.restart()
    await world.run(4)
    assert world.ready == ("False", "PrimaryReplaced")
    assert world.condition("Stalled")["status"] == "True"
    assert "headroom.dev/accept-system-identifier=7400000000000000009" in world.condition()["message"]
    assert world.status["systemIdentifier"] == first, "the pin stays"
    assert not world.view.is_ready
    world.annotate(**{"headroom.dev/accept-system-identifier": "7400000000000000009"})
    await world.run(4)
    assert world.ready == ("True", "Connected")
    assert world.status["systemIdentifier"] == "7400000000000000009"


async def test_the_pin_survives_a_restart_of_the_operator(world: GuardWorld) -> None:
    await world.run(2)
    await world.close()
    world.restart()
    world.primary.system_identifier = "7400000000000000009"
    await world.run(2)
    assert world.ready == ("False", "PrimaryReplaced")


async def test_a_lower_timeline_is_an_old_primary(world: GuardWorld) -> None:
    world.primary.timeline = 4
    await world.run(3)
    world.primary.timeline = 3
    await world.run(3)
    assert world.ready == ("False", "PrimaryStale")
    world.primary.timeline = 5
    await world.run(3)
    assert world.ready == ("True", "Connected")


async def test_a_timeline_that_moved_opens_every_connection_again(world: GuardWorld) -> None:
    await world.run(3)
    old = world.links
    world.primary.timeline = 2
    await world.reconciler.reconcile(world.body())
    assert world.ready == ("False", "InProgress"), "the canary's last mark is of timeline 1"
    await world.run(3)
    assert world.ready == ("True", "Connected")
    assert old is not None
    assert world.links is not None
    assert world.links.primary is not old.primary
    assert world.view.marks[-1].timeline == 2


async def test_a_steady_guard_calls_nobody_but_its_secrets_once_a_minute(world: GuardWorld) -> None:
    await world.run(30)
    world.kube.calls.clear()
    await world.run(300)
    assert {(verb, ref.kind) for verb, ref in world.kube.calls} == {("get", SECRET)}
    names = Counter(ref.name for _, ref in world.kube.calls)
    assert set(names) == {"store-monitor", "store-replication", "store-queue"}
    assert max(names.values()) <= 5


async def test_events_tell_each_change_once(world: GuardWorld) -> None:
    await world.run(5)
    world.primary.is_down = True
    await world.run(10)
    world.primary.is_down = False
    await world.run(5)
    ready = [reason for reason in world.telemetry.reasons("store") if reason is not Reason.STATE_CHANGED]
    assert ready == [Reason.CONNECTED, Reason.PRIMARY_UNREACHABLE, Reason.CONNECTED]
