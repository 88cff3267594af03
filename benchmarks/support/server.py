"""Servers as separate processes, and their memory."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from benchmarks.support.memory import resident
from benchmarks.support.wire import Wire
from caravel.tests.support.waiting import read_line


class Server:
    """A running server."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def wire(self) -> Wire:
        """Return a new connection."""
        return Wire(self.url)

    def rss(self) -> float:
        """Return its resident memory in megabytes."""
        return resident(self.process.pid)


def running() -> AbstractContextManager[Server]:
    """Run a sandbox with an empty account on a free port, until the block ends."""
    return _running("sandbox.stripe", "--port", "0")


def running_bare() -> AbstractContextManager[Server]:
    """Run a server that does nothing, until the block ends."""
    return _running("benchmarks.support.bare_server")


@contextmanager
def _running(module: str, *options: str) -> Iterator[Server]:
    with subprocess.Popen(
        [sys.executable, "-m", module, *options],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            first = read_line(process)
            yield Server(process, first.split()[-1])
        finally:
            process.terminate()
