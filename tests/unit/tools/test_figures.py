"""The figures count what they say, and miss a goal where it is missed."""

from pathlib import Path

import pytest

from tools.figures import Figure, list_small, measure_comments, measure_functions, measure_modules, measure_policy_tests


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Five modules: two small ones, of which one only makes a package, and three of 61 lines."""
    (tmp_path / "__init__.py").write_text('"""A package."""\n')
    (tmp_path / "small.py").write_text("def f() -> int:\n    # The reason.\n    return 1\n")
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.py").write_text("x = 1  # noqa: X\n" * 61)
    return tmp_path


def test_small_modules_are_a_share_with_and_without_package_files(package: Path) -> None:
    count, small, without, largest, over = measure_modules(package)
    assert (count.value, small.value, without.value) == (5, 40, 25)
    assert (largest.value, over.value) == (61, 0)
    assert not small.is_met
    assert str(small).endswith("goal ≤ 20  MISSED")


def test_small_modules_are_listed_without_package_files(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list_small(package)
    assert capsys.readouterr().out == "   3 small.py\n"


def test_a_function_is_as_long_as_from_its_first_to_its_last_line(package: Path) -> None:
    count, median, longest, over = measure_functions(package)
    assert (count.value, median.value, longest.value, over.value) == (1, 3, 3, 0)


def test_directives_are_not_comments(package: Path) -> None:
    (comments,) = measure_comments(package)
    assert comments.value == pytest.approx(100 / (1 + 3 + 3 * 61))


def test_policy_tests_are_counted_by_kind(tmp_path: Path) -> None:
    for kind, lines in (("workerpool", 13), ("replicaset", 12), ("databaseguard", 20)):
        for folder, length in (("policy", 10), ("tests", lines)):
            path = tmp_path / folder / kind / "module.py"
            path.parent.mkdir(parents=True)
            path.write_text("x = 1\n" * length)
    figures = list(measure_policy_tests(tmp_path / "policy", tmp_path / "tests"))
    assert [(figure.value, figure.is_met) for figure in figures] == [
        (1.3, True),
        (1.2, False),
        (2.0, True),
        (1.5, True),
    ]


def test_a_figure_without_a_goal_is_only_shown() -> None:
    assert Figure("modules", 3).is_met
    assert str(Figure("modules", 3)).split() == ["modules", "3.00"]
