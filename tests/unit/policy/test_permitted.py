"""Which images and Secrets an installation permits: by whole parts of a name, never by its first letters alone."""

import pytest

from headroom.policy.permitted import Image, Permitted, find_unreadable, parse_image
from headroom.reasons import Reason

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
COMPANY = "registry.example.com"


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("postgres", Image(("docker.io", "library", "postgres"))),
        ("postgres:17", Image(("docker.io", "library", "postgres"), "17")),
        ("docker.io/postgres:17", Image(("docker.io", "library", "postgres"), "17")),
        ("index.docker.io/library/postgres", Image(("docker.io", "library", "postgres"))),
        ("team/postgres:17", Image(("docker.io", "team", "postgres"), "17")),
        (f"{COMPANY}/postgres", Image((COMPANY, "postgres"))),
        (f"Registry.Example.com/postgres@{DIGEST}", Image((COMPANY, "postgres"), "", DIGEST)),
        (f"{COMPANY}:5000/db/postgres:17@{DIGEST}", Image((f"{COMPANY}:5000", "db", "postgres"), "17", DIGEST)),
        ("localhost/postgres", Image(("localhost", "postgres"))),
        (f"{COMPANY}/db/../evil", None),
        (f"{COMPANY}//postgres", None),
        (f"{COMPANY}/Postgres", None),
        (f"{COMPANY}/postgres:", None),
        (f"{COMPANY}/postgres@{DIGEST}x", None),
        (f"{COMPANY}/postgres@sha512:ab", None),
        (f"{COMPANY}/postgres:a:b", None),
        ("", None),
        ("/", None),
        (f"{COMPANY}/pöstgres", None),
        (f"{COMPANY}/postgres:1²", None),
    ],
)
def test_a_reference_is_read_as_a_runtime_reads_it(text: str, image: Image | None) -> None:
    assert parse_image(text) == image


@pytest.mark.parametrize(
    ("entry", "image", "is_permitted"),
    [
        (f"{COMPANY}/db/", f"{COMPANY}/db/postgres:17", True),
        (f"{COMPANY}/db/", f"{COMPANY}/db/deep/postgres@{DIGEST}", True),
        (f"{COMPANY}/db/", f"{COMPANY}/db", False),
        (f"{COMPANY}/db/", f"{COMPANY}/db-evil/postgres", False),
        (f"{COMPANY}/db/", f"{COMPANY}/db/../evil/postgres", False),
        (f"{COMPANY}/", f"{COMPANY}/postgres", True),
        (f"{COMPANY}/", f"{COMPANY}.evil.example/postgres", False),
        (f"{COMPANY}/", f"{COMPANY}:5000/postgres", False),
        (f"{COMPANY}/postgres", f"{COMPANY}/postgres:17", True),
        (f"{COMPANY}/postgres", f"{COMPANY}/postgres@{DIGEST}", True),
        (f"{COMPANY}/postgres", f"{COMPANY}/postgres-evil:17", False),
        (f"{COMPANY}/postgres", f"{COMPANY}/postgres/evil:17", False),
        (f"{COMPANY}/postgres:17", f"{COMPANY}/postgres:17", True),
        (f"{COMPANY}/postgres:17", f"{COMPANY}/postgres:18", False),
        (f"{COMPANY}/postgres:17", f"{COMPANY}/postgres", False),
        (f"{COMPANY}/postgres@{DIGEST}", f"{COMPANY}/postgres:17@{DIGEST}", True),
        (f"{COMPANY}/postgres@{DIGEST}", f"{COMPANY}/postgres@{OTHER}", False),
        (f"{COMPANY}/postgres@{DIGEST}", f"{COMPANY}/postgres:17", False),
        ("postgres", "postgres:17", True),
        ("postgres", "docker.io/library/postgres:17", True),
        ("docker.io/library/", "postgres:17", True),
        ("postgres", f"{COMPANY}/postgres:17", False),
        ("postgres", "evil/postgres:17", False),
        ("team/", "team/postgres", True),
        ("team/", "team.example/postgres", False),
    ],
)
def test_an_entry_permits_whole_parts_of_a_name(entry: str, image: str, is_permitted: bool) -> None:
    assert (Permitted((entry,)).find_image_problem(image) is None) is is_permitted


def test_a_tag_of_a_pinned_tag_and_digest_does_not_matter_beside_the_digest() -> None:
    pinned = Permitted((f"{COMPANY}/postgres:17@{DIGEST}",))
    assert pinned.find_image_problem(f"{COMPANY}/postgres@{DIGEST}") is None
    assert pinned.find_image_problem(f"{COMPANY}/postgres:17") is not None


def test_a_digest_beside_a_permitted_tag_is_not_permitted() -> None:
    """A runtime pulls by the digest alone: the tag beside it would be a way around the rule."""
    only = Permitted((f"{COMPANY}/postgres:17",))
    found = only.find_image_problem(f"{COMPANY}/postgres:17@{DIGEST}")
    assert found is not None


def test_the_refusal_names_image_entries_and_remedy() -> None:
    found = Permitted(("registry.example.com/db/", "postgres")).find_image_problem("evil.example/postgres:17")
    assert found is not None
    assert found.reason is Reason.IMAGE_NOT_PERMITTED
    assert "evil.example/postgres:17" in found.message
    assert "use one of registry.example.com/db/, postgres" in found.message
    assert "policy.images" in found.message


def test_without_rules_all_is_permitted() -> None:
    assert Permitted().find_image_problem("whatever is written") is None
    assert Permitted().find_secret_problem("any", {}, "spec") is None


@pytest.mark.parametrize(
    ("rules", "name", "labels", "needs"),
    [
        (Permitted(secret_prefix="db-"), "db-store", {}, ""),
        (Permitted(secret_prefix="db-"), "cloud-admin", {}, "begin with db-"),
        (Permitted(secret_label="headroom.dev/use"), "any", {"headroom.dev/use": ""}, ""),
        (Permitted(secret_label="headroom.dev/use"), "any", {"headroom.dev/user": "x"}, "the label headroom.dev/use "),
        (Permitted(secret_label="use=yes"), "any", {"use": "yes"}, ""),
        (Permitted(secret_label="use=yes"), "any", {"use": "no"}, "the label use=yes"),
        (Permitted(secret_prefix="db-", secret_label="use"), "db-store", {}, "the label use "),
        (Permitted(secret_prefix="db-", secret_label="use"), "any", {"use": ""}, "begin with db-"),
    ],
)
def test_a_secret_needs_prefix_and_label(rules: Permitted, name: str, labels: dict[str, str], needs: str) -> None:
    found = rules.find_secret_problem(name, labels, "spec.tls")
    assert (found is None) is (needs == "")
    if found is not None:
        assert found.reason is Reason.SECRET_NOT_PERMITTED
        assert found.message.startswith(f"spec.tls: Secret {name} ")
        assert needs in found.message


def test_entries_that_no_image_can_match_are_found() -> None:
    assert find_unreadable(["postgres", "a.b/", "a.b:5000/c:1", "a b", "A/b", "*", "a.b/*", ""]) == [
        "a b",
        "A/b",
        "*",
        "a.b/*",
        "",
    ]
