"""A stand-in as a command: it serves until SIGINT or SIGTERM."""

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from sandbox.common.server import CannotListen
from sandbox.common.state import UnreadableState


class StandIn(Protocol):
    """A running stand-in."""

    @property
    def url(self) -> str: ...


S = TypeVar("S", bound=StandIn)


def serve(
    name: str,
    running: AbstractContextManager[S],
    explanation: Callable[[S], str] | None = None,
) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status.

    Prints the address, then the explanation.
    """
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        with running as stand_in:
            print(f"sandbox {name} on {stand_in.url}", flush=True)
            if explanation:
                print(explanation(stand_in), flush=True)
            stopped.wait()
    except (CannotListen, UnreadableState) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
