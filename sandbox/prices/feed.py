"""What the exchanges answer: prices by currency, and faults by source."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, get_args

#: The exchanges, and by what factor each differs from the price that is set.
SOURCES = {
    "abacus": Decimal("0.9995"),
    "beacon": Decimal(1),
    "compass": Decimal("1.0005"),
}
#: What one bitcoin costs until a test says otherwise.
DEFAULTS = {
    "usd": Decimal("64000.00"),
    "eur": Decimal("59000.00"),
    "gbp": Decimal("50500.00"),
    "chf": Decimal("56500.00"),
    "cad": Decimal("87500.00"),
    "aud": Decimal("97000.00"),
    "jpy": Decimal("9600000"),
    "kwd": Decimal("19700.000"),
    "isk": Decimal("8900000"),
    "ugx": Decimal("238000000"),
}
Kind = Literal[
    "reset",  # the connection breaks instead of an answer
    "error",  # 500
    "slow",  # the answer comes after `seconds`, or once the fault is cleared
    "drip",  # headers at once, then one byte of the body each `seconds`
    "stale",  # the price is `seconds` old
    "wrong",  # the price times `factor`
    "zero",
    "negative",
    "missing",  # no price in the answer
    "garbage",
    "html",
    "redirect",  # to another source, which has a price
    "huge",  # a right answer of HUGE bytes
    "body",  # `body` as it is
    "headers",  # a right answer with other headers; None leaves one out
]
#: How many requests are remembered.
_REMEMBERED = 10_000
HUGE = 5 * 1024 * 1024


@dataclass(frozen=True)
class Fault:
    """What a source does wrong until it is cleared."""

    kind: Kind
    seconds: float = 3600.0
    factor: Decimal = Decimal(2)
    body: str = ""
    headers: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What goes over the wire, and how."""

    body: bytes
    status: int = 200
    type: str = "application/json"
    headers: Mapping[str, str | None] = field(default_factory=dict)
    fault: Fault | None = None
    #: Set when the fault is no more.
    cleared: threading.Event = field(default_factory=threading.Event)


class PriceFeed:
    """The state of the exchanges, and the control a test has over it."""

    def __init__(self) -> None:
        #: The address it is served at, once it is.
        self.url = ""
        #: (source, currency) of each request, oldest first.
        self.requests: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._prices: dict[tuple[str, str], Decimal] = {}
        self._faults: dict[str, Fault] = {}
        self._cleared = threading.Event()

    @property
    def urls(self) -> list[str]:
        """The sources as the setting BTC_PRICE_URLS takes them."""
        return [
            f"{self.url}/prices/{source}/{{currency}}#/amount@/as_of"
            for source in SOURCES
        ]

    def set_price(
        self, price: Decimal | int, currency: str = "usd", *, source: str | None = None
    ) -> None:
        """Let one bitcoin cost so much: exactly, at one source or at all of them."""
        with self._lock:
            for name in _named(source) if source else SOURCES:
                self._prices[name, currency] = Decimal(price)

    def fault(self, kind: Kind, *sources: str, **details: Any) -> None:
        """Let sources, or all of them, go wrong until `clear_faults`; see Fault.

        Raises ValueError for a kind or source that there is not.
        """
        if kind not in get_args(Kind):
            raise ValueError(f"There is no fault {kind!r}.")
        with self._lock:
            for name in _named(*sources) if sources else SOURCES:
                self._faults[name] = Fault(kind, **details)

    @property
    def faults(self) -> dict[str, Fault]:
        """The faults in force, by source."""
        with self._lock:
            return dict(self._faults)

    @property
    def currencies(self) -> list[str]:
        """The currencies that there are prices in."""
        with self._lock:
            return [*dict.fromkeys([*DEFAULTS, *(code for _, code in self._prices)])]

    def clear_faults(self) -> None:
        """Let all sources be right again; what a fault holds back goes on at once."""
        with self._lock:
            self._faults.clear()
            self._cleared.set()
            self._cleared = threading.Event()

    def reset(self) -> None:
        """Forget faults, prices that were set, and what was asked."""
        self.clear_faults()
        with self._lock:
            self._prices.clear()
            self.requests.clear()

    def answer(self, source: str, currency: str) -> Answer:
        """Return what a source says of a currency; 404 for what it does not know."""
        with self._lock:
            self.requests.append((source, currency))
            del self.requests[:-_REMEMBERED]
            fault, cleared = self._faults.get(source), self._cleared
        price = self.price(source, currency)
        if price is None:
            return Answer(b'{"error": "unknown source or currency"}', status=404)
        right = {
            "source": source,
            "amount": f"{price:f}",
            "currency": currency.upper(),
            "as_of": int(time.time()),
        }
        answer = _faulty(right, fault) if fault else _answer(right)
        return replace(answer, cleared=cleared)

    def price(self, source: str, currency: str) -> Decimal | None:
        """Return what one bitcoin costs at a source, faults aside, or None."""
        with self._lock:
            if (source, currency) in self._prices:
                return self._prices[source, currency]
        if source in SOURCES and currency in DEFAULTS:
            return DEFAULTS[currency] * SOURCES[source]
        return None


def _named(*sources: str) -> tuple[str, ...]:
    """Return the names; raises KeyError for one that is no source."""
    for source in sources:
        SOURCES[source]
    return sources


def _faulty(right: dict[str, Any], fault: Fault) -> Answer:
    if fault.kind in _ANSWERS:
        return _ANSWERS[fault.kind](right, fault)
    said = _CHANGES[fault.kind](right, fault) if fault.kind in _CHANGES else right
    return replace(_answer(said), headers=fault.headers, fault=fault)


def _answer(said: dict[str, Any]) -> Answer:
    return Answer(json.dumps(said).encode())


def _redirect(right: dict[str, Any], fault: Fault) -> Answer:
    names = [*SOURCES]
    other = names[names.index(right["source"]) - 1]
    location = f"/prices/{other}/{right['currency'].lower()}"
    return Answer(b"", 302, headers={"Location": location})


_PAGE = b"<!DOCTYPE html><title>Just a moment</title><p>Are you human?"
_ANSWERS: dict[Kind, Callable[[dict[str, Any], Fault], Answer]] = {
    "error": lambda right, fault: Answer(b'{"error": "internal"}', status=500),
    "html": lambda right, fault: Answer(_PAGE, type="text/html"),
    "garbage": lambda right, fault: Answer(b"\xff\xfe\x00{"),
    "body": lambda right, fault: Answer(fault.body.encode()),
    "redirect": _redirect,
}
_CHANGES: dict[Kind, Callable[[dict[str, Any], Fault], dict[str, Any]]] = {
    "stale": lambda right, fault: {**right, "as_of": right["as_of"] - fault.seconds},
    "wrong": lambda right, fault: {
        **right,
        "amount": f"{Decimal(right['amount']) * fault.factor:f}",
    },
    "zero": lambda right, fault: {**right, "amount": "0"},
    "negative": lambda right, fault: {**right, "amount": f"-{right['amount']}"},
    "missing": lambda right, fault: {"as_of": right["as_of"]},
    "huge": lambda right, fault: {**right, "filler": "x" * HUGE},
}
