"""The sandbox Stripe as a process of its own, and how much memory it takes."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.wire import Wire

MEGABYTE = 1024 * 1024


class Server:
    """A running sandbox."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def wire(self) -> Wire:
        """Return a new connection to it."""
        return Wire(self.url)

    def rss(self) -> float:
        """Return its resident memory in megabytes."""
        status = Path(f"/proc/{self.process.pid}/status")
        if status.exists():
            found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text())
            kilobytes = found[1] if found else "0"
        else:
            command = ["ps", "-o", "rss=", "-p", str(self.process.pid)]
            kilobytes = subprocess.check_output(command, text=True)
        return int(kilobytes) * 1024 / MEGABYTE


@contextmanager
def running() -> Iterator[Server]:
    """Start a sandbox with an empty account on a free port; stop it in the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "sandbox.stripe", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            first = process.stdout.readline() if process.stdout else ""
            yield Server(process, first.split()[-1])
        finally:
            process.terminate()
