"""The documentation names only files, modules and functions that exist."""

import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

ROOT = Path(__file__).resolve().parents[2]
APPS = "api|billing|caravel|interop|lightning|relays|sandbox|tenants"
PAGES = sorted(
    path.relative_to(ROOT)
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))
    # It tells of the past, too.
    if path.name != "CHANGELOG.md"
)
PATH = re.compile(rf"`((?:{APPS}|docs|tools|benchmarks)/[\w./-]*)`")
NAME = re.compile(rf"`((?:{APPS})(?:\.\w+){{2,}})(?:\([^`]*)?`")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def exists(name: str) -> bool:
    """Return whether a dotted name is a module, or an attribute of one."""
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_page_names_only_what_exists(page):
    text = (ROOT / page).read_text()
    links = [ROOT / page.parent / link for link in LINK.findall(text)]
    missing = [
        *(path for path in PATH.findall(text) if not (ROOT / path).exists()),
        *(name for name in NAME.findall(text) if not exists(name)),
        *(str(link) for link in links if not link.exists()),
    ]

    assert missing == []
