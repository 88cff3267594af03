"""Load beside the measurements: signed API requests and webhooks at a fixed rate.

A process of its own, so that it does not delay what is measured. It reads one line of
JSON, sends until its standard input ends, and prints how many requests it has sent, and
how many of them failed.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from typing import Any

import django

#: Of each kind, per second.
RATE = 10
_THREADS = 8
#: Requests and events that wait, from which on no more are sent.
_MAX_WAITING = 16
_numbers = count(1)


@dataclass
class Load:
    """Requests that were sent by the end of the load."""

    #: Per second.
    rate: float = 0.0


@contextmanager
def running(keys: Sequence[str], events: Sequence[Mapping[str, Any]]) -> Iterator[Load]:
    """Send requests with these keys, and these events, for the length of the block.

    Raises RuntimeError at the end if a request failed.
    """
    load = Load()
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.support.latency.load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps([keys, events]) + "\n")
        process.stdin.flush()
        process.stdout.readline()  # it has begun
        started = time.monotonic()
        try:
            yield load
        finally:
            seconds = time.monotonic() - started
            process.stdin.close()
        sent, failed = json.loads(process.stdout.read())
        load.rate = sent / seconds
        if failed:
            raise RuntimeError(f"{failed} requests of the load failed.")


def main() -> None:
    """Send until the input ends."""
    django.setup()
    keys, events = json.loads(sys.stdin.readline())
    has_ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(has_ended,)).start()
    print("begun", flush=True)
    futures: list[Future[None]] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        while not has_ended.wait(1 / RATE):
            # A machine that cannot keep up is loaded enough.
            if _waiting(futures) < _MAX_WAITING:
                number = next(_numbers)
                key, event = keys[number % len(keys)], events[number % len(events)]
                futures.append(pool.submit(_read, key))
                futures.append(pool.submit(_post, event, number))
    failed = sum(future.exception() is not None for future in futures)
    print(json.dumps([len(futures), failed]))


def _waiting(futures: Sequence[Future[None]]) -> int:
    """Return how many requests have no answer, and how many webhooks no effect."""
    unanswered = sum(not future.done() for future in futures[-_MAX_WAITING:])
    events = import_module("billing.models").StripeEvent.objects
    return unanswered + int(events.received().count())


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
