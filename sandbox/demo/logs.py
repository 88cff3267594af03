"""The logs of a system whose output goes to files."""

import sys
from pathlib import Path


def print_logs(logs: Path) -> None:
    """Print the last lines of each log, after a failure."""
    for log in sorted(logs.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-30:]
        print(f"\n--- last lines of {log.name}", *lines, sep="\n", file=sys.stderr)
