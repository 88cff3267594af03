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


def running(*options: str) -> AbstractContextManager[Server]:
    """Run a sandbox on a free port until the block ends, by default without a state."""
    return run_module("sandbox.stripe", "--port", "0", *options)


def running_bare() -> AbstractContextManager[Server]:
    """Run a server that does nothing, until the block ends."""
    return run_module("benchmarks.support.bare_server")


@contextmanager
def run_module(module: str, *options: str) -> Iterator[Server]:
    """Run a server that prints its address, until the block ends."""
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
