"""Numbers in the text of `docs/performance.md`.

Each stands between two comments, the first of which names it:

    <!-- figure NAME.KEY -->12 ms<!-- end -->
    <!-- figures NAME --> a table of a benchmark <!-- end -->
    <!-- figures NAME PATTERN… --> a table of the keys that match <!-- end -->
    <!-- plots NAME --> its plots <!-- end -->
    <!-- missed --> a table of all limits that are not kept <!-- end -->
    <!-- machines --> a list of the machines <!-- end -->
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatch

from benchmarks.support.report import plots
from benchmarks.support.report.figures import Figures, names, parse
from benchmarks.support.results import ROOT, Figure, format_number

PATH = ROOT / "docs" / "performance.md"
_BLOCK = re.compile(
    r"(<!-- (figures?|plots|missed|machines)( [^>]*)? -->).*?(<!-- end -->)", re.S
)


class UnknownFigure(Exception):
    """The page names a figure that no benchmark has made."""


def fill(text: str, figures: Figures) -> str:
    """Return the text with all numbers in place. Raises UnknownFigure."""

    def replace(match: re.Match[str]) -> str:
        first, kind, arguments, last = match.groups()
        return first + _render(kind, (arguments or "").split(), figures) + last

    return _BLOCK.sub(replace, text)


def _render(kind: str, arguments: list[str], figures: Figures) -> str:
    match kind, arguments:
        case "figure", [path]:
            name, _, key = path.partition(".")
            return _value(figures, name, key)
        case "figures", [name, *patterns]:
            return _benchmark(figures, name, patterns)
        case "plots", [name]:
            return _plots(figures, name)
        case "missed", []:
            return _missed(figures)
        case "machines", []:
            return _machines(figures)
    raise UnknownFigure(f"<!-- {kind} {' '.join(arguments)} --> is not understood.")


def _value(figures: Figures, name: str, key: str) -> str:
    if not _is_measured(figures, name):
        return "?"
    if key not in figures[name]["figures"]:
        raise UnknownFigure(f"{name} makes no figure {key}.")
    return _amount(parse(figures[name])[key])


def _is_measured(figures: Figures, name: str) -> bool:
    """Return whether there are figures of a benchmark. Raises UnknownFigure."""
    if name not in names():
        raise UnknownFigure(f"There is no benchmark {name}.")
    return name in figures


def _benchmark(figures: Figures, name: str, patterns: list[str]) -> str:
    if not _is_measured(figures, name):
        return "\nNot measured yet.\n"
    chosen = [
        figure
        for key, figure in parse(figures[name]).items()
        if not patterns or any(fnmatch(key, pattern) for pattern in patterns)
    ]
    if not chosen:
        raise UnknownFigure(f"No figure of {name} matches {' '.join(patterns)}.")
    rows = ((each.label, _amount(each), _limit(each)) for each in chosen)
    return "\n" + _table(("measured", "value", "limit"), rows)


def _plots(figures: Figures, name: str) -> str:
    titles = figures[name]["plots"] if _is_measured(figures, name) else {}
    images = (
        f"![{title}](performance/{path.name})\n"
        for title, path in plots.paths(name, titles)
    )
    return "\n" + "".join(images)


def _missed(figures: Figures) -> str:
    if not figures:
        return "\nNot measured yet.\n"
    rows = [
        (name, figure.label, _amount(figure), figure.limit)
        for name, measured in figures.items()
        for figure in parse(measured).values()
        if not figure.is_kept
    ]
    if not rows:
        return "\nAll limits are kept.\n"
    return "\n" + _table(("benchmark", "missed", "value", "limit"), rows)


def _machines(figures: Figures) -> str:
    machines: dict[str, list[str]] = {}
    for name, measured in figures.items():
        machine = measured["machine"]
        text = "{cores} cores, {processor}, {system}, Python {python}".format(**machine)
        machines.setdefault(text, []).append(f"{name} (load {machine['load']})")
    lines = [f"- {text}: {', '.join(names)}" for text, names in machines.items()]
    return "\n" + "\n".join(lines) + "\n"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _amount(figure: Figure) -> str:
    unit = "%" if figure.unit == "%" else f" {figure.unit}" if figure.unit else ""
    return f"{format_number(figure.value)}{unit}"


def _limit(figure: Figure) -> str:
    return figure.limit if figure.is_kept else f"**missed:** {figure.limit}"
