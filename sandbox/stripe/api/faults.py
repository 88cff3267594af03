"""Faults of API requests: errors, delays and broken connections, by method and path."""

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from sandbox.common.http import Response, json_response
from sandbox.common.probability import (
    BadFault,
    check_probability,
    check_times,
    seeded_random,
)
from sandbox.stripe.api.errors import error_body

Kind = Literal["status", "delay", "reset", "timeout"]
When = Literal["before", "after"]
KINDS = ("status", "delay", "reset", "timeout")
MESSAGES = {
    409: "This object cannot be accessed right now because another API request or "
    "Stripe process is currently accessing it.",
    429: "Request rate limit exceeded.",
}
CODES = {409: "lock_timeout", 429: "rate_limit"}
# Stripe tells its SDKs to retry lock timeouts, but no other limit (stripe-dotnet
# issue 1886).
LOCK_HEADERS = {"Stripe-Should-Retry": "true"}


@dataclass(slots=True)
class Fault:
    """Fault that applies to the next `times` matching requests (None: until cleared).

    `path` is a regular expression that is searched in the path; `params` must be equal
    to the top-level parameters of the same names. `before`: the request is not
    executed. `after`: it is executed and stored, including its idempotent response.
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
    chance: float = 1.0
    params: dict[str, Any] = field(default_factory=dict)
    id: str = ""
    hits: int = 0
    cleared: threading.Event = field(default_factory=threading.Event)
    random: Random = field(default_factory=Random)

    def check(self) -> None:
        """Raise BadFault when a value is invalid."""
        for name, accepts, rule in RULES:
            if not accepts(getattr(self, name)):
                raise BadFault(f"{name} must be {rule}")
        check_times(self.times)
        check_probability(self.chance)
        try:
            re.compile(self.path)
        except re.error as error:
            raise BadFault(f"path must be a regular expression: {error}") from None

    def matches(self, method: str, path: str, params: Mapping[str, Any]) -> bool:
        """Return whether the fault applies to a request. Uses up a random number."""
        return (
            self.method in (None, method)
            and re.search(self.path, path) is not None
            and all(params.get(name) == self.params[name] for name in self.params)
            and self.random.random() < self.chance
        )

    def wait(self) -> None:
        """Wait for `seconds`, or until the fault is cleared."""
        self.cleared.wait(self.seconds)

    def error_response(self, request_id: str, now: int) -> Response:
        """Return the error response of a `status` fault."""
        fields = {
            "type": "api_error" if self.status >= 500 else "invalid_request_error",
            "code": CODES.get(self.status),
            "message": MESSAGES.get(self.status, "An unknown error occurred."),
            **self.error,
        }
        body = error_body(fields, request_id=request_id, now=now)
        headers = LOCK_HEADERS if fields["code"] == "lock_timeout" else {}
        return json_response(self.status, body, {**headers, **self.headers})

    def to_dict(self) -> dict[str, Any]:
        """Return the fault as JSON data."""
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
            "chance": self.chance,
            "params": self.params,
            "hits": self.hits,
        }


RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("kind", lambda kind: kind in KINDS, f"one of {', '.join(KINDS)}"),
    (
        "method",
        lambda method: method is None or isinstance(method, str),
        "an HTTP method",
    ),
    ("path", lambda path: isinstance(path, str), "a regular expression"),
    ("when", lambda when: when in ("before", "after"), "before or after"),
    (
        "status",
        lambda code: type(code) is int and 400 <= code <= 599,
        "from 400 to 599",
    ),
    ("error", lambda error: isinstance(error, dict), "a hash"),
    ("headers", lambda headers: _are_headers(headers), "a hash of ASCII strings"),
    ("params", lambda params: isinstance(params, dict), "a hash"),
    (
        "seconds",
        lambda number: type(number) in (int, float) and number >= 0,
        "0 or more",
    ),
)


def _are_headers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(text, str) and text.isprintable() and text.isascii()
        for pair in value.items()
        for text in pair
    )


class Faults:
    """Active faults in the order of their creation. Thread-safe."""

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        # Faults without uses left may still delay a request: `clear` must release it.
        self._waiting: list[Fault] = []
        self._count = 0

    def add(self, fault: Fault) -> Fault:
        """Activate a fault. Raises BadFault."""
        fault.check()
        with self._lock:
            self._count += 1
            fault.id = f"fault_{self._count}"
            fault.random = seeded_random(self._seed, fault.id)
            self._faults.append(fault)
        return fault

    def take(self, method: str, path: str, params: Mapping[str, Any]) -> Fault | None:
        """Return the first fault that matches a request, and count its use."""
        # Without the lock: usually there are no faults.
        if not self._faults:
            return None
        with self._lock:
            for fault in self._faults:
                if fault.matches(method, path, params):
                    self._use(fault)
                    return fault
        return None

    def list(self) -> list[dict[str, Any]]:
        """Return the active faults."""
        with self._lock:
            return [fault.to_dict() for fault in self._faults]

    def clear(self) -> None:
        """Remove all faults and release the requests that they delay."""
        with self._lock:
            for fault in (*self._faults, *self._waiting):
                fault.cleared.set()
            self._faults.clear()
            self._waiting.clear()
            # A run that starts by clearing everything must be repeatable.
            self._count = 0

    def _use(self, fault: Fault) -> None:
        fault.hits += 1
        if fault.times is not None and fault.hits >= fault.times:
            self._faults.remove(fault)
            self._waiting = [
                *(other for other in self._waiting if not other.cleared.is_set()),
                fault,
            ]
