"""Lists whose entries are known by a key or by value, as server-side apply merges them; duplicates are refused."""

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from headroom.api.base import RULE_FAILED


@dataclass(frozen=True, slots=True)
class MapBy:
    """Annotates a tuple of models as a list-map: `key` is the field (by its YAML name) that tells entries apart."""

    key: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}

    def _check(self, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        _refuse_duplicates([getattr(entry, self.key) for entry in entries], f"give each entry its own {self.key}")
        return entries


@dataclass(frozen=True, slots=True)
class Unique:
    """Annotates a tuple of texts as a set."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "x-kubernetes-list-type": "set"}

    def _check(self, entries: tuple[str, ...]) -> tuple[str, ...]:
        _refuse_duplicates(list(entries), "name each entry once")
        return entries


def _refuse_duplicates(keys: list[Any], remedy: str) -> None:
    if len(set(keys)) != len(keys):
        raise PydanticCustomError(RULE_FAILED, "{message}", {"message": remedy, "field": ""})
