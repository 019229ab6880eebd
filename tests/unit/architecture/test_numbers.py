"""Numbers in texts from outside: `isdigit` is true for a superscript, at which `int` raises."""

import ast
from dataclasses import replace

import pytest

from headroom.errors import InvalidSpec
from headroom.manifests.configuration import build_floor, build_reserve
from headroom.policy.replicaset.admission import decide_wal_cap
from headroom.settings import parse_settings
from tests.unit.architecture.test_house import MODULES, ROOT
from tests.unit.policy.replicaset.make import SERVER

ODD = ["²", "1²", "٣٤", "1_000", " 7", "", "9" * 5000]


def test_no_module_asks_whether_a_text_is_a_digit() -> None:
    asked = []
    for path in MODULES:
        if path.is_relative_to(ROOT / "operator"):
            calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute))
            asked += [
                f"{path.name}:{call.lineno}" for call in calls if call.attr in ("isdigit", "isnumeric", "isdecimal")
            ]
    assert asked == [], "use headroom.model.text.parse_count"


@pytest.mark.parametrize("text", ODD)
def test_a_parameter_that_is_no_number_is_passed_over(text: str) -> None:
    server = replace(SERVER, settings={**SERVER.settings, "max_connections": "200", "max_slot_wal_keep_size": text})
    assert build_floor({"max_connections": text}, server)["max_connections"] == "200"
    assert build_reserve({"superuser_reserved_connections": text}, server) == build_reserve({}, server)
    assert decide_wal_cap(server, None) is None
    assert decide_wal_cap(replace(server, settings={"max_slot_wal_keep_size": "-1"}), None) is None
    assert decide_wal_cap(replace(server, settings={"max_slot_wal_keep_size": "100"}), None) == 50 * 1024**2


@pytest.mark.parametrize("text", [text for text in ODD if text.strip() == text and text])
def test_a_port_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="HEADROOM_METRICS_PORT"):
        parse_settings({"HEADROOM_METRICS_PORT": text})
