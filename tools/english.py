"""Checks the English of the documentation, the docstrings, and the messages: `python -m tools.english [PATH ...]`.

Prints `file:line: phrase -> replacement` for each finding and returns 1 if there are any. The vocabulary is in
`english.toml`; this module finds the text and adds the rules that no list of phrases can express.
"""

import ast
import bisect
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
VOCABULARY = Path(__file__).with_suffix(".toml")
MAX_WORDS = 40
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md", "changelog.d/*.md")
CODE = ("operator/headroom/**/*.py", "docs/*.py")
DERIVED = "<!-- Generated "
"""The text of such a page comes from docstrings, which are checked themselves."""
FROM_THE_CHART = ("chart-values.md", "rights.md")
"""The derived pages whose text comes from elsewhere."""

FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
HIDDEN = re.compile(r"<!--.*?-->|`[^`\n]+`|(?<=\])\([^)\n]+\)|https?://\S+", re.DOTALL)
BLOCK = re.compile(r"^\s*(?:[*-] |\d+\. |#+ |> ?|\||$)")
SENTENCE_END = re.compile(r"[.!?](?:\*\*|\")?(?=\s+[\W_]*[A-Z(`]|\s*$)|\n")
WORD = re.compile(r"[^\W_][\w'-]*")
DOUBLED = re.compile(r"\b([a-z]+) \1\b(?![-'])")
MAY_DOUBLE = {"had", "that", "code", "all", "postgres"}
"""Words that may be doubled: in prose, and in the lines of pg_hba.conf."""
DRAWING = re.compile("[├└│]")
NO_PROSE = (
    re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|GRANT|WHERE|FROM|SET|COPY)\b\s"),
    re.compile(r"self\.|\\[a-z]|\(\?|[\[\]{}^$|<>=_]{2}"),
    DRAWING,
)
"""SQL, CEL, patterns and drawings."""


@dataclass(frozen=True, slots=True)
class Text:
    """A passage of prose; `lines` holds the offset and the line number of each of its lines."""

    path: Path
    body: str
    lines: tuple[tuple[int, int], ...]

    def line_at(self, offset: int) -> int:
        """The line of the file that an offset of the passage is in."""
        index = bisect.bisect_right([start for start, _ in self.lines], offset) - 1
        return self.lines[index][1]

    def sentences(self) -> Iterator[tuple[int, str]]:
        """Offset and text of each sentence."""
        start = 0
        for end in [*(found.end() for found in SENTENCE_END.finditer(self.body)), len(self.body)]:
            sentence = self.body[start:end]
            stripped = sentence.lstrip(" \n*_#>|-(\"'")
            if stripped:
                yield start + len(sentence) - len(stripped), stripped
            start = end


@dataclass(frozen=True, slots=True)
class Finding:
    """A place in a text that breaks a rule, and what to write instead."""

    path: Path
    line: int
    phrase: str
    use: str

    def __str__(self) -> str:
        shown = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{shown}:{self.line}: {' '.join(self.phrase.split())} -> {self.use}"


@dataclass(frozen=True)
class Rule:
    """An entry of the vocabulary; `is_start` says that it is searched for at the start of sentences only."""

    find: str
    use: str
    bad: str
    good: str
    is_start: bool = False
    minds_case: bool = False

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The compiled expression."""
        return re.compile(self.find, re.NOFLAG if self.minds_case else re.IGNORECASE)

    def check(self, text: Text) -> Iterator[Finding]:
        """Every place that the rule finds."""
        if not self.is_start:
            for found in self.pattern.finditer(text.body):
                yield Finding(text.path, text.line_at(found.start()), found.group(), self.use)
            return
        for start, sentence in text.sentences():
            if opening := self.pattern.match(sentence):
                yield Finding(text.path, text.line_at(start), opening.group(), self.use)


def load_rules() -> list[Rule]:
    """The vocabulary of texts."""
    tables = tomllib.loads(VOCABULARY.read_text(encoding="utf-8"))
    phrases = [Rule(**entry) for entry in tables["phrase"]]
    return [*phrases, *(Rule(**entry, is_start=True) for entry in tables["start"])]


def load_name_rules() -> list[Rule]:
    """The vocabulary of names in the code."""
    tables = tomllib.loads(VOCABULARY.read_text(encoding="utf-8"))
    return [Rule(**entry, minds_case=True) for entry in tables["name"]]


def check_length(text: Text) -> Iterator[Finding]:
    """Sentences with more than 40 words."""
    for start, sentence in text.sentences():
        count = len(WORD.findall(sentence))
        if count > MAX_WORDS:
            opening = " ".join(sentence.split()[:6])
            yield Finding(text.path, text.line_at(start), f"{opening} ...", f"shorter sentences ({count} words)")


def check_doubled(text: Text) -> Iterator[Finding]:
    """A word that is written twice in a row."""
    for found in DOUBLED.finditer(text.body):
        if found.group(1) not in MAY_DOUBLE:
            yield Finding(text.path, text.line_at(found.start()), found.group(), f"one {found.group(1)}")


def check(texts: Iterable[Text]) -> Iterator[Finding]:
    """Apply every rule to every text."""
    rules: list[Callable[[Text], Iterator[Finding]]] = [rule.check for rule in load_rules()]
    for text in texts:
        for apply in [*rules, check_length, check_doubled]:
            yield from apply(text)


def check_names(path: Path, content: str) -> Iterator[Finding]:
    """Names of a module, and of its classes and functions, that say it in another word than the vocabulary."""
    rules = load_name_rules()
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = (node for node in ast.walk(ast.parse(content)) if isinstance(node, named))
    for line, name in [(1, path.stem), *((node.lineno, node.name) for node in nodes)]:
        for rule in rules:
            if rule.pattern.search(name):
                yield Finding(path, line, name, rule.use)


def read_page(path: Path, content: str) -> Iterator[Text]:
    """The paragraphs, list entries, headings and table rows of a Markdown page, without code and addresses."""
    if content.startswith(DERIVED) and path.name not in FROM_THE_CHART:
        return
    prose = FENCE.sub(lambda found: "\n" * found.group().count("\n"), content)
    # A capital, since a sentence may begin with code.
    prose = HIDDEN.sub(lambda found: "Code" + "\n" * found.group().count("\n"), prose)
    block: list[tuple[int, str]] = []
    for number, line in enumerate([*prose.splitlines(), ""], 1):
        if BLOCK.match(line):
            yield from _join(path, block)
            block = []
        # The cells of a table are sentences of their own.
        block.append((number, re.sub(r"\s*\|\s*", "\n", line) if line.lstrip().startswith("|") else line.strip()))
    yield from _join(path, block)


def read_module(path: Path, content: str) -> Iterator[Text]:
    """The docstrings, comments and messages of a module: literals of two words or more that are not SQL or CEL."""
    tree = ast.parse(content)
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(_text_of(part) or "code" for part in node.values)
        elif isinstance(node, ast.Constant) and id(node) not in inner:
            text = HIDDEN.sub("Code", _text_of(node))
        else:
            continue
        if " " in text.strip() and not any(pattern.search(text) for pattern in NO_PROSE):
            yield from _split_paragraphs(path, text, node.lineno)
    yield from _read_comments(path, content)


def _read_comments(path: Path, content: str) -> Iterator[Text]:
    block: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type == tokenize.COMMENT and "noqa" not in token.string:
            if block and block[-1][0] != token.start[0] - 1:
                yield from _join(path, block)
                block = []
            block.append((token.start[0], token.string.lstrip("# ")))
    yield from _join(path, block)


def _split_paragraphs(path: Path, text: str, first: int) -> Iterator[Text]:
    block: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), first):
        if BLOCK.match(line):
            yield from _join(path, block)
            block = []
        block.append((number, line.strip()))
    yield from _join(path, block)


def _join(path: Path, block: list[tuple[int, str]]) -> Iterator[Text]:
    """One text out of lines, with the offset of each."""
    if not any(line for _, line in block):
        return
    starts, position = [], 0
    for number, line in block:
        starts.append((position, number))
        position += len(line) + 1
    yield Text(path, " ".join(line for _, line in block), tuple(starts))


def _text_of(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def find_files(patterns: Iterable[str]) -> list[Path]:
    """The files that are checked when no path is given."""
    return sorted({path for pattern in patterns for path in ROOT.glob(pattern)})


def read_texts(paths: Iterable[Path]) -> Iterator[Text]:
    """Every text of these files."""
    for path in paths:
        reader = read_module if path.suffix == ".py" else read_page
        yield from reader(path, path.read_text(encoding="utf-8"))


def main(arguments: list[str]) -> int:
    """Check these files and folders, or all that the check covers."""
    paths = [file for name in arguments for file in _expand(Path(name).resolve())]
    found = paths or find_files((*PAGES, *CODE))
    findings = list(check(read_texts(found)))
    for path in found:
        if path.suffix == ".py":
            findings += check_names(path, path.read_text(encoding="utf-8"))
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    return 1 if findings else 0


def _expand(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted([*path.rglob("*.py"), *path.rglob("*.md")])
    return [path]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
