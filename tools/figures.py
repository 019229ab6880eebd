"""Prints the figures of the code: `python -m tools.figures` (`make figures`); `--small` lists the small modules."""

import ast
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "operator" / "headroom"
POLICY = PACKAGE / "policy"
POLICY_TESTS = ROOT / "tests" / "unit" / "policy"
KINDS = ("workerpool", "replicaset", "databaseguard")
SMALL_LINES = 60


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number with its unit; `goal` is a bound that it must not exceed, or with `is_floor` must reach."""

    name: str
    value: float
    unit: str = ""
    goal: float | None = None
    is_floor: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the goal is met; true without one."""
        if self.goal is None:
            return True
        return self.value >= self.goal if self.is_floor else self.value <= self.goal

    def __str__(self) -> str:
        text = f"{self.name:<58} {self.value:>8.2f} {self.unit:<6}"
        if self.goal is None:
            return text.rstrip()
        sign, verdict = "≥" if self.is_floor else "≤", "" if self.is_met else "  MISSED"
        return f"{text} goal {sign} {self.goal:g}{verdict}"


def measure_modules(package: Path) -> Iterator[Figure]:
    """How many modules there are, and which share of them is small."""
    sizes = {path: count_lines(path) for path in find_modules(package)}
    small = [path for path, size in sizes.items() if size <= SMALL_LINES]
    markers = [path for path in small if is_marker(path)]
    yield Figure("modules", len(sizes))
    yield Figure(f"modules of at most {SMALL_LINES} lines", percent(len(small), len(sizes)), "%", 20)
    without = percent(len(small) - len(markers), len(sizes) - len(markers))
    yield Figure("  the same without package files that hold a docstring only", without, "%")
    yield Figure("largest module", max(sizes.values()), "lines", 400)
    yield Figure("modules of more than 250 lines", sum(size > 250 for size in sizes.values()))


def measure_functions(package: Path) -> Iterator[Figure]:
    """Median and maximum of the length of a function, from `def` to its last line."""
    lengths = sorted(length for path in find_modules(package) for length in iterate_lengths(path))
    yield Figure("functions", len(lengths))
    yield Figure("median function", statistics.median(lengths), "lines", 8)
    yield Figure("longest function", lengths[-1], "lines", 50)
    yield Figure("functions of more than 25 lines", sum(length > 25 for length in lengths))


def measure_comments(package: Path) -> Iterator[Figure]:
    """The share of lines that have a comment."""
    paths = find_modules(package)
    yield Figure("lines with a comment", percent(sum(map(count_comments, paths)), sum(map(count_lines, paths))), "%")


def measure_policy_tests(policy: Path, tests: Path) -> Iterator[Figure]:
    """Lines of policy tests for each line of policy, by kind and in all."""
    for kind in KINDS:
        yield Figure(f"policy test lines per line, {kind}", ratio(tests / kind, policy / kind), "", 1.3, is_floor=True)
    yield Figure("policy test lines per line, all", ratio(tests, policy), "", 1.3, is_floor=True)


def find_modules(folder: Path) -> list[Path]:
    """Every Python file below a folder."""
    return sorted(folder.rglob("*.py"))


def count_lines(path: Path) -> int:
    """Lines of a file."""
    return path.read_text(encoding="utf-8").count("\n")


def count_comments(path: Path) -> int:
    """Comments of a module, directives to the linter not counted."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    return sum(token.type == tokenize.COMMENT and "noqa" not in token.string for token in tokens)


def iterate_lengths(path: Path) -> Iterator[int]:
    """Lines of each function of a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            yield node.end_lineno - node.lineno + 1


def is_marker(path: Path) -> bool:
    """Whether a file only makes its folder a package: an `__init__.py` with nothing besides its docstring."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return path.name == "__init__.py" and all(isinstance(node, ast.Expr) for node in body)


def ratio(above: Path, below: Path) -> float:
    """Lines of Python below one folder for each line below the other."""
    total = sum(map(count_lines, find_modules(below)))
    return sum(map(count_lines, find_modules(above))) / total if total else 0.0


def percent(part: int, whole: int) -> float:
    """A share in percent."""
    return 100 * part / whole


def list_small(package: Path) -> None:
    """Print the modules of at most 60 lines, except those that only make a package."""
    for path in find_modules(package):
        if count_lines(path) <= SMALL_LINES and not is_marker(path):
            sys.stdout.write(f"{count_lines(path):>4} {path.relative_to(package)}\n")


def main(arguments: list[str]) -> int:
    """Print every figure; return 1 if a goal is missed."""
    if "--small" in arguments:
        list_small(PACKAGE)
    figures = [
        *measure_modules(PACKAGE),
        *measure_functions(PACKAGE),
        *measure_comments(PACKAGE),
        *measure_policy_tests(POLICY, POLICY_TESTS),
    ]
    for figure in figures:
        sys.stdout.write(f"{figure}\n")
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
