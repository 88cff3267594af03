"""Figures of all benchmarks, as the page shows them."""

import json
from pathlib import Path
from typing import Any

from benchmarks.support.results import DIRECTORY, ROOT, Figure

Figures = dict[str, dict[str, Any]]

#: Figures of the last full run of each benchmark.
PATH = ROOT / "docs" / "performance" / "figures.json"
_NO_BENCHMARKS = {"__init__", "__main__", "report"}


def names() -> list[str]:
    """Return the names of all benchmarks."""
    modules = (ROOT / "benchmarks").glob("*.py")
    return sorted(path.stem for path in modules if path.stem not in _NO_BENCHMARKS)


def read() -> Figures:
    """Return the figures of the page, by the names of the benchmarks."""
    figures: Figures = json.loads(PATH.read_text()) if PATH.exists() else {}
    return {name: figures[name] for name in names() if name in figures}


def merge(directory: Path = DIRECTORY) -> Figures:
    """Replace the figures by those of later full runs; return all."""
    figures = read()
    for name in names():
        path = directory / f"{name}.json"
        measured = json.loads(path.read_text()) if path.exists() else {"quick": True}
        if not measured["quick"]:
            figures[name] = measured
    figures = {name: figures[name] for name in names() if name in figures}
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def parse(measured: dict[str, Any]) -> dict[str, Figure]:
    """Return a benchmark's figures by their keys."""
    return {key: Figure(**values) for key, values in measured["figures"].items()}
