"""The chart's values, their schema, the settings of the code and the version agree."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import headroom
from headroom import settings

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "headroom"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = yaml.safe_load((CHART / "values.schema.json").read_text())
VARIABLE = re.compile(r"HEADROOM_[A-Z_]+")


def iterate_objects(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of the schema that lists its properties, by its path in the values."""
    if "properties" in schema:
        yield path, schema
        for name, inner in schema["properties"].items():
            yield from iterate_objects(inner.get("items", inner), f"{path}.{name}")


def test_every_value_has_a_schema_and_every_schema_a_value() -> None:
    for path, schema in iterate_objects(SCHEMA):
        values: Any = VALUES
        for step in path.split(".")[1:]:
            values = values[step]
        if isinstance(values, dict):
            assert values.keys() == schema["properties"].keys() - {"global"}, path


def test_the_schema_is_strict_and_describes_every_value() -> None:
    for path, schema in iterate_objects(SCHEMA):
        assert schema["additionalProperties"] is False, path
        for name, inner in schema["properties"].items():
            assert len(inner.get("description", "")) >= 10, f"{path}.{name}"
            assert inner["description"].endswith("."), f"{path}.{name}"


def test_the_deployment_sets_every_setting_the_code_reads_and_no_other() -> None:
    known = set(VARIABLE.findall(Path(settings.__file__).read_text()))
    assert set(VARIABLE.findall((CHART / "templates" / "deployment.yaml").read_text())) == known
    assert set(VARIABLE.findall((CHART / "templates" / "uninstall.yaml").read_text())) <= known


def test_choices_of_the_schema_are_those_of_the_code() -> None:
    log = SCHEMA["properties"]["log"]["properties"]
    for text in log["format"]["enum"]:
        assert settings.parse_settings({"HEADROOM_LOG_FORMAT": text}).log_format == text
    for text in log["level"]["enum"]:
        assert settings.parse_settings({"HEADROOM_LOG_LEVEL": text}).log_level == text


def test_the_chart_installs_the_version_of_the_code() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == headroom.__version__


def test_the_charts_crds_are_copies_of_the_generated_ones() -> None:
    copies = {path.name: path.read_text() for path in (CHART / "files" / "crds").glob("*.yaml")}
    generated = {path.name: path.read_text() for path in (ROOT / "crds").glob("*.yaml")}
    assert len(generated) == 3
    assert copies == generated, "run `make chart`"


def test_each_crd_has_the_one_place_where_the_chart_adds_its_annotation() -> None:
    for path in (ROOT / "crds").glob("*.yaml"):
        text = path.read_text()
        assert len(re.findall(r"^metadata:\n", text, re.MULTILINE)) == 1, path.name
        assert yaml.safe_load(text)["metadata"].keys() == {"name", "labels"}, path.name
