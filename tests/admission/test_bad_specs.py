"""Bad input is refused at admission, by the real API server, with a message that names the field and the remedy."""

import uuid

import pytest

from tests.admission.cases import KINDS, BadSpec, Change, load_bad_specs, load_changes
from tests.admission.server import Server

pytestmark = pytest.mark.cluster
GROUP = "headroom.dev"
FEWEST_ROWS = 60


def _ids(row: BadSpec | Change) -> str:
    return f"{row.kind}: {row.why}"


@pytest.mark.parametrize("row", load_bad_specs(), ids=_ids)
def test_a_bad_spec_is_refused_with_field_and_remedy(server: Server, row: BadSpec) -> None:
    refusal = server.try_create(GROUP, KINDS[row.kind], row.body)

    assert refusal is not None, f"accepted: {row.body['spec']}"
    assert refusal.has(row.field, row.says), f"want {row.says!r} at {row.field}, got: {refusal.message}"


@pytest.mark.parametrize("row", load_changes(), ids=_ids)
def test_a_forbidden_change_is_refused_with_field_and_remedy(server: Server, row: Change) -> None:
    refusal = _change(server, row)

    assert refusal is not None, f"accepted: {row.after['spec']}"
    assert refusal.has(row.field, row.says), f"want {row.says!r} at {row.field}, got: {refusal.message}"


@pytest.mark.parametrize("row", load_changes("allowed_changes"), ids=_ids)
def test_an_allowed_change_is_accepted(server: Server, row: Change) -> None:
    assert _change(server, row) is None


def test_the_table_is_as_long_as_promised() -> None:
    assert len(load_bad_specs()) >= FEWEST_ROWS


def _change(server: Server, row: Change) -> object:
    name = f"change-{uuid.uuid4().hex[:8]}"
    before, after = ({**body, "metadata": {"name": name}} for body in (row.before, row.after))
    before["spec"] = {**before["spec"], "mode": "Paused"}
    after["spec"] = {**after["spec"], "mode": "Paused"}
    server.create(GROUP, KINDS[row.kind], before)
    return server.try_replace(GROUP, KINDS[row.kind], after)
