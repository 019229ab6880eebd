"""Which of the members that are cut off is replaced next: one at a time, and only while the set is whole otherwise.

What cut one off may cut off all, and may hit what is made in its place as well. So the next one is given up only after
the one before was replaced by a member that streams; if that fails, the rest stays as it is.
"""

from collections.abc import Sequence

from headroom.model.replica import Role
from headroom.policy.replicaset.ejection import EvaluatedMember


def choose_cut_off(
    staying: Sequence[EvaluatedMember], *, wanted: int, may_replace: bool, has_other: bool
) -> EvaluatedMember | None:
    """The one whose turn it is: new ones, then standbys, then one that serves for want of others.

    `wanted` members make the set whole; `has_other`: a member other than those cut off serves well, or is about to.
    One that serves stays where it is, and a member more than wanted is begun beside it.
    """
    if not may_replace:
        return None
    spent = sorted((member for member in staying if member.verdict.is_cut_off), key=lambda member: member.facts.id)
    new = [member for member in staying if member.facts.role in (None, Role.PROVISIONING)]
    if new:
        return next((member for member in spent if member in new), None)
    standby = next((member for member in spent if member.facts.role is Role.STANDBY), None)
    if standby is not None and len(staying) >= wanted:
        return standby
    serving = next((member for member in spent if member.facts.role is Role.SERVING), None)
    return serving if len(staying) == wanted and not has_other else None
