"""Exchange rates: the median of several sources, or no quote rather than a wrong one.

Results are cached per process; their age and agreement are checked at each use.
"""

import math
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from statistics import median

import structlog
from django.conf import settings
from django.utils import timezone

from caravel.core.currencies import exponent
from caravel.core.db.transactions import release_connection
from caravel.core.exceptions import Invalid
from lightning.clients import prices
from lightning.clients.prices import Price
from lightning.exceptions import PriceUnusable, RateUnavailable

logger = structlog.get_logger(__name__)

#: How many sources must agree.
QUORUM = 2
MAX_AGE = timedelta(seconds=300)
#: A source's clock may be ahead by this much.
MAX_CLOCK_SKEW = timedelta(seconds=60)
#: The largest relative deviation from the median.
MAX_DEVIATION = Fraction(2, 100)
CACHE_FOR = timedelta(seconds=60)
#: For results that give no rate.
CACHE_FAILURE_FOR = timedelta(seconds=5)

SATS = 10**8
MAX_SATS = 21_000_000 * SATS
# One second more: the client's timeout does not cover the DNS lookup.
_FETCH_TIMEOUT = prices.TIMEOUT + 1


@dataclass(frozen=True)
class Quote:
    """An amount in whole sats; `rate` is what one bitcoin costs in the currency."""

    amount_msat: int
    rate: Decimal
    sources: tuple[Price, ...]
    quoted_at: datetime


@dataclass(frozen=True)
class _SourceResults:
    """The prices of all sources, and a sentence for each source that gave none."""

    prices: tuple[Price, ...]
    failures: tuple[str, ...]
    fetched_at: datetime


_Key = tuple[str, tuple[str, ...]]
_cache: dict[_Key, _SourceResults] = {}
_locks: dict[_Key, threading.Lock] = {}


def quote(*, amount_cents: int, currency: str) -> Quote:
    """Convert an amount in the currency's minor unit to bitcoin, rounded up to a sat.

    Raises Invalid, UnknownCurrency, or RateUnavailable if fewer than QUORUM sources
    agree on a fresh price. May wait for the network: do not call it in a transaction.
    """
    code = currency.lower()
    if amount_cents <= 0:
        raise Invalid("An amount to quote must be positive.", code="amount-invalid")
    amount = Fraction(amount_cents, 10 ** exponent(code))
    release_connection()
    results = _cached_results(code)
    now = timezone.now()
    sources = _near_median(results, now)
    if len(sources) < QUORUM:
        raise RateUnavailable(_explanation(code, results, now))
    rate = _median(sources)
    return Quote(_sats(amount, rate) * 1000, rate, sources, now)


def prefetch(currency: str) -> None:
    """Fetch prices in a thread, if there are none: a quote that follows waits less."""
    code = currency.lower()
    results = _cache.get(_key(code))
    if results is None or not _is_current(results):
        threading.Thread(
            target=_cached_results, args=(code,), name="prices", daemon=True
        ).start()


def clear_cache() -> None:
    """Make the next quote fetch prices again."""
    _cache.clear()


def _sats(amount: Fraction, rate: Decimal) -> int:
    sats = math.ceil(amount / Fraction(rate) * SATS)
    if sats > MAX_SATS:
        raise Invalid(
            "The amount exceeds the supply of bitcoin.", code="amount-invalid"
        )
    return sats


def _cached_results(currency: str) -> _SourceResults:
    """Return recent results; one caller fetches while concurrent ones wait for it."""
    key = _key(currency)
    with _locks.setdefault(key, threading.Lock()):
        results = _cache.get(key)
        if results is None or not _is_current(results):
            results = _cache[key] = _fetch_all(currency)
        return results


def _key(currency: str) -> _Key:
    return currency, tuple(settings.BTC_PRICE_URLS)


def _is_current(results: _SourceResults) -> bool:
    now = timezone.now()
    has_rate = len(_near_median(results, now)) >= QUORUM
    age = now - results.fetched_at
    # A negative age: the clock was set back since.
    return timedelta(0) <= age < (CACHE_FOR if has_rate else CACHE_FAILURE_FOR)


def _fetch_all(currency: str) -> _SourceResults:
    """Fetch from all sources at once; one that exceeds the timeout has failed."""
    urls = settings.BTC_PRICE_URLS
    pool = ThreadPoolExecutor(len(urls), thread_name_prefix="price")
    futures = [pool.submit(prices.fetch_price, url, currency=currency) for url in urls]
    wait(futures, timeout=_FETCH_TIMEOUT)
    pool.shutdown(wait=False, cancel_futures=True)
    outcomes = [_result(*each) for each in zip(urls, futures, strict=True)]
    results = _SourceResults(
        prices=tuple(each for each in outcomes if isinstance(each, Price)),
        failures=tuple(each for each in outcomes if isinstance(each, str)),
        fetched_at=timezone.now(),
    )
    for reason in _rejections(results, results.fetched_at):
        logger.warning("price_not_used", currency=currency, reason=reason)
    return results


def _result(url: str, future: Future[Price]) -> Price | str:
    """Return the price, or a sentence with the reason why there is none."""
    if not future.done():
        return f"{prices.source_name(url)}: it did not answer in time"
    try:
        return future.result()
    except PriceUnusable as exc:
        return exc.message


def _fresh(results: _SourceResults, now: datetime) -> list[Price]:
    return [
        each
        for each in results.prices
        if -MAX_CLOCK_SKEW <= now - each.as_of <= MAX_AGE
    ]


def _near_median(results: _SourceResults, now: datetime) -> tuple[Price, ...]:
    """Return the fresh prices that are near their median."""
    fresh = _fresh(results, now)
    return tuple(each for each in fresh if _deviation(each, fresh) <= MAX_DEVIATION)


def _deviation(price: Price, fresh: list[Price]) -> Fraction:
    return abs(Fraction(price.price) / Fraction(_median(fresh)) - 1)


def _median(fresh: Iterable[Price]) -> Decimal:
    # Exact: half the sum of two prices of 31 digits each needs fewer than 50.
    with localcontext(prec=50):
        return median(each.price for each in fresh)


def _explanation(currency: str, results: _SourceResults, now: datetime) -> str:
    total = len(results.prices) + len(results.failures)
    fresh, agreeing = len(_fresh(results, now)), len(_near_median(results, now))
    return (
        f"No exchange rate for {currency.upper()}: of {total} sources {fresh} gave a "
        f"fresh price, {agreeing} agree. {'; '.join(_rejections(results, now))}."
    )


def _rejections(results: _SourceResults, now: datetime) -> list[str]:
    """Return a reason for each source whose price is not used."""
    fresh = _fresh(results, now)
    reasons = [*results.failures]
    for price in results.prices:
        if price not in fresh:
            age = (now - price.as_of).total_seconds()
            reasons.append(f"{price.name}: its price is {age:.0f} s old")
        elif (deviation := _deviation(price, fresh)) > MAX_DEVIATION:
            percent = float(deviation) * 100
            reasons.append(f"{price.name}: its price is {percent:.1f} % off")
    return reasons
