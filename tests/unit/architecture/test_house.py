"""The house rules that no other tool holds: sizes, and the folder that shares its name with the standard library."""

import ast
import operator
import re
from pathlib import Path

import pytest

from headroom.model.condition_types import ConditionType
from headroom.reasons import Reason

ROOT = Path(__file__).parents[3]
MODULES = sorted((ROOT / "operator").rglob("*.py")) + sorted((ROOT / "e2e").rglob("*.py"))
SAID = "".join(path.read_text() for path in MODULES if path.name not in ("reasons.py", "condition_types.py"))
OPERATOR = ROOT / "operator/headroom"
MAX_MODULE, MAX_FUNCTION = 400, 50


def name_of(path: Path) -> str:
    """How a test names a module."""
    return str(path.relative_to(ROOT))


def test_operator_stays_the_standard_librarys() -> None:
    assert not (ROOT / "operator/__init__.py").exists()
    assert operator.itemgetter(0)([7]) == 7


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= MAX_MODULE
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    long = [f"{node.name} {node.end_lineno - node.lineno + 1}" for node in functions if _length(node) > MAX_FUNCTION]
    assert not long


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_type_is_waved_through_in_the_operator(path: Path) -> None:
    if path.is_relative_to(ROOT / "operator"):
        assert "type: ignore" not in path.read_text()


@pytest.mark.parametrize("name", [*ConditionType.__members__, *Reason.__members__])
def test_every_reason_and_condition_is_said_somewhere(name: str) -> None:
    """A reason that nothing gives would be a promise in the reference that nobody keeps."""
    assert re.search(rf"\.{name}\b", SAID)


ALLOWED = {
    "model": {"errors", "model", "reasons"},
    "api": {"api", "errors", "model", "reasons"},
    "policy": {"api", "errors", "model", "policy", "reasons"},
    "manifests": {"api", "errors", "manifests", "model", "reasons"},
    "simulation": {"api", "errors", "model", "policy", "reasons", "simulation"},
    "composition.py": {"policy", "ports", "reconcilers"},
}
"""What these rooms may import of ours, narrower than the layers of the import contracts."""


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_what_they_may(room: str) -> None:
    paths = [path for path in MODULES if path.is_relative_to(OPERATOR / room)]
    assert paths or room == "simulation"
    for path in paths:
        assert find_rooms(path.read_text()) <= ALLOWED[room], path


def test_imports_are_found_wherever_they_stand() -> None:
    text = (
        "import kopf\nimport headroom.app\ndef f():\n    from headroom.model import lsn\nfrom headroom import reasons"
    )
    assert find_rooms(text) == {"app", "model", "reasons"}


@pytest.mark.parametrize("path", [path for path in MODULES if path.is_relative_to(OPERATOR)], ids=name_of)
def test_only_the_clock_reads_the_clock(path: Path) -> None:
    if path.is_relative_to(OPERATOR / "adapters/clock"):
        return
    text = path.read_text()
    assert not re.search(r"^\s*(import time\b|from time import)", text, re.MULTILINE)
    assert not re.search(r"\bdatetime\.(now|utcnow|today)\(|\bdate\.today\(", text)


def find_rooms(text: str) -> set[str]:
    """The parts of the operator that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "headroom":
            names |= {f"headroom.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.split(".")[1] for name in names if name.startswith("headroom.")}


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1
