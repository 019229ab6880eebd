"""A race in the in-memory cluster: growth stops, the cause is named, and it survives a restart of the operator."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.model.condition_types import ConditionType
from headroom.model.moments import Moment
from headroom.policy.workerpool.gain import Gain
from headroom.policy.workerpool.gain_memory import Freeze, GainMemory, Phase, Verified
from headroom.policy.workerpool.wait_tally import IDLE
from headroom.reasons import Reason
from headroom.reconcilers.workerpool.effectiveness import build_effectiveness, restore_gain
from headroom.reconcilers.workerpool.growth_words import (
    LIFTS,
    Surroundings,
    describe_lift,
    describe_stop,
    describe_unmeasured,
)
from tests.unit.reconcilers.workerpool.world import TARGET, PoolWorld

NOW = Moment(5_000.0, datetime(2026, 1, 1, 12, tzinfo=UTC))
LATER = Moment(17.0, NOW.wall + timedelta(seconds=60))
GOLDEN = Path(__file__).parents[3] / "golden" / "effectiveness.txt"
STATEMENT = "UPDATE shops SET stock = 17 WHERE id = 4"
FREEZE = Freeze(
    workers=22,
    fewer_workers=15,
    fewer_rate=16.0,
    more_workers=30,
    more_rate=16.1,
    began_at=4_900.0,
    retry_at=5_300.0,
    pause_seconds=480.0,
    phase=Phase.HOLDING,
    phase_since=4_950.0,
    wait="Lock:transactionid",
    wait_share=0.95,
    statement="UPDATE shops SET stock = ? WHERE id = ?",
    is_idle_blocker=True,
)
FROZEN = GainMemory(template="abc", jobs=100, first_ready=15, reach=15, free_rate=2.0, free_jobs=100.0, freeze=FREEZE)
VERIFIED = Verified(15, 30.0, 30, 58.0, Gain(0.93, 0.8, 1.06, 1.93, 0.5))


class RaceWorld(PoolWorld):
    """Each worker does two jobs a second alone; a lock lets sixteen pass in all. Twenty arrive."""

    most = 16.0

    def __init__(self, **spec: Any) -> None:
        wanted = {"maxWorkers": 60, "databaseRole": "shop", "minWorkers": 4, **spec}
        super().__init__(wanted, replicas=4, start_seconds=2.0)
        self.roll_out("first")

    def roll_out(self, version: str) -> None:
        template = {"metadata": {"annotations": {"version": version}}}
        self.cluster.edit(TARGET, lambda item: item["spec"].update(template=template))

    def work(self, *, seconds: float, rate: float, service_rate: float) -> None:
        """As in the class before, with the lock; sessions show who waits for it."""
        told, running = self.probes.numbers, self.running()
        arrived = round(rate * seconds)
        done = min(told.backlog + arrived, round(min(running * service_rate, self.most) * seconds))
        backlog = max(0, told.backlog + arrived - done)
        self.queue(
            arrived=(told.arrived or 0) + arrived,
            ended=(told.ended or 0) + done,
            backlog=backlog,
            late=backlog if backlog > 400 else 0,
            lag_seconds=backlog / self.most,
            in_flight=running if backlog else min(running, round(done / seconds / service_rate)) if seconds else 0,
        )
        holder = MemorySession("shop", "idle in transaction", STATEMENT)
        held_up = max(0, running - 8) if backlog else 0
        waiting = [MemorySession("shop", "active", STATEMENT, "Lock:transactionid", holder) for _ in range(held_up)]
        working = [MemorySession("shop", "active", STATEMENT) for _ in range(min(running, 7))]
        self.primary.sessions = [session for session in self.primary.sessions if session.role != "shop"]
        self.primary.sessions += [holder, *working, *waiting]

    async def freeze(self) -> float:
        """Let the race begin; seconds until it is named."""
        await self.advance(60, rate=6, service_rate=2.0)
        began = self.clock.monotonic()
        while self.condition("Effective")[0] != "False" and self.clock.monotonic() - began < 300:
            await self.advance(5, rate=20, service_rate=2.0)
        return self.clock.monotonic() - began

    def event_reasons(self) -> list[str]:
        return [str(event.reason) for event in self.telemetry.events]


async def test_a_race_is_named_within_three_minutes_and_stops_growth() -> None:
    world = RaceWorld()
    assert await world.freeze() <= 180
    await world.advance(120, rate=20, service_rate=2.0)
    assert world.condition("Effective") == ("False", "NoGainFromMoreWorkers")
    message = world.message("Effective")
    assert "they wait for Lock:transactionid, held by `UPDATE shops SET stock = ? WHERE id = ?` (idle in" in message
    assert "kubectl rollout restart deployment/mailer -n" in message
    assert "17" not in message.split("held by")[1].split("`")[1], "no value of a statement leaves the database"
    assert world.asked_for() <= 16, "twice of what eight useful workers do"
    assert world.condition("ScalingLimited") == ("True", "NoGainFromMoreWorkers")
    assert world.event_reasons().count("NoGainFromMoreWorkers") >= 1


async def test_a_freeze_survives_a_restart_and_a_new_pod_template_lifts_it() -> None:
    world = RaceWorld()
    await world.freeze()
    await world.advance(40, rate=20, service_rate=2.0)
    held = world.asked_for()
    world.restart()
    await world.advance(20, rate=20, service_rate=2.0)
    assert world.condition("Effective") == ("False", "NoGainFromMoreWorkers")
    assert world.asked_for() <= max(held, world.status()["effectiveness"]["workersAfter"])
    world.roll_out("second")
    await world.advance(5, rate=20, service_rate=2.0)
    assert world.condition("Effective") == ("Unknown", "GrowthResumed")
    assert world.event_reasons().count("GrowthResumed") == 1
    assert "frozenWorkers" not in world.status().get("effectiveness", {})


@pytest.mark.long
async def test_a_freeze_and_its_tries_outlast_many_changes_of_leader() -> None:
    """A new leader every 90 s for 21 min: each pause is twice the one before, and no leader begins anew."""
    world = RaceWorld()
    await world.freeze()
    found = world.status()["effectiveness"]
    began, frozen, most = found["frozenAt"], found["frozenWorkers"], found["workersAfter"]
    pauses, counts = [found["retryPauseSeconds"]], [world.asked_for()]
    for _ in range(14):
        world.restart()
        for _ in range(18):
            await world.advance(5, rate=20, service_rate=2.0)
            assert world.condition("Effective") == ("False", "NoGainFromMoreWorkers")
            counts += [world.asked_for()] if world.asked_for() != counts[-1] else []
        found = world.status()["effectiveness"]
        assert (found["frozenAt"], found["frozenWorkers"]) == (began, frozen)
        pauses += [found["retryPauseSeconds"]] if found["retryPauseSeconds"] != pauses[-1] else []
    assert pauses == [60.0, 120.0, 240.0, 480.0, 900.0]
    assert max(counts) <= most <= 16
    assert len(counts) <= 2 * len(pauses), "up and down once for each try"
    assert world.condition("ScalingLimited") == ("True", "NoGainFromMoreWorkers")


async def test_a_gate_that_is_switched_off_measures_nothing() -> None:
    world = RaceWorld(effectiveness={"enabled": False})
    await world.advance(60, rate=6, service_rate=2.0)
    await world.advance(180, rate=20, service_rate=2.0)
    assert world.condition("Effective") == ("Unknown", "NotYetObserved")
    assert world.asked_for() > 16
    assert world.primary.questions["waits"] == 0


async def test_a_calm_pool_asks_nobody_what_it_waits_for() -> None:
    world = RaceWorld()
    await world.advance(300, rate=6, service_rate=2.0)
    assert world.primary.questions["waits"] == 0


@pytest.mark.parametrize(
    "memory",
    [FROZEN, replace(FROZEN, freeze=None, verified=VERIFIED, reach=28), GainMemory()],
    ids=["frozen", "verified", "empty"],
)
def test_what_was_decided_comes_back_in_another_process(memory: GainMemory) -> None:
    kept = build_effectiveness(memory, NOW, {}) or {}
    found = restore_gain({"effectiveness": kept}, LATER)
    shift = LATER.to_monotonic("2026-01-01T12:00:00Z") - NOW.monotonic
    assert (found.reach, found.free_rate, found.template) == (memory.reach, memory.free_rate, memory.template)
    if memory.freeze is not None:
        wanted = replace(memory.freeze, began_at=4_900.0 + shift, retry_at=5_300.0 + shift, phase_since=17.0)
        assert found.freeze == replace(wanted, more_rate=16.0)
    else:
        assert found.freeze is None
    assert (found.verified is None) is (memory.verified is None)
    assert (build_effectiveness(found, LATER, kept) or {}) == kept, "a second round trip loses nothing more"


def test_a_try_and_a_trial_are_due_later_in_another_process_too() -> None:
    trying = replace(FROZEN, freeze=replace(FREEZE, phase=Phase.RETRYING, retry_at=NOW.monotonic + 110))
    found = restore_gain({"effectiveness": build_effectiveness(trying, NOW, {})}, LATER)
    assert found.freeze is not None
    assert (found.freeze.phase, found.freeze.pause_seconds) == (Phase.HOLDING, 480.0)
    assert found.freeze.retry_at == LATER.monotonic + 50
    trial = replace(FROZEN, freeze=replace(FREEZE, is_trial=True), trial_at=NOW.monotonic + 100)
    found = restore_gain({"effectiveness": build_effectiveness(trial, NOW, {})}, LATER)
    assert (found.freeze, found.trial_at) == (None, LATER.monotonic + 40)


AROUND = Surroundings("deployment/mailer", "shop", ready=22, wanted=40, most=60)
SURROUNDINGS: dict[str, Surroundings] = {
    "a kind that kubectl cannot restart": replace(AROUND, target="rollout/mailer"),
    "a kind whose template is not seen": replace(AROUND, target="rollout/mailer", has_template=False),
    "nobody asks for more": replace(AROUND, wanted=20),
    "maxWorkers is below what is held": replace(AROUND, most=15),
    "no worker could be taken away": replace(AROUND, ready=30),
}
CASES: dict[str, Freeze] = {
    "a lock that an idle transaction holds": FREEZE,
    "a lock that a statement holds": replace(FREEZE, is_idle_blocker=False, more_rate=17.5),
    "a lock whose holder is not known": replace(FREEZE, statement=None),
    "fewer were better": replace(FREEZE, more_rate=11.0),
    "the processors of the database": replace(FREEZE, wait="CPU", statement=None),
    "the disk of the database": replace(FREEZE, wait="IO:DataFileRead", statement=None),
    "nothing is known of the sessions": replace(FREEZE, wait=None, statement=None),
    "the sessions are idle": replace(FREEZE, wait=IDLE, statement=None),
    "more are tried": replace(FREEZE, phase=Phase.RETRYING, tried_from=22, tried=30),
    "one worker was as good": replace(FREEZE, workers=1, fewer_workers=1, more_workers=2),
}


def test_a_stop_that_only_lag_and_backlog_tell_says_so() -> None:
    text = describe_stop(FREEZE, NOW, replace(AROUND, is_estimated=True))
    assert text.startswith("30 workers do as much as 15 did (16/s), as lag and backlog tell: ")


def test_the_words_of_each_case_are_as_kept() -> None:
    """Case, condition, reason, message: what a person reads at 20:50."""
    lines = []
    for case, freeze in CASES.items():
        text = describe_stop(freeze, NOW, replace(AROUND, ready=freeze.workers))
        lines.append(f"{case}\n  {ConditionType.EFFECTIVE}=False {Reason.NO_GAIN_FROM_MORE_WORKERS}: {text}")
    for case, around in SURROUNDINGS.items():
        lines.append(f"{case}\n  {describe_stop(FREEZE, NOW, around)}")
    lines.append(
        f"a try is bounded by maxWorkers\n  {describe_stop(CASES['more are tried'], NOW, replace(AROUND, most=28))}"
    )
    lines += [f"lifted: {why}\n  {describe_lift(why)}" for why in LIFTS]
    unmeasured = replace(FROZEN, freeze=None, trial_at=NOW.monotonic + 120)
    lines.append(f"a trial without a result\n  {describe_unmeasured(unmeasured, NOW)}")
    assert GOLDEN.read_text() == "\n".join(lines) + "\n"


def test_what_a_leader_whose_clock_was_ahead_wrote_is_due_within_its_pause() -> None:
    ahead = Moment(NOW.monotonic, NOW.wall + timedelta(hours=1))
    trial = replace(FROZEN, trial_at=NOW.monotonic + 500, trial_pause_seconds=240.0)
    found = restore_gain({"effectiveness": build_effectiveness(trial, ahead, {})}, NOW)
    assert found.freeze is not None
    assert (found.freeze.began_at, found.freeze.retry_at) == (NOW.monotonic, NOW.monotonic + FREEZE.pause_seconds)
    assert found.trial_at == NOW.monotonic + 240.0
