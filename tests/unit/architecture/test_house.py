"""The house rules that no other tool holds: sizes, and the folder that shares its name with the standard library."""

import ast
import operator
import re
from pathlib import Path

import pytest

from headroom.reasons import ConditionType, Reason

ROOT = Path(__file__).parents[3]
MODULES = sorted((ROOT / "operator").rglob("*.py")) + sorted((ROOT / "e2e").rglob("*.py"))
SAID = "".join(path.read_text() for path in MODULES if path.name != "reasons.py")
MAX_MODULE, MAX_FUNCTION = 400, 50


def test_operator_stays_the_standard_librarys() -> None:
    assert not (ROOT / "operator/__init__.py").exists()
    assert operator.itemgetter(0)([7]) == 7


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= MAX_MODULE
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    long = [f"{node.name} {node.end_lineno - node.lineno + 1}" for node in functions if _length(node) > MAX_FUNCTION]
    assert not long


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_type_is_waved_through_in_the_operator(path: Path) -> None:
    if path.is_relative_to(ROOT / "operator"):
        assert "type: ignore" not in path.read_text()


@pytest.mark.parametrize("name", [*ConditionType.__members__, *Reason.__members__])
def test_every_reason_and_condition_is_said_somewhere(name: str) -> None:
    """A reason that nothing gives would be a promise in the reference that nobody keeps."""
    assert re.search(rf"\.{name}\b", SAID)


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1
