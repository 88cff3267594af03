"""Check how the code is written: plain docstrings, few comments, small folders.

Prints for each app the share of docstrings that open with a what/who/whether clause,
the lines of comment per 100 lines of code, and the largest folder. Exits with 1 if a
limit is exceeded.
"""

import argparse
import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
APPS = ("caravel", "tenants", "relays", "lightning", "billing", "api", "sandbox")
#: Share of docstrings that may open with a clause instead of a noun or a verb.
MAX_CLAUSES = 0.01
#: Lines of comment per 100 lines of the product's code.
MIN_COMMENTS, MAX_COMMENTS = 3.0, 6.0
#: Modules per folder.
MAX_MODULES = 15
_CLAUSE = re.compile(
    r"(?:(?:return|yield|say|tell|find out)s?\s+)?"
    r"(what|who|whom|whose|whatever|whoever|how|when|where|whether)\b",
    re.IGNORECASE,
)
#: "Return whether the card was charged" is idiomatic.
_PLAIN = re.compile(r"returns?\s+(whether|when|where|how)\b", re.IGNORECASE)
_DIRECTIVE = re.compile(r"#!|# (type:|noqa|fmt:|pragma)")


@dataclass
class Tally:
    docstrings: int = 0
    clauses: list[str] = field(default_factory=list)
    lines: int = 0
    comments: int = 0

    @property
    def clause_share(self) -> float:
        return len(self.clauses) / max(self.docstrings, 1)

    @property
    def comments_per_100(self) -> float:
        return 100 * self.comments / max(self.lines, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="list these docstrings")
    options = parser.parse_args()
    failed = False
    for app in APPS:
        with_tests, code = Tally(), Tally()
        for path in sorted((ROOT / app).rglob("*.py")):
            parts = path.relative_to(ROOT).parts
            if "migrations" not in parts:
                _read(path, with_tests)
                if "tests" not in parts:
                    _read(path, code)
        has_many_clauses = with_tests.clause_share > MAX_CLAUSES
        comments = code.comments_per_100
        is_commented_well = MIN_COMMENTS <= round(comments, 1) <= MAX_COMMENTS
        folder, modules = _largest_folder(ROOT / app)
        is_product = app != "sandbox"
        failed |= has_many_clauses or modules > MAX_MODULES
        failed |= is_product and not is_commented_well
        print(
            f"{app:10} {len(with_tests.clauses):4} of {with_tests.docstrings:4} "
            f"docstrings ({with_tests.clause_share:.1%}) open with a clause; "
            f"{comments:.1f} comments per 100 lines; "
            f"{modules:2} modules in {folder}"
        )
        if options.list or has_many_clauses:
            print(*(f"  {place}" for place in with_tests.clauses), sep="\n")
    return int(failed)


def _largest_folder(app: Path) -> tuple[str, int]:
    counts = Counter(
        path.parent.relative_to(ROOT)
        for path in app.rglob("*.py")
        if path.name != "__init__.py" and "migrations" not in path.parts
    )
    folder, modules = counts.most_common(1)[0]
    return str(folder), modules


def _read(path: Path, tally: Tally) -> None:
    source = path.read_text()
    for line, text in _docstrings(ast.parse(source)):
        tally.docstrings += 1
        if _CLAUSE.match(text) and not _PLAIN.match(text):
            name = path.relative_to(ROOT)
            tally.clauses.append(f"{name}:{line}: {text.splitlines()[0]}")
    tally.lines += sum(1 for line in source.splitlines() if line.strip())
    tally.comments += _comments(source)


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def _comments(source: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = (token.string for token in tokens if token.type == tokenize.COMMENT)
    return sum(1 for text in found if not _DIRECTIVE.match(text))


if __name__ == "__main__":
    sys.exit(main())
