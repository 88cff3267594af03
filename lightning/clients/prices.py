"""The price of one bitcoin, fetched from a public source over HTTP.

A source is a URL template. `{CURRENCY}` and `{currency}` become the code in upper and
lower case; the fragment is a JSON pointer (RFC 6901) to the price, in which `*` is the
only member of an object or list. `@` and a second pointer may follow it, to the time of
the price in Unix seconds.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.utils import timezone

from caravel.core.http_client import RequestFailed, get
from lightning.exceptions import PriceUnusable

#: Seconds.
TIMEOUT = 5.0
MAX_BYTES = 64 * 1024
#: The range of plausible prices of a bitcoin in any currency.
MIN_PRICE, MAX_PRICE = Decimal("0.001"), Decimal(10) ** 12
MAX_DECIMALS = 18
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,40})?", re.ASCII)


class Price(NamedTuple):
    """The price of one bitcoin at a source, and its time."""

    name: str
    price: Decimal
    as_of: datetime


@dataclass(frozen=True)
class _Source:
    """A parsed template. Its query may hold an API key: only `name` may be logged."""

    name: str
    address: str = field(repr=False)
    price_pointer: str
    time_pointer: str


def source_name(template: str) -> str:
    """Return a source's name: its host and path, up to the currency."""
    parts = urlsplit(template)
    path, placeholder, _ = parts.path.partition("{")
    return parts.netloc + (path.rpartition("/")[0] if placeholder else path)


def fetch_price(template: str, *, currency: str) -> Price:
    """Fetch the price in a currency from a source. `as_of` may be in the past.

    Raises PriceUnusable, with the source's name but not its text, for anything but a
    price between MIN_PRICE and MAX_PRICE of a known age.
    """
    source = _parse_template(template)
    address = source.address.replace("{currency}", currency.lower())
    body, headers = _get(source, address.replace("{CURRENCY}", currency.upper()))
    answer = _json(source, body)
    return Price(
        name=source.name,
        price=_price(source, answer),
        as_of=_time(source, answer) if source.time_pointer else _date(source, headers),
    )


def _parse_template(template: str) -> _Source:
    address, _, fragment = template.partition("#")
    price_pointer, _, time_pointer = fragment.partition("@")
    source = _Source(source_name(template), address, price_pointer, time_pointer)
    parts = urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise _unusable(source, "its URL must begin with https://")
    return source


def _get(source: _Source, address: str) -> tuple[bytes, Mapping[str, str]]:
    """Return the body and headers of a 200 response."""
    try:
        response = get(address, timeout=TIMEOUT, max_bytes=MAX_BYTES)
    except RequestFailed as exc:
        raise _unusable(source, str(exc)) from exc
    if response.status != HTTPStatus.OK:
        raise _unusable(source, f"it answered {response.status}")
    return response.body, response.headers


def _json(source: _Source, body: bytes) -> Any:
    try:
        return json.loads(body, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as exc:
        raise _unusable(source, "its answer is not JSON") from exc


def _price(source: _Source, answer: Any) -> Decimal:
    price = _number(_resolve_pointer(answer, source.price_pointer))
    if price is None:
        raise _unusable(source, "its answer has no price")
    if not MIN_PRICE <= price <= MAX_PRICE or _decimals(price) > MAX_DECIMALS:
        raise _unusable(source, "its price is implausible")
    return price


def _time(source: _Source, answer: Any) -> datetime:
    seconds = _number(_resolve_pointer(answer, source.time_pointer))
    if seconds is None or not 0 < seconds < 2**33:
        raise _unusable(source, "its answer has no time")
    return datetime.fromtimestamp(int(seconds), UTC)


def _date(source: _Source, headers: Mapping[str, str]) -> datetime:
    """Return when the response was generated, before any caching (RFC 9111, 4.2.3).

    Raises PriceUnusable if it has neither Date nor Age: it could be of any age.
    """
    times = []
    if "Date" in headers:
        times.append(_http_date(source, headers["Date"]))
    if "Age" in headers:
        age = _number(headers["Age"])
        if age is None or not 0 <= age < 2**31:
            raise _unusable(source, "its answer has no time")
        times.append(timezone.now() - timedelta(seconds=float(age)))
    if not times:
        raise _unusable(source, "its answer has no time")
    return min(times)


def _http_date(source: _Source, text: str) -> datetime:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError) as exc:
        raise _unusable(source, "its answer has no time") from exc
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _resolve_pointer(answer: Any, pointer: str) -> Any:
    """Return the value at a JSON pointer, None if there is none."""
    for step in pointer.split("/")[1:]:
        answer = _member(answer, step.replace("~1", "/").replace("~0", "~"))
    return answer


def _member(value: Any, step: str) -> Any:
    if step == "*" and isinstance(value, dict | list):
        members = [*value.values()] if isinstance(value, dict) else value
        return members[0] if len(members) == 1 else None
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
        return value[int(step)]
    return None


def _number(value: Any) -> Decimal | None:
    """Return a JSON number, or one in a JSON string; None for anything else."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return Decimal(value)
    if type(value) is int or isinstance(value, Decimal):
        return Decimal(value)
    return None


def _decimals(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else MAX_DECIMALS + 1


def _unusable(source: _Source, reason: str) -> PriceUnusable:
    return PriceUnusable(f"{source.name}: {reason}")
