"""The matrix of cases and counterparts that pytest prints at the end."""

import re
from collections.abc import Iterable

import pytest

from interop.tests.support.counterparts import COUNTERPARTS
from interop.tests.support.known_faults import ROWS_WITH_FAULT, fault_of

#: A case and a counterpart, by name.
Cell = tuple[str, str]
_NODE = re.compile(
    r"interop/tests/cases/test_\w+\.py::test_(?P<case>\w+)\[(?P<row>[^]]+)\]"
)
_PASSED, _FAILED, _CANNOT, _NONE = "✓", "✗", "·", " "


def case_of(nodeid: str) -> Cell | None:
    """Return the cell that a test fills, None for a test that is not a case."""
    match = _NODE.fullmatch(nodeid)
    names = [str(each) for each in COUNTERPARTS]
    if match is None or match["row"] not in names:
        return None
    return match["case"], match["row"]


class Matrix:
    """Collects the results of the cells; with pytest-xdist those of all workers."""

    def __init__(self) -> None:
        self.cells: dict[Cell, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cell = case_of(report.nodeid)
        if cell is None:
            return
        if report.failed:
            self.cells[cell] = _FAILED
        elif hasattr(report, "wasxfail"):
            self.cells[cell] = _CANNOT
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

    def lines(self) -> Iterable[str]:
        names = {row for _, row in self.cells}
        rows = [str(each) for each in COUNTERPARTS if str(each) in names]
        cases = list(dict.fromkeys(case for case, _ in self.cells))
        cases.sort()
        width = max(len(case) for case in cases)
        letters = [chr(ord("A") + index) for index in range(len(rows))]
        for letter, row in zip(letters, rows, strict=True):
            yield f"{letter}  {row}"
        yield ""
        yield f"{'':{width}}  {' '.join(letters)}"
        for case in cases:
            marks = " ".join(self._mark(case, row) for row in rows)
            yield f"{case.replace('_', ' '):{width}}  {marks}".rstrip()
        yield ""
        yield from self._faults()

    def _mark(self, case: str, row: str) -> str:
        unknown = _CANNOT if row in ROWS_WITH_FAULT else _NONE
        return self.cells.get((case, row), unknown)

    def _faults(self) -> Iterable[str]:
        for (case, row), mark in sorted(self.cells.items()):
            if mark == _CANNOT:
                name = "all" if row in ROWS_WITH_FAULT else case.replace("_", " ")
                yield f"{row}: {name}: {fault_of(case, row)}"
