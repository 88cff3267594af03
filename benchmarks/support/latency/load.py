"""Load beside the measurements: signed API requests and webhooks at a fixed rate.

A process of its own, so that it does not delay what is measured. It reads one line of
JSON, sends until its standard input ends, and prints how many requests failed.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from typing import Any

import django

#: Of each kind, per second.
RATE = 10
_THREADS = 8
_numbers = count(1)


@contextmanager
def running(keys: Sequence[str], events: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Send requests with these keys, and these events, for the length of the block.

    Raises RuntimeError at the end if a request failed.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.support.latency.load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps([keys, events]) + "\n")
        process.stdin.flush()
        try:
            yield
        finally:
            process.stdin.close()
        failed = json.loads(process.stdout.read())
        if failed:
            raise RuntimeError(f"{failed} requests of the load failed.")


def main() -> None:
    """Send until the input ends."""
    django.setup()
    keys, events = json.loads(sys.stdin.readline())
    has_ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(has_ended,)).start()
    futures = []
    with ThreadPoolExecutor(_THREADS) as pool:
        next_at = time.monotonic()
        while not has_ended.wait(max(0.0, next_at - time.monotonic())):
            number = next(_numbers)
            futures.append(pool.submit(_read, keys[number % len(keys)]))
            futures.append(pool.submit(_post, events[number % len(events)], number))
            next_at += 1 / RATE
    print(sum(future.exception() is not None for future in futures))


def _wait_for_end(has_ended: threading.Event) -> None:
    sys.stdin.read()
    has_ended.set()


def _read(key: str) -> None:
    request = import_module("sandbox.demo.tenant_client").request
    request(key, "GET", "/api/relays")


def _post(event: dict[str, Any], number: int) -> None:
    post_event = import_module("benchmarks.support.latency.account").post_event
    post_event({**event, "id": f"evt_load{number}{time.time_ns()}"})


if __name__ == "__main__":
    main()
