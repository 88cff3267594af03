"""Waiting until a started system responds."""

import time
from collections.abc import Callable

import requests

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


def wait_until_ready(url: str) -> None:
    """Wait until a GET of the URL returns 200. Raises NotReady."""
    wait_until(lambda: _answers(url), seconds=60, event=f"A response of {url}")


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == 200
    except requests.RequestException:
        return False
