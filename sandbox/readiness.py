"""Waiting until a started system answers."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable

POLL = 0.1


class NotReady(RuntimeError):
    """Something did not come about in time."""


def wait_until(condition: Callable[[], object], *, seconds: float, what: str) -> None:
    """Poll until the condition is true. Raises NotReady with `what` was awaited."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotReady(f"{what} did not happen within {seconds:.0f} seconds")
        time.sleep(POLL)


def answers(url: str) -> bool:
    """Return whether a GET of the URL is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
