"""Plots as SVG, readable without colour: lines differ by their dashes and labels."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pygal
from pygal.style import Style

from benchmarks.support.report.figures import Figures
from benchmarks.support.results import ROOT, format_number

# It finds plugins with maps, but has no `find_spec`: until Python 3.12 every later
# import of a missing module would warn.
sys.meta_path[:] = [
    finder
    for finder in sys.meta_path
    if not isinstance(finder, pygal.PluginImportFixer)
]

Points = Sequence[Sequence[float]]

DIRECTORY = ROOT / "docs" / "performance"
_DASHES = ("", "8, 4", "2, 4", "10, 4, 2, 4")
_STYLE = Style(
    background="white",
    plot_background="white",
    colors=("#0b3c8c", "#b3431c", "#3a6b1f", "#6b3a80"),
    font_family="sans-serif",
    label_font_size=12,
    legend_font_size=13,
    title_font_size=15,
    value_label_font_size=12,
)
#: Axes over more than this ratio are logarithmic.
_WIDE = 30
#: pygal writes its version, the date and a configuration for its script.
_NOISE = re.compile(r"<!--.*?-->|<script.*?</script>", re.S)


def paths(name: str, plots: Mapping[str, object]) -> Iterator[tuple[str, Path]]:
    """Yield the title and the file of each plot of a benchmark."""
    for number, title in enumerate(plots, 1):
        yield title, DIRECTORY / f"{name}-{number}.svg"


def draw_all(figures: Figures) -> dict[Path, str]:
    """Return the content of each plot of all benchmarks."""
    return {
        path: _draw(title, measured["plots"][title])
        for name, measured in figures.items()
        for title, path in paths(name, measured["plots"])
    }


def _draw(title: str, lines: Mapping[str, Points]) -> str:
    y_title, _, x_title = title.partition(", by ")
    chart = pygal.XY(
        height=360,
        # No scripts, and the same identifiers each time.
        js=(),
        no_prefix=True,
        legend_at_bottom=True,
        logarithmic=_is_wide(lines),
        print_labels=True,
        style=_STYLE,
        title=y_title,
        value_formatter=format_number,
        x_title=x_title,
        x_value_formatter=format_number,
    )
    for (name, points), dashes in zip(lines.items(), _DASHES, strict=False):
        stroke = {"width": 2, "dasharray": dashes} if dashes else {"width": 2}
        chart.add(name, _labelled(points, name), stroke_style=stroke)
    return _NOISE.sub("", chart.render(is_unicode=True)) + "\n"


def _labelled(points: Points, name: str) -> list[dict[str, object]]:
    """Name the line at its last point."""
    values: list[dict[str, object]] = [{"value": tuple(point)} for point in points]
    values[-1]["label"] = name
    return values


def _is_wide(lines: Mapping[str, Points]) -> bool:
    """Return whether all values are positive and some are much larger than others."""
    values = [y for points in lines.values() for _, y in points]
    places = [x for points in lines.values() for x, _ in points]
    return min(values + places) > 0 and max(values) > _WIDE * min(values)
