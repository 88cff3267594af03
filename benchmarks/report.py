"""Writes the figures of the last runs into `docs/performance.md`, with plots.

    python -m benchmarks.report [--check]

Figures come from `var/benchmarks/`, where each benchmark leaves them, but not those of
quick runs. The others stay as they are.

With `--check` nothing is written. Exits with 1 if the page names a figure that no
benchmark has made, or differs from `docs/performance/figures.json`.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.support.report import figures, page, plots


def main() -> int:
    """Write or check the page; return 1 if it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    try:
        wanted = contents(figures.read() if check else figures.merge())
    except page.UnknownFigure as error:
        print(error, file=sys.stderr)
        return 1
    return report_differences(wanted) if check else write(wanted)


def contents(measured: figures.Figures) -> dict[Path, str]:
    """Return the content of the page and of each plot. Raises UnknownFigure."""
    text = page.fill(page.PATH.read_text(), measured)
    return {page.PATH: text, **plots.draw_all(measured)}


def write(wanted: dict[Path, str]) -> int:
    """Write the files, and remove plots that are no longer made."""
    for path in plots.DIRECTORY.glob("*.svg"):
        if path not in wanted:
            path.unlink()
    for path, content in wanted.items():
        path.write_text(content)
    return 0


def report_differences(wanted: dict[Path, str]) -> int:
    """Print the files that differ; return 1 if there are any."""
    stale = [
        path
        for path, content in wanted.items()
        if not path.exists() or path.read_text() != content
    ]
    stale += [path for path in plots.DIRECTORY.glob("*.svg") if path not in wanted]
    for path in stale:
        print(f"{path} is not up to date: python -m benchmarks.report", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
