"""The documentation agrees with the code: links, snippets, commands, reasons, words, generated pages."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.generate import BUILDERS, REFERENCE
from e2e.cluster.images import IMAGES
from headroom.reasons import Reason
from tests.admission.cases import SPECS, parse_body

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
TEXTS = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "changelog.d").glob("*.md")])
EXAMPLES = sorted((DOCS / "examples").glob("*.yaml"))
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
TARGET = re.compile(r"^([a-z0-9-]+):(?!=)", re.MULTILINE)
BANNED = re.compile(r"\b(master|slave|replicaset/)", re.IGNORECASE)
AMBIGUOUS = re.compile(
    r"kubectl[^\n`]* (scale|delete|annotate|patch|describe|wait|edit)[^\n`]* replicasets?(?!\.headroom\.dev)\b"
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def iterate_yaml(text: str, language: str = "yaml") -> Iterator[Any]:
    """Every YAML document of the fenced blocks of a page."""
    for indent, kind, block in FENCE.findall(text):
        if kind == language:
            dedented = "\n".join(line.removeprefix(indent) for line in block.splitlines())
            yield from (found for found in yaml.safe_load_all(dedented) if found)


def check_resource(found: dict[str, Any]) -> bool:
    """Read a resource of ours as the operator would; False when it is none."""
    if not str(found.get("apiVersion", "")).startswith("headroom.dev/"):
        return False
    assert found["apiVersion"] == "headroom.dev/v1alpha1"
    parse_body(found)
    return True


@pytest.mark.parametrize("name", ["how-to/prepare-a-primary.md", "explanation/architecture.md"])
def test_the_setup_script_counts_the_connections_as_the_pages_do(name: str) -> None:
    script = ROOT / "charts" / "headroom" / "files" / "headroom-setup.sql"
    for path in (DOCS / name, script):
        text = " ".join(path.read_text().replace("\n-- ", " ").split()).lower()
        assert re.findall(r"\b(\w+) connections(?: to (?:a|each) primary|, a fourth)", text) == ["three"], path
        assert "a fourth while workers are late" in text, path


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_every_link_to_a_file_of_ours_leads_somewhere(path: Path) -> None:
    for link in LINK.findall(path.read_text()):
        if not link.startswith(("http:", "https:")):
            target, _, anchor = link.partition("#")
            found = (path.parent / target).resolve() if target else path
            assert found.exists(), link
            assert not anchor or anchor in anchors_of(found), link


def anchors_of(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_can_be_reached_from_the_index() -> None:
    reached, waiting = set(), [DOCS / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            links = (link.partition("#")[0] for link in LINK.findall(page.read_text()))
            waiting += [(page.parent / link).resolve() for link in links if link.endswith(".md") and ":" not in link]
    assert set(DOCS.rglob("*.md")) <= reached


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_yaml_on_a_page_is_yaml_and_our_kinds_are_valid(path: Path) -> None:
    for found in iterate_yaml(path.read_text()):
        check_resource(found)


def test_there_are_snippets_to_check() -> None:
    snippets = [found for path in TEXTS for found in iterate_yaml(path.read_text())]
    assert sum(check_resource(found) for found in snippets) >= 3


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_every_example_is_valid(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    if not path.stem.startswith("try-out-"):
        assert any(check_resource(found) for found in documents)


def test_the_queue_to_try_out_runs_what_the_worker_image_has() -> None:
    text = (DOCS / "tutorial" / "first-replica-and-pool.md").read_text()
    found = list(yaml.safe_load_all((DOCS / "examples" / "try-out-workers.yaml").read_text()))
    pods = [one["spec"]["template"]["spec"] for one in found if one["kind"] in ("Job", "Deployment")]
    containers = [container for pod in pods for container in pod["containers"]]
    lines = [*(" ".join(one["command"]) for one in containers), *re.findall(r"exec deployment/commands -- (.*)", text)]
    assert len(lines) == 3
    for line in lines:
        _, path, *flags = line.split()
        script = path.removeprefix("/app/")
        source = (ROOT / "e2e" / "apps" / script).read_text()
        assert all(f'"{flag}"' in source for flag in flags if flag.startswith("--")), line
    assert {container["image"] for container in containers} == {IMAGES["worker"]}


def test_the_queue_to_try_out_fits_its_primary_and_its_pool() -> None:
    def read(name: str) -> dict[str, dict[str, Any]]:
        return {one["kind"]: one for one in yaml.safe_load_all((DOCS / "examples" / name).read_text())}

    queue, primary, pool = (
        read("try-out-workers.yaml"),
        read("try-out-primary.yaml"),
        read("workers-procrastinate.yaml"),
    )
    login = queue["Secret"]["stringData"]
    server = primary["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]["env"]
    values = {one["name"]: one["value"] for one in server}
    assert login["PGHOST"] == primary["Service"]["metadata"]["name"]
    assert (login["PGPASSWORD"], login["PGDATABASE"]) == (values["POSTGRES_PASSWORD"], values["POSTGRES_DB"])
    assert pool["WorkerPool"]["spec"]["workers"]["targetRef"]["name"] == queue["Deployment"]["metadata"]["name"]
    assert "replicas" not in queue["Deployment"]["spec"]


def test_examples_cover_all_kinds() -> None:
    kinds = {found["kind"] for path in EXAMPLES for found in yaml.safe_load_all(path.read_text())}
    assert SPECS.keys() <= kinds


def test_a_field_that_does_not_exist_would_be_noticed() -> None:
    example = next(yaml.safe_load_all((DOCS / "examples" / "replicas.yaml").read_text()))
    example["spec"]["standby"] = 1
    with pytest.raises(Exception, match=r"spec\.standby"):
        check_resource(example)


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_make_targets_on_a_page_exist(path: Path) -> None:
    makefiles = [ROOT / "Makefile", *ROOT.glob("*/*.mk"), *ROOT.glob("*/*/*.mk")]
    targets = {target for makefile in makefiles for target in TARGET.findall(makefile.read_text())}
    assert set(re.findall(r"(?:^|`|&& )(?:[A-Z_]+=\w+ )?make ([a-z0-9-]+)", path.read_text(), re.MULTILINE)) <= targets


def test_reasons_in_the_troubleshooting_tables_are_given_by_the_code() -> None:
    text = (DOCS / "how-to" / "troubleshoot.md").read_text()
    cells = re.findall(r"^\| (`[A-Z][^|]*) \|", text, re.MULTILINE)
    named = {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}
    sources = [path for path in (ROOT / "operator").rglob("*.py") if path.name != "reasons.py"]
    code = "".join(path.read_text() for path in sources)
    assert len(named) > 20
    assert {reason for reason in named if f"Reason.{Reason(reason).name}" not in code} == set()


@pytest.mark.parametrize("path", [*TEXTS, *EXAMPLES], ids=name_of)
def test_words_that_must_not_be_used_are_not(path: Path) -> None:
    text = re.sub(r"https?://\S+", "", path.read_text())
    assert not BANNED.findall(text)
    assert not AMBIGUOUS.search(text), "write replicasets.headroom.dev or dbrs"


@pytest.mark.parametrize("path", sorted((DOCS / "adr").glob("0*.md")), ids=name_of)
def test_each_decision_says_what_was_asked_decided_rejected_and_follows(path: Path) -> None:
    text = path.read_text()
    parts = [text.find(f"**{part}.**") for part in ("Question", "Decision", "Rejected", "Follows")]
    assert -1 not in parts
    assert parts == sorted(parts)
    assert path.name in (DOCS / "adr" / "README.md").read_text()


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_generated_page_is_up_to_date(name: str) -> None:
    assert (REFERENCE / name).read_text() == BUILDERS[name](), "run `make docs`"
