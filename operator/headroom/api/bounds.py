"""Describes what a schema allows: for the reference page, and for `kubectl explain`, which shows descriptions only."""

import re

from headroom.api.base import VALIDATIONS, Json
from headroom.api.quantities import AMOUNT_PATTERN, DECIMAL_PATTERN, DURATION_PATTERN, QUANTITY_PATTERN

TEXT_TYPES = {
    DURATION_PATTERN: "duration",
    QUANTITY_PATTERN: "quantity",
    AMOUNT_PATTERN: "quantity",
    DECIMAL_PATTERN: "decimal in quotes",
}
LIMITS = {
    "minimum": "≥",
    "maximum": "≤",
    "minItems": "entries ≥",
    "maxItems": "entries ≤",
    "maxProperties": "entries ≤",
}


def describe_bounds(schema: Json) -> str:
    """Limits and rules of a single value, list or map; empty for an object, because its rules are listed separately."""
    if "properties" in schema or "enum" in schema:
        return ""
    rules = [_bound(entry["message"]) for entry in schema.get(VALIDATIONS, [])]
    limits = [f"{label} {schema[key]}" for key, label in LIMITS.items() if key in schema]
    if "maxLength" in schema and not rules and schema.get("pattern") not in TEXT_TYPES:
        limits.append(f"at most {schema['maxLength']} characters")
    return "; ".join([*limits, *dict.fromkeys(rules)])


def describe_default(schema: Json) -> str:
    """The default as a user would write it; empty without one, and for an object, because its fields have defaults."""
    default = schema.get("default")
    if default is None or isinstance(default, dict):
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def describe_schema(schema: Json) -> Json:
    """The same schema with type, bounds and default at the end of each description."""
    default = describe_default(schema)
    facts = [
        TEXT_TYPES.get(schema.get("pattern", ""), ""),
        describe_bounds(schema),
        f"default {default}" if default else "",
    ]
    suffix = "; ".join(fact for fact in facts if fact)
    if suffix and "description" in schema:
        schema = {**schema, "description": f"{schema['description']} ({suffix})"}
    return {key: _describe_below(key, value) for key, value in schema.items()}


def _describe_below(key: str, value: Json) -> Json:
    if key == "properties":
        return {name: describe_schema(inner) for name, inner in value.items()}
    return describe_schema(value) if key in {"items", "additionalProperties"} else value


def _bound(remedy: str) -> str:
    """What a rule allows, taken from its message, which says what to write."""
    return re.sub(r"^a (duration|size) from (\S+ to \S+),.*$", r"\2", remedy.removeprefix("write "))
