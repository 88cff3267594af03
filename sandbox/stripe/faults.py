"""Faults on order: errors, delays and broken connections, per route."""

import re
import threading
from dataclasses import dataclass, field
from typing import Any, Literal

from sandbox.stripe.protocol.errors import error_body
from sandbox.stripe.protocol.http import Response, json_response

Kind = Literal["status", "delay", "reset", "timeout"]
When = Literal["before", "after"]
KINDS = ("status", "delay", "reset", "timeout")
MESSAGES = {
    409: "This object cannot be accessed right now because another API request or "
    "Stripe process is currently accessing it.",
    429: "Request rate limit exceeded.",
}
CODES = {409: "lock_timeout", 429: "rate_limit"}


@dataclass(slots=True)
class Fault:
    """What goes wrong, and for how many requests (None: until it is cleared).

    `before` means that nothing was executed; `after` that the work is done and
    stored, its idempotent answer included.
    """

    kind: Kind
    method: str | None = None
    path: str = ""
    when: When = "before"
    status: int = 500
    error: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0
    times: int | None = 1
    id: str = ""
    hits: int = 0
    cleared: threading.Event = field(default_factory=threading.Event)

    def matches(self, method: str, path: str) -> bool:
        """Return whether the fault is meant for this request."""
        return self.method in (None, method) and bool(re.search(self.path, path))

    def wait(self) -> None:
        """Sleep for the fault's seconds, or until it is cleared."""
        self.cleared.wait(self.seconds)

    def answer(self, request_id: str, now: int) -> Response:
        """Return the error of a `status` fault."""
        fields = {
            "type": "api_error" if self.status >= 500 else "invalid_request_error",
            "code": CODES.get(self.status),
            "message": MESSAGES.get(self.status, "An unknown error occurred."),
            **self.error,
        }
        body = error_body(fields, request_id=request_id, now=now)
        return json_response(self.status, body, self.headers)

    def show(self) -> dict[str, Any]:
        """Return the fault as JSON."""
        return {
            "id": self.id,
            "kind": self.kind,
            "method": self.method,
            "path": self.path,
            "when": self.when,
            "status": self.status,
            "error": self.error,
            "headers": self.headers,
            "seconds": self.seconds,
            "times": self.times,
            "hits": self.hits,
        }


class Faults:
    """The faults in force, in the order they were asked for; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        # Used-up faults may still hold a request back, until they are cleared.
        self._waiting: list[Fault] = []
        self._count = 0

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force. Raises re.error for a bad pattern."""
        re.compile(fault.path)
        with self._lock:
            self._count += 1
            fault.id = f"fault_{self._count}"
            self._faults.append(fault)
        return fault

    def take(self, method: str, path: str) -> Fault | None:
        """Return the first fault for this request, used up once more."""
        with self._lock:
            for fault in self._faults:
                if fault.matches(method, path):
                    self._use(fault)
                    return fault
        return None

    def list(self) -> list[dict[str, Any]]:
        """Return the faults in force."""
        with self._lock:
            return [fault.show() for fault in self._faults]

    def clear(self) -> None:
        """Remove every fault; requests they hold back go on at once."""
        with self._lock:
            for fault in (*self._faults, *self._waiting):
                fault.cleared.set()
            self._faults.clear()
            self._waiting.clear()

    def _use(self, fault: Fault) -> None:
        fault.hits += 1
        if fault.times is not None and fault.hits >= fault.times:
            self._faults.remove(fault)
            self._waiting = [
                *(one for one in self._waiting if not one.cleared.is_set()),
                fault,
            ]
