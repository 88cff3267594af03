"""Hostile relays in one process, each with an address of its own.

It prints their URLs as JSON, and runs until its input ends.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from caravel.tests.support.floods import FLOODS, flooding_relays, large_nested_lists
from caravel.tests.support.waiting import read_line

#: Author of the events that they forge.
AUTHOR = "ab" * 32


@contextmanager
def running(number: int) -> Iterator[list[str]]:
    """Run the process for the length of the block; returns the relays' URLs."""
    command = [sys.executable, "-m", "benchmarks.support.flooding", str(number)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            urls: list[str] = json.loads(read_line(process))
            yield urls
        finally:
            process.kill()


def serve(number: int) -> None:
    """Run the relays until the input ends."""
    with ExitStack() as stack:
        urls = []
        for index in range(number):
            # Half of them as it hurts most without limits.
            flood = (large_nested_lists, FLOODS[index % len(FLOODS)])[index % 2]
            relays = flooding_relays(flood, [f"127.0.0.{index + 2}"], author=AUTHOR)
            urls += [endpoint.url for endpoint in stack.enter_context(relays)]
        print(json.dumps(urls), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
