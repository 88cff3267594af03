"""A sandbox zooid whose answers take a while, as a separate process.

    python -m benchmarks.support.slow_zooid WHITELIST SECONDS [STATE]

It prints its URL, and ends with its standard input.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caravel.tests.support.waiting import read_line
from sandbox.zooid import running_zooid


@contextmanager
def running(whitelist: str, *, seconds: float, state: Path) -> Iterator[str]:
    """Run the process for the length of the block; yields its URL.

    Its relays are those of the state file, if there is one.
    """
    with subprocess.Popen(
        [sys.executable, "-m", __name__, whitelist, str(seconds), str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield read_line(process).strip()
        finally:
            process.terminate()


def serve(whitelist: str, seconds: str, state: str) -> None:
    """Serve until the input ends."""
    with running_zooid(whitelist=[whitelist], state=Path(state)) as zooid:
        zooid.latency = float(seconds)
        print(zooid.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    serve(*sys.argv[1:])
