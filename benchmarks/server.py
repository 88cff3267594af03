"""The sandbox Stripe as a process of its own, and how much memory it takes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.memory import resident
from benchmarks.wire import Wire


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
        return resident(self.process.pid)


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
