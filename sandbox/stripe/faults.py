"""Faults on order: errors, delays and broken connections, per route."""

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from sandbox.stripe.chance import BadFault, check_chance, check_times, generator
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
# Source: stripe-dotnet issue 1886, a lock is the one limit Stripe has its SDKs retry.
LOCKED = {"Stripe-Should-Retry": "true"}


@dataclass(slots=True)
class Fault:
    """What goes wrong, and for how many requests (None: until it is cleared).

    `path` is a pattern that is looked for in the path, `params` what the request's
    parameters have to be, at the top level. `before` means that nothing was executed;
    `after` that the work is done and stored, its idempotent answer included.
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
        """Raise BadFault when a value is not of its kind."""
        for name, accepts, rule in RULES:
            if not accepts(getattr(self, name)):
                raise BadFault(f"{name} is {rule}")
        check_times(self.times)
        check_chance(self.chance)
        try:
            re.compile(self.path)
        except re.error as error:
            raise BadFault(f"path is no pattern: {error}") from None

    def strikes(self, method: str, path: str, params: Mapping[str, Any]) -> bool:
        """Return whether this request is hit; the seed decides where chance does."""
        return (
            self.method in (None, method)
            and re.search(self.path, path) is not None
            and all(params.get(name) == self.params[name] for name in self.params)
            and self.random.random() < self.chance
        )

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
        headers = LOCKED if fields["code"] == "lock_timeout" else {}
        return json_response(self.status, body, {**headers, **self.headers})

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
            "chance": self.chance,
            "params": self.params,
            "hits": self.hits,
        }


RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("kind", lambda kind: kind in KINDS, f"one of {', '.join(KINDS)}"),
    ("method", lambda method: method is None or isinstance(method, str), "a method"),
    ("path", lambda path: isinstance(path, str), "a pattern"),
    ("when", lambda when: when in ("before", "after"), "before or after"),
    (
        "status",
        lambda code: type(code) is int and 400 <= code <= 599,
        "from 400 to 599",
    ),
    ("error", lambda error: isinstance(error, dict), "a hash"),
    ("headers", lambda headers: _is_texts(headers), "a hash of texts"),
    ("params", lambda params: isinstance(params, dict), "a hash"),
    ("seconds", lambda given: type(given) in (int, float) and given >= 0, "0 or more"),
)


def _is_texts(given: Any) -> bool:
    return isinstance(given, dict) and all(
        isinstance(text, str) and text.isprintable() and text.isascii()
        for pair in given.items()
        for text in pair
    )


class Faults:
    """The faults in force, in the order they were asked for; thread-safe."""

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        # Used-up faults may still hold a request back, until they are cleared.
        self._waiting: list[Fault] = []
        self._count = 0

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force. Raises BadFault."""
        fault.check()
        with self._lock:
            self._count += 1
            fault.id = f"fault_{self._count}"
            fault.random = generator(self._seed, fault.id)
            self._faults.append(fault)
        return fault

    def take(self, method: str, path: str, params: Mapping[str, Any]) -> Fault | None:
        """Return the first fault for this request, used up once more."""
        if not self._faults:
            return None
        with self._lock:
            for fault in self._faults:
                if fault.strikes(method, path, params):
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
            # So that a run that clears everything first is the same each time.
            self._count = 0

    def _use(self, fault: Fault) -> None:
        fault.hits += 1
        if fault.times is not None and fault.hits >= fault.times:
            self._faults.remove(fault)
            self._waiting = [
                *(one for one in self._waiting if not one.cleared.is_set()),
                fault,
            ]
