"""The matrix of cases and counterparts that pytest prints at the end."""

import re
from collections.abc import Iterator
from string import ascii_lowercase, ascii_uppercase

import pytest

from interop.tests.support.counterparts import COUNTERPARTS
from interop.tests.support.known_faults import (
    KNOWN_FAULTS,
    UNTESTABLE,
    Cell,
    Fault,
)

_NODE = re.compile(
    r"interop/tests/cases/test_\w+\.py::test_(?P<case>\w+)\[(?P<name>[^]]+)\]"
)
_PASSED, _FAILED, _NOT_RUN = "✓", "✗", " "


def case_of(nodeid: str) -> Cell | None:
    """Return the cell that a test fills, None for a test that is not a case."""
    match = _NODE.fullmatch(nodeid)
    names = [str(each) for each in COUNTERPARTS]
    if match is None or match["name"] not in names:
        return None
    return match["case"], match["name"]


class Matrix:
    """Collects the results of the cells; with pytest-xdist those of all workers.

    A cell that cannot pass has the letter of its fault.
    """

    def __init__(self) -> None:
        self.cells: dict[Cell, str | Fault] = {}
        self.faults: dict[Fault, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cell = case_of(report.nodeid)
        if cell is None:
            return
        if report.failed:
            self.cells[cell] = _FAILED
        elif hasattr(report, "wasxfail"):
            self.cells[cell] = KNOWN_FAULTS[cell]
        elif report.when == "call":
            self.cells[cell] = _PASSED

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        if not self.cells:
            return
        terminalreporter.section("counterparts")
        for line in self.lines():
            terminalreporter.write_line(line)

    def lines(self) -> Iterator[str]:
        shown = {name for _, name in self.cells} | UNTESTABLE.keys()
        columns = [str(each) for each in COUNTERPARTS if str(each) in shown]
        cases = sorted({case for case, _ in self.cells})
        width = max(map(len, cases))
        for letter, name in zip(ascii_uppercase, columns, strict=False):
            yield f"{letter}  {name}"
        yield ""
        yield f"{'':{width}}  {' '.join(ascii_uppercase[: len(columns)])}"
        for case in cases:
            marks = " ".join(self._mark(case, name) for name in columns)
            yield f"{case.replace('_', ' '):{width}}  {marks}".rstrip()
        yield ""
        for fault, letter in self.faults.items():
            yield f"{letter}  {fault}"

    def _mark(self, case: str, name: str) -> str:
        result = self.cells.get((case, name), UNTESTABLE.get(name, _NOT_RUN))
        if isinstance(result, Fault):
            return self.faults.setdefault(result, ascii_lowercase[len(self.faults)])
        return result
