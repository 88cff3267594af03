"""Runs benchmarks one after the other, and prints all figures at the end.

    python -m benchmarks [--quick] [NAME...]

Without names, all. Goes on after a failure; exits with 1 if there was any.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.support.report import figures
from benchmarks.support.results import DIRECTORY


def main() -> int:
    """Run the benchmarks; return 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="measure less")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", choices=[*figures.names(), []]
    )
    options = parser.parse_args()
    arguments = ["--quick"] if options.quick else []
    outcomes = {name: run(name, arguments) for name in options.names or figures.names()}
    for name, outcome in outcomes.items():
        show(name, outcome)
    return (
        0 if all(outcome.startswith("passed") for outcome in outcomes.values()) else 1
    )


def run(name: str, arguments: list[str]) -> str:
    """Run a benchmark; return its outcome in words."""
    print(f"\n=== {name} {' '.join(arguments)}\n", flush=True)
    path(name).unlink(missing_ok=True)
    started = time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    status = subprocess.run(command).returncode
    outcome = "passed" if status == 0 else f"FAILED with status {status}"
    return f"{outcome}, {time.monotonic() - started:.0f} s"


def show(name: str, outcome: str) -> None:
    """Print all figures of a benchmark."""
    print(f"\n{name}: {outcome}")
    if path(name).exists():
        for figure in figures.parse(json.loads(path(name).read_text())).values():
            print(f"  {figure}")


def path(name: str) -> Path:
    """Return the file of the last run's figures."""
    return DIRECTORY / f"{name}.json"


if __name__ == "__main__":
    sys.exit(main())
