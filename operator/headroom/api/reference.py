"""The reference pages: one table for each object of the API, and one each for condition types and reasons."""

import ast
import inspect
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum

from headroom.api.base import VALIDATIONS, Json
from headroom.api.bounds import TEXT_TYPES, describe_bounds, describe_default
from headroom.api.kinds import KindDefinition
from headroom.api.structural import build_schema
from headroom.api.v1alpha1.common import GROUP, VERSION
from headroom.model.condition_types import ConditionType
from headroom.reasons import Reason

HEADER = "<!-- Generated from operator/headroom by `make crds`. Do not edit. -->\n"
FIX = "Fix:"
INTRODUCTION = """\
Durations are text such as `500ms`, `30s`, `5m`, `1h30m`; sizes are quantities such as `512Mi` or `20Gi`; ratios are
whole percents. A field without a default is optional unless it is marked as required. Its description says what
happens if it is absent. References stay in the namespace of the object.
"""


def build_api_page(kinds: Sequence[KindDefinition]) -> str:
    """The page of the API: each kind, its columns, and one table per object in its spec and status."""
    parts = [
        HEADER,
        f"# API reference: {GROUP}/{VERSION}\n",
        INTRODUCTION,
    ]
    for kind in kinds:
        parts += _kind_section(kind)
    return "\n".join(parts)


def build_reasons_page() -> str:
    """The page of condition types and reasons, from their docstrings."""
    parts = [
        HEADER,
        "# Conditions and reasons\n",
        "Every condition, event and decision carries a reason from this list. Its message names the object.\n",
        "## Condition types\n",
        *_texts_table("Type", ConditionType),
        "## Reasons\n",
        *_texts_table("Reason", Reason),
    ]
    return "\n".join(parts)


def describe(members: type[StrEnum]) -> dict[str, tuple[str, str]]:
    """Meaning and fix of each member, by its value, read from the docstring below it."""
    body = ast.parse(inspect.getsource(members)).body[0]
    if not isinstance(body, ast.ClassDef):
        raise TypeError(f"{members} is not a class")
    texts: dict[str, tuple[str, str]] = {}
    for statement, following in zip(body.body, [*body.body[1:], None], strict=True):
        match statement, following:
            case ast.Assign(value=ast.Constant(value=str(name))), ast.Expr(value=ast.Constant(value=str(text))):
                meaning, _, fix = " ".join(text.split()).partition(FIX)
                texts[name] = meaning.strip(), fix.strip()
    return texts


def _texts_table(title: str, members: type[StrEnum]) -> list[str]:
    texts = sorted(describe(members).items())
    rows = [f"| `{name}` | {meaning} | {_sentence(fix)} |" for name, (meaning, fix) in texts]
    return [f"| {title} | Meaning | What to do |", "| --- | --- | --- |", *rows, ""]


def _sentence(text: str) -> str:
    first = text.partition(" ")[0]
    return text if "_" in first or not first.islower() else text[:1].upper() + text[1:]


def _kind_section(kind: KindDefinition) -> list[str]:
    columns = [column for column in kind.columns if not column.is_wide]
    wide = [column for column in kind.columns if column.is_wide]
    lines = [
        f"## {kind.kind}\n",
        f"{kind.description}\n",
        f"Short name `{kind.short_name}`; in full `{kind.plural}.{GROUP}`.\n",
        f"`kubectl get {kind.short_name}` shows {_names(columns)}; `-o wide` adds {_names(wide)}.\n",
    ]
    for path, model in (("spec", kind.spec), ("status", kind.status)):
        for name, schema in _objects(path, build_schema(model)):
            lines += _object_section(kind, name, schema)
    return lines


def _names(columns: Sequence[object]) -> str:
    return ", ".join(f"`{getattr(column, 'name', '')}`" for column in columns)


def _objects(path: str, schema: Json) -> Iterator[tuple[str, Json]]:
    """Every object with fields of its own, parents first, with its path; `[]` marks a list's entries."""
    yield path, schema
    for name, inner in schema["properties"].items():
        item = inner.get("items", inner)
        if "properties" in item:
            yield from _objects(f"{path}.{name}{'[]' if 'items' in inner else ''}", item)


def _object_section(kind: KindDefinition, path: str, schema: Json) -> list[str]:
    required = set(schema.get("required", []))
    rows = [_row(f"{kind.kind} {path}", name, inner, required) for name, inner in schema["properties"].items()]
    rules = [f"* {_escape(entry['message'])}" for entry in schema.get(VALIDATIONS, [])]
    return [
        f"### {kind.kind} `{path}`\n",
        "| Field | Type | Default | Bounds | Description |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
        *(["Rules, each with its remedy:\n", *rules, ""] if rules else []),
    ]


def _row(owner: str, name: str, schema: Json, required: set[str]) -> str:
    default = f"`{describe_default(schema)}`" if describe_default(schema) else ""
    cells = [
        f"`{name}`",
        _type(f"{owner}.{name}", schema),
        "**required**" if name in required else default,
        describe_bounds(schema),
        schema.get("description", ""),
    ]
    return "| " + " | ".join(_escape(cell) for cell in cells) + " |"


def _type(path: str, schema: Json) -> str:
    if "properties" in schema:
        return f"[object](#{_anchor(path)})"
    if "items" in schema:
        return f"list of {_type(f'{path}[]', schema['items'])}"
    if "additionalProperties" in schema:
        return f"map to {_type(path, schema['additionalProperties'])}"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("pattern") in TEXT_TYPES:
        return TEXT_TYPES[schema["pattern"]]
    return "time" if schema.get("format") == "date-time" else str(schema["type"])


def _anchor(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub("[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
