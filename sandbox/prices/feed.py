"""Prices by currency, and faults by source."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from email.utils import formatdate
from typing import Any, Literal, get_args

from sandbox.common.faults import Faults, HttpFault
from sandbox.common.fields import MAX_SECONDS, Fields
from sandbox.common.http import Response, json_response

Price = dict[str, Any]
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


@dataclass(eq=False, kw_only=True)
class PriceFault(HttpFault):
    """Fault of a source, which has one at most; it lasts until it is cleared."""

    KINDS = get_args(Kind)

    source: str = ""
    factor: Decimal = Decimal(2)
    headers: Mapping[str, str | None] = field(default_factory=dict)

    def update(self, values: Fields) -> None:
        """Set the given values, keep the others. Raises BadField."""
        super().update(values)
        self.factor = values.positive("factor", self.factor)
        self.headers = values.mapping("headers", self.headers)

    def read_seconds(self, values: Fields) -> float:
        """Return the seconds; a `stale` price can be of the future. Raises BadField."""
        return values.seconds("seconds", self.seconds, minimum=-MAX_SECONDS)

    def apply(self, correct: Price) -> Response:
        """Return the response; `correct` is the content without the fault."""
        if self.kind == "slow":
            self.wait()
        if self.kind == "redirect":
            sources = [*SOURCES]
            other = sources[sources.index(self.source) - 1]
            location = f"/prices/{other}/{correct['currency'].lower()}"
            return Response(302, headers={"Location": location})
        if response := self.response():
            return response
        response = json_response(200, self._content(correct))
        if self.kind == "huge":
            return replace(response, body=response.body + b" " * HUGE)
        return replace(response, wait=self.wait) if self.kind == "drip" else response

    def _content(self, correct: Price) -> Price:
        match self.kind:
            case "stale":
                return {**correct, "as_of": correct["as_of"] - self.seconds}
            case "wrong":
                amount = Decimal(correct["amount"]) * self.factor
                return {**correct, "amount": f"{amount:f}"}
            case "zero":
                return {**correct, "amount": "0"}
            case "negative":
                return {**correct, "amount": f"-{correct['amount']}"}
            case "missing":
                return {"as_of": correct["as_of"]}
        return correct


class PriceFeed:
    """The price sources: their state, and the methods with which tests control it."""

    def __init__(self) -> None:
        #: The base URL, once it is served.
        self.url = ""
        #: (source, currency) of each request, oldest first.
        self.requests: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._prices: dict[tuple[str, str], Decimal] = {}
        self._faults: Faults[PriceFault] = Faults()

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

    def fault(
        self,
        kind: Kind,
        *sources: str,
        times: int | None = None,
        chance: float = 1.0,
        seconds: float = 3600.0,
        status: int | None = None,
        body: str = "",
        factor: Decimal = Decimal(2),
        headers: Mapping[str, str | None] | None = None,
    ) -> None:
        """Make some sources faulty, or all, until `clear_faults`; see PriceFault.

        Raises BadField, and KeyError for an unknown source.
        """
        for source in _check_sources(*sources) if sources else SOURCES:
            if (previous := self.faults.get(source)) is not None:
                self._faults.remove(previous)
            fault = PriceFault(
                kind,
                source=source,
                times=times,
                chance=chance,
                seconds=seconds,
                status=status,
                body=body,
                factor=factor,
                headers=headers or {},
            )
            self._faults.add(fault)

    @property
    def faults(self) -> dict[str, PriceFault]:
        """The active faults, by source."""
        return {fault.source: fault for fault in self._faults.active()}

    @property
    def currencies(self) -> list[str]:
        """The currencies with prices."""
        with self._lock:
            return [*dict.fromkeys([*DEFAULTS, *(code for _, code in self._prices)])]

    def clear_faults(self) -> None:
        """Clear the faults of all sources; delayed responses are sent at once."""
        self._faults.clear()

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
        price = self.price(source, currency)
        if price is None:
            return json_response(404, {"error": "unknown source or currency"})
        correct = {
            "source": source,
            "amount": f"{price:f}",
            "currency": currency.upper(),
            "as_of": int(time.time()),
        }
        fault = self._faults.take(lambda fault: fault.source == source)
        response = fault.apply(correct) if fault else json_response(200, correct)
        changes = fault.headers if fault else {}
        headers = {"Date": formatdate(usegmt=True), **response.headers, **changes}
        kept = {name: text for name, text in headers.items() if text is not None}
        return replace(response, headers=kept)

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
