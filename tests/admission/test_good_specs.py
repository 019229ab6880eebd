"""What we show to users is accepted: the smallest and fullest objects, and every example of docs and charts."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.admission.cases import KINDS, load_good
from tests.admission.server import Server

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
GROUP = "headroom.dev"
FENCE = re.compile(r"^```ya?ml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _examples() -> list[Any]:
    """Objects of our kinds in fenced blocks of Markdown and in plain YAML files that are not templates."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    files = [path for room in ("docs", "charts", "e2e") for path in sorted((ROOT / room).rglob("*.yaml"))]
    found = [(page, block) for page in pages for block in FENCE.findall(page.read_text())]
    found += [(path, path.read_text()) for path in files if "templates" not in path.parts]
    return [
        pytest.param(body, id=f"{path.relative_to(ROOT)}: {body['kind']} {body['metadata']['name']}")
        for path, text in found
        if f"apiVersion: {GROUP}/" in text
        for body in yaml.safe_load_all(text)
        if isinstance(body, dict) and str(body.get("apiVersion", "")).startswith(f"{GROUP}/")
    ]


@pytest.mark.parametrize("body", load_good(), ids=lambda body: f"{body['kind']} {body['metadata']['name']}")
def test_smallest_and_fullest_objects_are_accepted(server: Server, body: dict[str, Any]) -> None:
    assert server.try_create(GROUP, KINDS[body["kind"]], body) is None


@pytest.mark.parametrize("body", _examples())
def test_an_example_of_the_documentation_is_accepted(server: Server, body: dict[str, Any]) -> None:
    anywhere = {**body, "metadata": {key: value for key, value in body["metadata"].items() if key != "namespace"}}

    assert server.try_create(GROUP, KINDS[body["kind"]], anywhere) is None
