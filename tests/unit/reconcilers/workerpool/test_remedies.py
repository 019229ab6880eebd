"""Each remedy that a pool's messages name can be followed: the field exists, and kubectl knows the command."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import headroom
from headroom.api.base import Model
from headroom.api.v1alpha1 import DatabaseGuardSpec, WorkerPoolSpec, WorkerPoolStatus
from headroom.reasons import Reason

PACKAGE = Path(headroom.__file__).parent
SOURCES = [
    *sorted((PACKAGE / "policy" / "workerpool").glob("*.py")),
    *sorted((PACKAGE / "reconcilers" / "workerpool").glob("*.py")),
    *sorted((PACKAGE / "adapters" / "postgres" / "queues").glob("*.py")),
    PACKAGE / "policy" / "target_conflict.py",
    PACKAGE / "reconcilers" / "logins.py",
]
FIELD = re.compile(r"(?<![\w./@])((?:spec|queue|objective|behavior|connection|workers)\.[a-zA-Z]+(?:\.[a-zA-Z]+)*)")
WORD = re.compile(r"(?<![\w.%{(/_-])([a-z]+(?:[A-Z][a-z]+)+)(?![\w(])")
VERBS = {
    ("patch",): {"-n", "--type", "--patch"},
    ("rollout", "undo"): {"-n"},
    ("rollout", "restart"): {"-n"},
    ("describe", "pod"): {"-n", "-l"},
    ("logs",): {"-n", "-l", "--previous"},
}
"""Commands that messages use, with the options that kubectl knows for them."""
OF_OTHERS = ("spec.template.spec.terminationGracePeriodSeconds", "spec.replicas")
"""Fields of the workload that a pool scales."""


def texts_of(path: Path) -> Iterator[str]:
    """Every string of a module but its docstrings; a value of an f-string is `{}`."""
    tree = ast.parse(path.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)} - docs
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield render(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | inner:
            yield node.value


def render(node: ast.JoinedStr) -> str:
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)


TEXTS = sorted({(path.stem, text) for path in SOURCES for text in texts_of(path) if " " in text})
NAMED = sorted({(module, found[1]) for module, text in TEXTS for found in FIELD.finditer(text)})
COMMANDS = sorted({(module, text[text.index("kubectl ") :]) for module, text in TEXTS if "kubectl " in text})


def fields_of(model: type[Model]) -> dict[str, Any]:
    return {info.serialization_alias or info.alias or name: info for name, info in model.model_fields.items()}


def has_field(model: type[Model], parts: list[str]) -> bool:
    fields = fields_of(model)
    if not parts:
        return True
    if parts[0] not in fields:
        return False
    inner = [
        part for part in flatten(fields[parts[0]].annotation) if isinstance(part, type) and issubclass(part, Model)
    ]
    return len(parts) == 1 or any(has_field(part, parts[1:]) for part in inner)


def flatten(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from flatten(part)


def names_of(model: type[Model]) -> set[str]:
    """Names of the fields of a model, and of all models in it."""
    found = set(fields_of(model))
    for info in fields_of(model).values():
        for part in flatten(info.annotation):
            if isinstance(part, type) and issubclass(part, Model):
                found |= names_of(part)
    return found


WORDS = sorted({(module, word) for module, text in TEXTS for word in WORD.findall(text)})
KNOWN = {
    "terminationGracePeriodSeconds",
    *(name for model in (WorkerPoolSpec, WorkerPoolStatus, DatabaseGuardSpec) for name in names_of(model)),
}


@pytest.mark.parametrize(("module", "word"), WORDS)
def test_a_word_in_camel_case_is_a_field_that_exists(module: str, word: str) -> None:
    assert word in KNOWN, f"{module}: {word}"


def test_there_are_remedies_to_check() -> None:
    assert len(NAMED) > 12
    assert len(COMMANDS) >= 3


@pytest.mark.parametrize(("module", "path"), NAMED)
def test_a_field_that_a_message_names_exists(module: str, path: str) -> None:
    if path in OF_OTHERS:
        return
    parts = path.split(".")
    if parts[0] == "spec":
        assert has_field(WorkerPoolSpec, parts[1:]), f"{module}: {path}"
    else:
        assert has_field(WorkerPoolSpec, parts) or has_field(DatabaseGuardSpec, parts), f"{module}: {path}"


@pytest.mark.parametrize(("module", "text"), COMMANDS)
def test_a_command_that_a_message_names_can_be_pasted(module: str, text: str) -> None:
    words = re.split(r"[;,]| and ", text)[0].split()[1:]
    verb = next((known for known in VERBS if tuple(words[: len(known)]) == known), None)
    assert verb is not None, f"{module}: {text}"
    options = {word for word in words if word.startswith("-")}
    assert options <= VERBS[verb], f"{module}: {text}"
    assert "-n" in options, f"{module}: {text}: the namespace of a person's kubectl may be another one"


@pytest.mark.parametrize("reason", Reason, ids=str)
def test_a_reason_with_a_field_of_a_pool_names_one_that_exists(reason: Reason) -> None:
    """The reference of reasons is generated from their docstrings; a field in backticks with a dot is a path."""
    tree = ast.parse((PACKAGE / "reasons.py").read_text())
    (enum,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Reason"]
    for assignment, doc in zip(enum.body, enum.body[1:], strict=False):
        if not (isinstance(assignment, ast.Assign) and assignment.value.value == reason.value):  # type: ignore[attr-defined]
            continue
        assert isinstance(doc, ast.Expr)
        text = str(doc.value.value)  # type: ignore[attr-defined]
        for found in re.findall(r"`(?:spec\.)?((?:objective|behavior|queue)\.[a-zA-Z.]+)`", text):
            assert has_field(WorkerPoolSpec, found.split(".")), f"{reason}: {found}"
