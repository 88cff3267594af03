"""docs/stripe.md lists every test of the contract, and no other."""

import ast
import re
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "stripe.md"


def test_the_page_and_the_contract_name_the_same_behaviours():
    named = Counter(re.findall(r"`(\w+::\w+)`", PAGE.read_text()))

    assert named == Counter(in_the_contract())


def in_the_contract() -> list[str]:
    """Return the contract's tests as the page names them."""
    return [
        f"{path.stem.removeprefix('test_')}::{node.name.removeprefix('test_')}"
        for path in sorted(HERE.glob("test_*.py"))
        if path != Path(__file__)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
