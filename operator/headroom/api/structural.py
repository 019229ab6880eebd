"""Converts a model to the structural OpenAPI schema of a CustomResourceDefinition: inlined, without unions."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import SchemaSerializer, core_schema

from headroom.api.base import VALIDATIONS, Json, Model

DROPPED = frozenset({"title", "$defs", "additionalProperties"})
ORDER = ("description", "type", "default", "enum", "format", "properties", "required")


def build_schema(model: type[Model]) -> Json:
    """The structural schema of a model, every reference inlined, defaults as the API server applies them."""
    raw = model.model_json_schema(by_alias=True, mode="validation", schema_generator=_Generator)
    return _ordered(_convert(raw, raw.get("$defs", {})))


class _Generator(GenerateJsonSchema):
    """Writes a default as the field writes its value: `5m`, not ISO 8601."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        default = schema.get("default")
        if default is None or default == ():
            return inner
        if isinstance(default, BaseModel):
            return {"allOf": [inner], "default": {}}
        written = SchemaSerializer(schema["schema"]).to_python(default, mode="json")
        return {**inner, "default": written}


def _convert(node: Json, definitions: Json) -> Json:
    node = _flatten(node, definitions)
    schema: Json = {key: value for key, value in node.items() if key not in DROPPED}
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if "properties" in node:
        schema["properties"] = {name: _convert(inner, definitions) for name, inner in node["properties"].items()}
    if "items" in node:
        schema["items"] = _convert(node["items"], definitions)
    if isinstance(node.get("additionalProperties"), dict):
        schema["additionalProperties"] = _convert(node["additionalProperties"], definitions)
        schema["maxProperties"] = schema.pop("maxProperties", None) or schema.pop("maxItems", None)
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    return _with_default(schema)


def _flatten(node: Json, definitions: Json) -> Json:
    """Merge a reference, or the one member of `X or null`, with the keys beside it; the keys beside it win."""
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        return _merge(_flatten(target, definitions), node, "$ref")
    if "allOf" in node:
        return _merge(_flatten(node["allOf"][0], definitions), node, "allOf")
    if "anyOf" in node and not node.get("x-kubernetes-int-or-string"):
        members = [member for member in node["anyOf"] if member.get("type") != "null"]
        if len(members) != 1:
            raise ValueError(f"a union has no structural schema: {node['anyOf']}")
        return _merge(_flatten(members[0], definitions), node, "anyOf")
    return node


def _merge(inner: Json, outer: Json, dropped: str) -> Json:
    merged = {**inner, **{key: value for key, value in outer.items() if key != dropped}}
    rules = [*inner.get(VALIDATIONS, []), *outer.get(VALIDATIONS, [])]
    return {**merged, VALIDATIONS: rules} if rules else merged


def _with_default(schema: Json) -> Json:
    """Write the full default of an object that has rules: the API server checks them before it fills in the rest."""
    if "default" not in schema or "properties" not in schema or VALIDATIONS not in schema:
        return schema
    defaults = {name: inner["default"] for name, inner in schema["properties"].items() if "default" in inner}
    return {**schema, "default": defaults}


def _ordered(schema: Json) -> Json:
    """Put the keys that a reader looks for first; properties keep the order of the model."""
    keys = [*(key for key in ORDER if key in schema), *sorted(key for key in schema if key not in ORDER)]
    return {key: _ordered_value(key, schema[key]) for key in keys}


def _ordered_value(key: str, value: Any) -> Any:
    if key == "properties":
        return {name: _ordered(inner) for name, inner in value.items()}
    if key in ("items", "additionalProperties") and isinstance(value, dict):
        return _ordered(value)
    return value
