"""A status has only fields that something writes, and no message, page or column points at another."""

import ast
import re
from pathlib import Path
from typing import Any, get_args

import pytest

import headroom
from headroom.api.base import Model
from headroom.api.kinds import KINDS, KindDefinition

ROOT = Path(__file__).parents[3]
PACKAGE = Path(headroom.__file__).parent
WRITERS = [path.read_text() for path in sorted((PACKAGE / "reconcilers").rglob("*.py"))]
KEYS = {key for text in WRITERS for key in re.findall(r'"([a-z][A-Za-z]*)"', text)}
"""Every word that could be a key of a status."""
TEXTS = [
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if "adr" not in path.parts and path.name != "api.md"),
    *sorted(PACKAGE.rglob("*.py")),
    *sorted((ROOT / "charts" / "headroom" / "templates").glob("*")),
    ROOT / "README.md",
]
NAMED = re.compile(r"(?<![\w.])status\.(?!py\b|podIP\b)([a-z][A-Za-z]+)")
"""A field of a status of ours; a pod's address is named in its own manifest."""


def find_fields(model: type[Model]) -> set[str]:
    return {entry.alias or name for name, entry in model.model_fields.items()}


def find_models(model: type[Model]) -> set[type[Model]]:
    """The model and all that are in it."""
    found = {model}
    for entry in model.model_fields.values():
        found |= {inner for each in find_parts(entry.annotation) for inner in find_models(each)}
    return found


def find_parts(annotation: Any) -> set[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return {annotation}
    return set().union(*(find_parts(each) for each in get_args(annotation)))


def read_text(path: Path) -> str:
    """What a person reads of a file: of code, its strings."""
    text = path.read_text()
    if path.suffix != ".py":
        return text
    constants = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
    return "\n".join(value for value in constants if isinstance(value, str))


STATUSES = set().union(*(find_models(kind.status) for kind in KINDS))
ALL = set().union(*map(find_fields, STATUSES))
UNWRITTEN = ALL - KEYS


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_field_that_a_text_names_is_written(path: Path) -> None:
    fields = set().union(*(find_fields(kind.status) for kind in KINDS))
    assert set(NAMED.findall(read_text(path))) - fields == set()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.short_name)
def test_each_column_shows_a_field_that_is_written(kind: KindDefinition) -> None:
    for column in kind.columns:
        if column.path.startswith(".status."):
            for name in re.findall(r"(?<=\.)[a-z][A-Za-z]+(?=[.\[]|$)", column.path.removeprefix(".status")):
                assert name in KEYS or name == "type", column.path


def test_each_field_of_a_status_is_written() -> None:
    """One that waits for a later version says that something is measured or remembered which is not."""
    assert not UNWRITTEN
    assert {"desiredReplicas", "members", "reason", "method", "replayLagSeconds", "completionsPerSecond"} <= ALL
