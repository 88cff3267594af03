"""Faults that tests and the control APIs add to a stand-in."""

import threading
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, fields
from random import Random
from typing import Any, ClassVar, Generic, Self, TypeVar

from sandbox.common.fields import Fields
from sandbox.common.http import Response, json_response

JSON = {"Content-Type": "application/json"}
HTML = {"Content-Type": "text/html"}
MAX_BODY_LENGTH = 8 * 1024 * 1024
PAGE = b"<!DOCTYPE html><title>Bad Gateway</title><p>Somebody else answers."


@dataclass(eq=False)
class Fault:
    """Fault that applies to the next `times` matching requests (None: until cleared).

    `chance` is the probability for each of them, `seconds` the length of a delay.
    """

    KINDS: ClassVar[tuple[str, ...]]

    kind: str
    _: KW_ONLY
    times: int | None = None
    seconds: float = 0.0
    chance: float = 1.0
    id: str = field(default="", init=False)
    hits: int = field(default=0, init=False)
    cleared: threading.Event = field(default_factory=threading.Event, init=False)
    random: Random = field(default_factory=Random, init=False)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the values that a request may set."""
        return [field.name for field in fields(cls) if field.init]

    @classmethod
    def read(cls, values: Fields) -> Self:
        """Return the fault with these values. Raises BadField."""
        fault = cls(values.choice("kind", cls.KINDS))
        fault.update(values)
        return fault

    def update(self, values: Fields) -> None:
        """Set the given values, keep the others. Raises BadField."""
        if "times" in values:
            self.times = values.optional(values.integer, "times", minimum=1)
        self.seconds = self.read_seconds(values)
        self.chance = float(values.positive("chance", self.chance, maximum=1))

    def read_seconds(self, values: Fields) -> float:
        """Return the seconds, of real time. Raises BadField."""
        return values.seconds("seconds", self.seconds)

    @property
    def times_left(self) -> int | None:
        """The number of requests that it still applies to, or None."""
        return None if self.times is None else self.times - self.hits

    def wait(self) -> bool:
        """Wait for `seconds` or until it is cleared; return whether it is cleared."""
        return self.cleared.wait(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Return the fault as JSON data."""
        names = ("id", *self.names(), "hits")
        return {name: getattr(self, name) for name in names}


@dataclass(eq=False)
class HttpFault(Fault):
    """Fault of an HTTP API whose response can be anything."""

    _: KW_ONLY
    seconds: float = 3600.0
    status: int | None = None
    body: str = ""

    def update(self, values: Fields) -> None:
        """Set the given values, keep the others. Raises BadField."""
        super().update(values)
        rule = {"minimum": 200, "maximum": 599}
        self.status = values.optional(values.integer, "status", **rule)
        self.body = values.text("body", self.body, maximum=MAX_BODY_LENGTH)

    def response(self) -> Response | None:
        """Return the response of `reset`, `error`, `garbage`, `html` and `body`."""
        match self.kind:
            case "reset":
                return Response(0, broken="reset")
            case "error":
                return json_response(self.status or 500, {"error": "a fault is active"})
            case "garbage":
                return Response(200, b"\xff\xfe\x00{", JSON)
            case "html":
                return Response(self.status or 200, PAGE, HTML)
            case "body":
                return Response(self.status or 200, self.body.encode(), JSON)
        return None


F = TypeVar("F", bound=Fault)


class Faults(Generic[F]):
    """Active faults in the order of their creation. Thread-safe."""

    def __init__(self, seed: int | None = None, *, prefix: str = "fault") -> None:
        """With a seed, the faults with a chance are repeatable."""
        self._seed = seed
        self._prefix = prefix
        self._lock = threading.RLock()
        # A list that is replaced as a whole: reading needs no lock.
        self._active: list[F] = []
        # Those that are used up as well.
        self._added: dict[str, F] = {}
        self._cleared = threading.Event()

    def add(self, fault: F) -> F:
        """Activate a fault; it has an `id` then. Raises BadField."""
        names = fault.names()
        fault.read(Fields({name: getattr(fault, name) for name in names}, names))
        with self._lock:
            fault.id = f"{self._prefix}_{len(self._added) + 1}"
            # Independent of the other faults.
            seed = None if self._seed is None else f"{self._seed}/{fault.id}"
            fault.random = Random(seed)
            fault.cleared = self._cleared
            self._added[fault.id] = fault
            self._active = [*self._active, fault]
        return fault

    def take(self, matches: Callable[[F], bool]) -> F | None:
        """Return the first fault that matches a request, and count its use."""
        # Without the lock: usually there are no faults.
        if not self._active:
            return None
        with self._lock:
            for fault in self._active:
                if matches(fault) and fault.random.random() < fault.chance:
                    fault.hits += 1
                    if fault.hits == fault.times:
                        self.remove(fault)
                    return fault
        return None

    def active(self) -> list[F]:
        """Return the faults that are not used up."""
        return self._active

    def list(self) -> list[dict[str, Any]]:
        """Return the faults that are not used up, as JSON data."""
        return [fault.to_dict() for fault in self._active]

    def hits(self, id: str) -> int:
        """Return how often a fault was used. Raises KeyError once it is cleared."""
        return self._added[id].hits

    def remove(self, fault: F) -> None:
        """Remove a fault; the requests that it delays stay delayed."""
        with self._lock:
            self._active = [other for other in self._active if other is not fault]

    def clear(self) -> None:
        """Remove all faults and release the requests that they delay."""
        with self._lock:
            self._active = []
            # Ids start again: a run that starts by clearing everything is repeatable.
            self._added = {}
            self._cleared.set()
            self._cleared = threading.Event()
