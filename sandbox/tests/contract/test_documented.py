"""docs/stripe.md lists exactly the contract tests."""

import ast
import re
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "stripe.md"


def test_documentation_lists_exactly_the_contract_tests():
    documented = Counter(re.findall(r"`(\w+::\w+)`", PAGE.read_text()))

    assert documented == Counter(contract_tests())


def contract_tests() -> list[str]:
    """Return the names of the contract tests as `module::test`."""
    return [
        f"{path.stem.removeprefix('test_')}::{node.name.removeprefix('test_')}"
        for path in sorted(HERE.glob("test_*.py"))
        if path != Path(__file__)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
