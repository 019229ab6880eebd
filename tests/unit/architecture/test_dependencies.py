"""What the image carries is what the operator imports."""

import ast
import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[3]


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_declared() -> set[str]:
    """Names of the runtime dependencies, without extras and versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {normalize(re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0]) for line in project["dependencies"]}


def find_imported() -> set[str]:
    """Top-level modules that any module of the operator imports."""
    found: set[str] = set()
    for path in (ROOT / "operator").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


def test_every_runtime_dependency_is_imported() -> None:
    owners = packages_distributions()
    used = {normalize(name) for module in find_imported() for name in owners.get(module, ())}
    declared = read_declared()
    assert len(declared) >= 5
    assert declared - used == set()
