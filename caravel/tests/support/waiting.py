"""Waiting, with a bound, for what other threads and processes do.

The bounds only end tests that hang: a busy machine needs far less time.
"""

import inspect
import select
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")
#: Seconds to wait for an event.
LIMIT = 60.0
_POLL = 0.02


def wait_until(
    condition: Callable[[], object],
    event: str = "",
    *,
    seconds: float = LIMIT,
    details: Callable[[], object] = str,
) -> None:
    """Poll until the condition is true, or fail.

    The failure has the event, or the condition's source, and what `details` returns.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            event = event or _source(condition)
            raise AssertionError(f"not within {seconds:g} s: {event} {details()}")
        time.sleep(_POLL)


def join(*threads: threading.Thread) -> None:
    """Wait until the threads end, or fail with the name of one that still runs."""
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive(), f"not within {LIMIT:g} s: end of {thread.name}"


def result_of(future: Future[T], event: str) -> T:
    """Return the result of a future, or fail if there is none in time."""
    assert wait([future], LIMIT).done, f"not within {LIMIT:g} s: {event}"
    return future.result()


def read_line(process: "subprocess.Popen[str]") -> str:
    """Return the next line of a process's output, or fail if there is none in time.

    Only for a process that prints one line at a time: a second one in the buffer would
    not be noticed.
    """
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], LIMIT)
    assert ready, f"not within {LIMIT:g} s: a line of {process.args!r}"
    return str(process.stdout.readline())


def _source(condition: Callable[[], object]) -> str:
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):  # a method of a built-in type, or code without a file
        return repr(condition)
