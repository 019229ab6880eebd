"""What a schema allows, in words: for the reference page, and for `kubectl explain`, which shows descriptions only."""

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
    """Limits and rules of a single value, list or map; empty for objects, whose rules stand by themselves."""
    if "properties" in schema or "enum" in schema:
        return ""
    rules = [_bound(entry["message"]) for entry in schema.get(VALIDATIONS, [])]
    limits = [f"{words} {schema[key]}" for key, words in LIMITS.items() if key in schema]
    if "maxLength" in schema and not rules and schema.get("pattern") not in TEXT_TYPES:
        limits.append(f"at most {schema['maxLength']} characters")
    return "; ".join([*limits, *dict.fromkeys(rules)])


def describe_default(schema: Json) -> str:
    """The default as a user would write it; empty for none, and for objects, whose fields have theirs."""
    default = schema.get("default")
    if default is None or isinstance(default, dict):
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def explain(schema: Json) -> Json:
    """The same schema with type, bounds and default at the end of each description."""
    default = describe_default(schema)
    facts = [
        TEXT_TYPES.get(schema.get("pattern", ""), ""),
        describe_bounds(schema),
        f"default {default}" if default else "",
    ]
    said = "; ".join(fact for fact in facts if fact)
    explained = (
        {**schema, "description": f"{schema['description']} ({said})"} if said and "description" in schema else schema
    )
    return {key: _explain_below(key, value) for key, value in explained.items()}


def _explain_below(key: str, value: Json) -> Json:
    if key == "properties":
        return {name: explain(inner) for name, inner in value.items()}
    return explain(value) if key in {"items", "additionalProperties"} else value


def _bound(remedy: str) -> str:
    """What a rule allows, from what it tells people to write."""
    return re.sub(r"^a (duration|size) from (\S+ to \S+),.*$", r"\2", remedy.removeprefix("write "))
