"""A set driven by its plans while every step may be cut off: the Service keeps an endpoint, and all ends as asked."""

import itertools
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headroom.model.replica import ClaimFacts, MemberId, PodFacts, Role
from headroom.policy.replicaset.members import EvaluatedMember, Member
from headroom.policy.replicaset.plan import Plan, decide_plan
from headroom.policy.replicaset.replay_lag import LagVerdict, NotEligible
from headroom.policy.replicaset.stages import decide_stage
from headroom.policy.replicaset.stream_loss import find_streaming
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    BEYOND,
    NOW,
    WITHIN,
    context,
    make_claim,
    make_pod,
    make_probe,
    make_slot,
    make_targets,
)


class Interrupted(RuleBasedStateMachine):
    """Members as facts; each rule applies a part of the present plan, or lets the world move."""

    def __init__(self) -> None:
        super().__init__()
        self.members: dict[str, Member] = {}
        self.numbers = itertools.count()
        self.desired, self.standbys = 1, 1
        self.had_served = False

    @initialize(desired=st.integers(1, 3), standbys=st.integers(0, 2))
    def start(self, desired: int, standbys: int) -> None:
        self.desired, self.standbys = desired, standbys

    def plan(self) -> Plan:
        near = context(streaming=find_streaming(self.members.values()))
        judged = [EvaluatedMember(member, decide_stage(member, near)) for member in self.members.values()]
        targets = make_targets(desired=self.desired, standbys=self.standbys, max_concurrent=2)
        return decide_plan(judged, targets, NOW)

    def serving(self) -> list[Member]:
        return [member for member in self.members.values() if member.role is Role.SERVING and member.is_alive]

    def set_role(self, name: str, role: Role, **changes: object) -> None:
        member = self.members[name]
        assert isinstance(member.pod, PodFacts)
        pod = replace(member.pod, role=role, draining_since=None, why=None)
        self.members[name] = replace(member, pod=replace(pod, **changes), is_listed=role is Role.SERVING)

    @rule(count=st.integers(1, 4))
    def scale(self, count: int) -> None:
        self.desired = count

    @rule(data=st.data())
    def act_on_one_step(self, data: st.DataObject) -> None:
        """Carry out one step of the plan, then be killed: the next plan is made from what is there."""
        plan = self.plan()
        steps = [
            *(("out", entry.name) for entry in (*plan.eject, *plan.drain)),
            *(("serve", name) for name in plan.activate[: plan.needed]),
            *(("accept", name) for name in (*plan.accept, *plan.pool)),
            *(("retire", entry.name) for entry in plan.retire),
            *(("begin", "") for _ in range(plan.reserve)),
        ]
        if steps:
            self.carry_out(*data.draw(st.sampled_from(steps)))

    @rule()
    def act_on_the_whole_plan(self) -> None:
        self.carry_out_all()

    def carry_out_all(self) -> bool:
        plan = self.plan()
        for entry in (*plan.eject, *plan.drain):
            self.carry_out("out", entry.name)
        for name in plan.activate[: plan.needed]:
            self.carry_out("serve", name)
        for name in (*plan.accept, *plan.pool):
            self.carry_out("accept", name)
        for retirement in plan.retire:
            self.carry_out("retire", retirement.name)
        for _ in range(plan.reserve):
            self.carry_out("begin", "")
        return plan.is_empty

    def carry_out(self, step: str, name: str) -> None:
        if step == "begin":
            member = MemberId(next(self.numbers), "a")
            named = member.object_name("store")
            self.members[named] = Member(member, named, f"hr_a_b_{member.ordinal}_a", slot=make_slot())
        elif step == "out":
            self.set_role(name, Role.DRAINING, draining_since=NOW, why=Reason.REPLICAS_SET)
        elif step == "serve":
            self.set_role(name, Role.SERVING)
        elif step == "accept":
            self.set_role(name, Role.STANDBY)
        elif self.members[name].claim is None:
            del self.members[name]
        else:
            claim = self.members[name].claim
            assert isinstance(claim, ClaimFacts)
            self.members[name] = replace(self.members[name], claim=replace(claim, retire=Reason.RETIRED))

    @rule()
    def the_cluster_moves(self) -> None:
        """Claims and pods appear, copies end, marked members vanish, drained ones are empty."""
        for name, member in list(self.members.items()):
            if member.is_going:
                del self.members[name]
            elif member.claim is None:
                self.members[name] = replace(member, claim=make_claim(name=name))
            elif member.pod is None:
                pod = make_pod(Role.PROVISIONING, name=name, uid=name)
                self.members[name] = replace(member, pod=pod, probe=make_probe(), lag=WITHIN, within=2)
            elif member.role is Role.DRAINING:
                self.set_role(name, Role.DRAINING, draining_since=NOW.replace(year=2025), why=Reason.REPLICAS_SET)

    @precondition(lambda self: self.members)
    @rule(data=st.data(), lag=st.sampled_from([WITHIN, BEYOND, NotEligible(Reason.NOT_STREAMING, "")]))
    def a_member_lags_or_recovers(self, data: st.DataObject, lag: LagVerdict) -> None:
        name = data.draw(st.sampled_from(sorted(self.members)))
        is_late = lag is BEYOND
        refused, broken = (60.0, 900.0) if isinstance(lag, NotEligible) else (0.0, 0.0)
        member = replace(self.members[name], lag=lag, beyond=2 if is_late else 0, counted_age=refused)
        member = replace(member, broken_seconds=broken)
        self.members[name] = replace(member, within=2 if lag is WITHIN else 0)

    @invariant()
    def readers_keep_an_endpoint(self) -> None:
        if self.serving():
            self.had_served = True
        if self.had_served:
            assert self.serving()

    def teardown(self) -> None:
        """Undisturbed, any state ends as asked, and then the plan is empty."""
        for name, member in self.members.items():
            self.members[name] = replace(member, lag=WITHIN, within=2, beyond=0, counted_age=0.0, broken_seconds=0.0)
        for _ in range(60):
            is_empty = self.carry_out_all()
            before = dict(self.members)
            self.the_cluster_moves()
            if is_empty and before == self.members:
                break
        assert self.plan().is_empty
        assert len(self.serving()) == self.desired
        assert len(self.members) == self.desired + self.standbys


Interrupted.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestInterrupted = Interrupted.TestCase
