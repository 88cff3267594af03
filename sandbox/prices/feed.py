"""Prices by currency, and faults by source."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from email.utils import formatdate
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, get_args

from sandbox.common.http import Response, json_response

#: The sources, and by what factor each differs from the default price.
SOURCES = {
    "abacus": Decimal("0.9995"),
    "beacon": Decimal(1),
    "compass": Decimal("1.0005"),
}
#: The price of one bitcoin until a test sets another.
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
    "reset",  # the connection is reset without a response
    "error",  # 500
    "slow",  # the response is sent after `seconds`, or once the fault is cleared
    "drip",  # headers at once, then one byte of the body every `seconds`
    "stale",  # the price is `seconds` old
    "wrong",  # the price times `factor`
    "zero",
    "negative",
    "missing",  # no price in the response
    "garbage",
    "html",
    "redirect",  # to another source, which has a price
    "huge",  # a correct response of HUGE bytes
    "body",  # `body` as the response
    "headers",  # a correct response with other headers; None removes one
]
#: Only the newest requests are recorded.
_MAX_REQUESTS = 10_000
HUGE = 5 * 1024 * 1024


@dataclass(frozen=True)
class Fault:
    """A fault of a source, active until it is cleared."""

    kind: Kind
    seconds: float = 3600.0
    factor: Decimal = Decimal(2)
    body: str = ""
    headers: Mapping[str, str | None] = field(default_factory=dict)


class PriceFeed:
    """The price sources: their state, and the methods with which tests control it."""

    def __init__(self) -> None:
        #: The base URL, once it is served.
        self.url = ""
        #: (source, currency) of each request, oldest first.
        self.requests: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._prices: dict[tuple[str, str], Decimal] = {}
        self._faults: dict[str, Fault] = {}
        self._cleared = threading.Event()

    @property
    def urls(self) -> list[str]:
        """The sources as a value of the setting BTC_PRICE_URLS."""
        return [
            f"{self.url}/prices/{source}/{{currency}}#/amount@/as_of"
            for source in SOURCES
        ]

    def set_price(
        self, price: Decimal | int, currency: str = "usd", *, source: str | None = None
    ) -> None:
        """Set the exact price of one bitcoin, at one source or at all."""
        with self._lock:
            for name in _check_sources(source) if source else SOURCES:
                self._prices[name, currency] = Decimal(price)

    def fault(self, kind: Kind, *sources: str, **details: Any) -> None:
        """Make some sources faulty, or all, until `clear_faults`; see Fault.

        Raises ValueError for an unknown kind, KeyError for an unknown source.
        """
        if kind not in get_args(Kind):
            raise ValueError(f"Unknown fault: {kind!r}.")
        with self._lock:
            for name in _check_sources(*sources) if sources else SOURCES:
                self._faults[name] = Fault(kind, **details)

    @property
    def faults(self) -> dict[str, Fault]:
        """The active faults, by source."""
        with self._lock:
            return dict(self._faults)

    @property
    def currencies(self) -> list[str]:
        """The currencies with prices."""
        with self._lock:
            return [*dict.fromkeys([*DEFAULTS, *(code for _, code in self._prices)])]

    def clear_faults(self) -> None:
        """Clear the faults of all sources; delayed responses are sent at once."""
        with self._lock:
            self._faults.clear()
            self._cleared.set()
            self._cleared = threading.Event()

    def reset(self) -> None:
        """Restore the initial prices; clear faults and recorded requests."""
        self.clear_faults()
        with self._lock:
            self._prices.clear()
            self.requests.clear()

    def respond(self, source: str, currency: str) -> Response:
        """Return a source's response for a currency; 404 if it is unknown.

        Waits if the source is slow.
        """
        with self._lock:
            self.requests.append((source, currency))
            del self.requests[:-_MAX_REQUESTS]
            fault, cleared = self._faults.get(source), self._cleared
        price = self.price(source, currency)
        if price is None:
            return json_response(404, {"error": "unknown source or currency"})
        correct = {
            "source": source,
            "amount": f"{price:f}",
            "currency": currency.upper(),
            "as_of": int(time.time()),
        }
        if fault is None:
            return _with_headers(json_response(200, correct))
        if fault.kind == "slow":
            cleared.wait(fault.seconds)
        response = _with_headers(_faulty_response(correct, fault), fault.headers)
        if fault.kind == "drip":
            wait = partial(cleared.wait, fault.seconds)
            return replace(response, wait=wait)
        return response

    def price(self, source: str, currency: str) -> Decimal | None:
        """Return the price of one bitcoin at a source regardless of faults, or None."""
        with self._lock:
            if (source, currency) in self._prices:
                return self._prices[source, currency]
        if source in SOURCES and currency in DEFAULTS:
            return DEFAULTS[currency] * SOURCES[source]
        return None


def _check_sources(*sources: str) -> tuple[str, ...]:
    """Return the names. Raises KeyError for an unknown source."""
    for source in sources:
        SOURCES[source]
    return sources


def _faulty_response(correct: dict[str, Any], fault: Fault) -> Response:
    if fault.kind in _RESPONSES:
        return _RESPONSES[fault.kind](correct, fault)
    data = (
        _MODIFIERS[fault.kind](correct, fault) if fault.kind in _MODIFIERS else correct
    )
    return json_response(200, data)


def _with_headers(
    response: Response, changes: Mapping[str, str | None] = MappingProxyType({})
) -> Response:
    headers = {"Date": formatdate(usegmt=True), **response.headers, **changes}
    kept = {name: text for name, text in headers.items() if text is not None}
    return replace(response, headers=kept)


def _redirect(correct: dict[str, Any]) -> Response:
    names = [*SOURCES]
    other = names[names.index(correct["source"]) - 1]
    location = f"/prices/{other}/{correct['currency'].lower()}"
    return Response(302, headers={"Location": location})


_JSON = {"Content-Type": "application/json"}
_HTML = {"Content-Type": "text/html"}
_PAGE = b"<!DOCTYPE html><title>Just a moment</title><p>Are you human?"
_RESPONSES: dict[Kind, Callable[[dict[str, Any], Fault], Response]] = {
    "reset": lambda correct, fault: Response(0, broken="reset"),
    "error": lambda correct, fault: json_response(500, {"error": "internal"}),
    "html": lambda correct, fault: Response(200, _PAGE, _HTML),
    "garbage": lambda correct, fault: Response(200, b"\xff\xfe\x00{", _JSON),
    "body": lambda correct, fault: Response(200, fault.body.encode(), _JSON),
    "redirect": lambda correct, fault: _redirect(correct),
}
_MODIFIERS: dict[Kind, Callable[[dict[str, Any], Fault], dict[str, Any]]] = {
    "stale": lambda correct, fault: {
        **correct,
        "as_of": correct["as_of"] - fault.seconds,
    },
    "wrong": lambda correct, fault: {
        **correct,
        "amount": f"{Decimal(correct['amount']) * fault.factor:f}",
    },
    "zero": lambda correct, fault: {**correct, "amount": "0"},
    "negative": lambda correct, fault: {**correct, "amount": f"-{correct['amount']}"},
    "missing": lambda correct, fault: {"as_of": correct["as_of"]},
    "huge": lambda correct, fault: {**correct, "filler": "x" * HUGE},
}
