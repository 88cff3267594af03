"""Figures of a benchmark: printed as they are measured, and kept as JSON.

`benchmarks.report` shows those of all benchmarks in `docs/performance.md`.
"""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Where each benchmark writes `<name>.json`.
DIRECTORY = Path(os.environ.get("BENCHMARKS_DIR") or ROOT / "var" / "benchmarks")


def format_number(value: float) -> str:
    """Return a number with three significant digits, large ones as a whole."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Figure:
    """A measurement, and its limit if there is one."""

    label: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def is_kept(self) -> bool:
        """Return whether the value is within its limit."""
        too_large = self.at_most is not None and self.value > self.at_most
        too_small = self.at_least is not None and self.value < self.at_least
        return not too_large and not too_small

    @property
    def limit(self) -> str:
        """The limit in words, empty if there is none."""
        bounds = (("at most", self.at_most), ("at least", self.at_least))
        return " and ".join(
            f"{words} {format_number(bound)}"
            for words, bound in bounds
            if bound is not None
        )

    def __str__(self) -> str:
        text = f"{self.label:54}{format_number(self.value):>12} {self.unit:14}"
        if self.limit:
            text += f"{self.limit}: {'kept' if self.is_kept else 'NOT KEPT'}"
        return text.rstrip()


@dataclass
class Results:
    """All figures of one run of a benchmark.

    A key is a figure's stable name in the documentation. A `quick` run measures too
    little for the documentation.
    """

    name: str
    quick: bool
    figures: dict[str, Figure] = field(default_factory=dict)
    #: Points of a plot by its title, then by the name of the line.
    plots: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)

    def add(
        self,
        key: str,
        label: str,
        value: float,
        unit: str = "",
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """Record and print a figure."""
        figure = Figure(label, value, unit, at_most, at_least)
        self.figures[key] = figure
        print(f"  {figure}", flush=True)

    def plot(
        self, title: str, line: str, points: Sequence[tuple[float, float]]
    ) -> None:
        """Record a line of a plot; the title names both axes: "y, unit, by x, unit"."""
        self.plots.setdefault(title, {})[line] = list(points)

    def finish(self) -> int:
        """Write the file; return the exit status, 1 if a limit is missed."""
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        content = {"machine": machine(), **asdict(self)}
        path = DIRECTORY / f"{self.name}.json"
        path.write_text(json.dumps(content, indent=1) + "\n")
        if self.missed:
            print(f"\nMissed: {', '.join(self.missed)}", flush=True)
        return 1 if self.missed else 0

    @property
    def missed(self) -> list[str]:
        """The keys of the figures that are not within their limits."""
        return [key for key, figure in self.figures.items() if not figure.is_kept]


def machine() -> dict[str, object]:
    """Return the facts about the machine on which figures depend."""
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "processor": _processor(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()
