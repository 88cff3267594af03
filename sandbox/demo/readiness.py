"""Waiting until a started system responds."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable

POLL = 0.1


class NotReady(RuntimeError):
    """A condition did not become true in time."""


def wait_until(condition: Callable[[], object], *, seconds: float, event: str) -> None:
    """Poll until the condition is true. Raises NotReady, which names the event."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotReady(f"{event} did not happen within {seconds:.0f} seconds")
        time.sleep(POLL)


def answers(url: str) -> bool:
    """Return whether a GET of the URL returns 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
