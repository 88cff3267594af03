"""Faults of the management API, added by tests or through the control API."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from sandbox.common.http import Response, json_response

Kind = Literal[
    "reset",  # the connection is reset without a response
    "error",  # `status`, by default 500, with a body like zooid's errors
    "slow",  # the response is sent after `seconds`, or once the faults are cleared
    "drip",  # headers at once, then one byte of the body every `seconds`
    "garbage",
    "html",
    "redirect",  # to another path
    "huge",  # a response of HUGE bytes
    "body",  # `body` as the response, with `status`, by default 200
]
When = Literal["before", "after"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WHENS: tuple[When, ...] = get_args(When)
HUGE = 16 * 1024 * 1024


@dataclass(frozen=True)
class Fault:
    """A fault for requests with a method, or for all; `times` None: until cleared.

    `after`: the request is processed and only its response is affected.
    """

    kind: Kind
    when: When = "before"
    method: str | None = None
    times: int | None = None
    seconds: float = 3600.0
    status: int | None = None
    body: str = ""


class Faults:
    """The active faults."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._cleared = threading.Event()

    def add(self, fault: Fault) -> None:
        """Activate a fault; it applies after those that are active already."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Clear all faults; delayed responses are sent at once."""
        with self._lock:
            self._faults.clear()
            self._cleared.set()
            self._cleared = threading.Event()

    def active(self) -> list[Fault]:
        """Return the active faults, oldest first, with the number of times left."""
        with self._lock:
            return list(self._faults)

    def take(self, method: str) -> Fault | None:
        """Return the oldest fault that matches a request, and count its use."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.method in (None, method):
                    self._count(index, fault)
                    return fault
        return None

    def hold(self, seconds: float) -> bool:
        """Wait until time is up or the faults are cleared; return whether cleared."""
        with self._lock:
            cleared = self._cleared
        return cleared.wait(seconds)

    def _count(self, index: int, fault: Fault) -> None:
        if fault.times is None:
            return
        if fault.times > 1:
            self._faults[index] = replace(fault, times=fault.times - 1)
        else:
            del self._faults[index]


def faulty_response(fault: Fault) -> Response | None:
    """Return a fault's response; None for one that only delays the correct one."""
    answer = _ANSWERS.get(fault.kind)
    return answer(fault) if answer else None


def _json(body: bytes) -> dict[str, Any]:
    return {"status": 200, "body": body, "headers": _JSON}


_JSON: Mapping[str, str] = {"Content-Type": "application/json"}
_HTML: Mapping[str, str] = {"Content-Type": "text/html"}
_PAGE = b"<!DOCTYPE html><title>Bad Gateway</title><p>Somebody else answers."
_ANSWERS: dict[Kind, Callable[[Fault], Response]] = {
    "reset": lambda fault: Response(0, broken="reset"),
    "error": lambda fault: json_response(fault.status or 500, {"error": "on order"}),
    "drip": lambda fault: Response(**_json(b'{"members":[]}')),
    "garbage": lambda fault: Response(**_json(b"\xff\xfe\x00{")),
    "html": lambda fault: Response(fault.status or 200, _PAGE, _HTML),
    "redirect": lambda fault: Response(302, headers={"Location": "/elsewhere"}),
    "huge": lambda fault: Response(**_json(b"[" + b" " * HUGE + b"]")),
    "body": lambda fault: Response(fault.status or 200, fault.body.encode(), _JSON),
}
