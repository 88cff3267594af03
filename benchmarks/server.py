"""The sandbox Stripe as a separate process, and its memory."""

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
        """Return a new connection."""
        return Wire(self.url)

    def rss(self) -> float:
        """Return its resident memory in megabytes."""
        return resident(self.process.pid)


@contextmanager
def running() -> Iterator[Server]:
    """Run a sandbox with an empty account on a free port, until the block ends."""
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
