"""What an amount of money is in bitcoin: agreed on by several exchanges, or not at all.

No quote rather than a wrong one. Answers are kept per process and judged anew each time
they are used.
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
#: How old a price may be, and how far ahead of our clock another's may run.
OLDEST = timedelta(seconds=300)
AHEAD = timedelta(seconds=60)
#: How far from the median a price is still believed.
DEVIATION = Fraction(2, 100)
#: How long answers are used, and how long when they make no rate.
KEPT = timedelta(seconds=60)
KEPT_FAILURE = timedelta(seconds=5)

SATS = 10**8
MAX_SATS = 21_000_000 * SATS
# Of the time-outs on the way to an answer none covers the look-up of the name.
_PATIENCE = prices.TIMEOUT + 1


@dataclass(frozen=True)
class Quote:
    """An amount in whole sats; `rate` is what one bitcoin costs in the currency."""

    amount_msat: int
    rate: Decimal
    sources: tuple[Price, ...]
    quoted_at: datetime


@dataclass(frozen=True)
class _Answers:
    """What the sources said, and a sentence for each that gave no price."""

    prices: tuple[Price, ...]
    failures: tuple[str, ...]
    answered_at: datetime


_Key = tuple[str, tuple[str, ...]]
_kept: dict[_Key, _Answers] = {}
_asking: dict[_Key, threading.Lock] = {}


def quote(*, amount_cents: int, currency: str) -> Quote:
    """Return what an amount in the currency's smallest unit is now, rounded up once.

    Raises Invalid, UnknownCurrency, or RateUnavailable when fewer than QUORUM sources
    agree on a fresh price. May wait for the network, so never call it in a transaction.
    """
    code = currency.lower()
    if amount_cents <= 0:
        raise Invalid("An amount to quote must be positive.", code="amount-invalid")
    amount = Fraction(amount_cents, 10 ** exponent(code))
    release_connection()
    answers = _answers(code)
    now = timezone.now()
    sources = _agreeing(answers, now)
    if len(sources) < QUORUM:
        raise RateUnavailable(_explanation(code, answers, now))
    rate = _median(sources)
    return Quote(_sats(amount, rate) * 1000, rate, sources, now)


def clear_cache() -> None:
    """Let the next quote ask the sources again."""
    _kept.clear()


def _sats(amount: Fraction, rate: Decimal) -> int:
    sats = math.ceil(amount / Fraction(rate) * SATS)
    if sats > MAX_SATS:
        raise Invalid("There is not so much bitcoin.", code="amount-invalid")
    return sats


def _answers(currency: str) -> _Answers:
    """Return what the sources said lately; one caller asks while the others wait."""
    key = currency, tuple(settings.BTC_PRICE_URLS)
    with _asking.setdefault(key, threading.Lock()):
        answers = _kept.get(key)
        if answers is None or not _is_current(answers):
            answers = _kept[key] = _ask_all(currency)
        return answers


def _is_current(answers: _Answers) -> bool:
    now = timezone.now()
    agreed = len(_agreeing(answers, now)) >= QUORUM
    age = now - answers.answered_at
    # Younger than nothing: the clock was set back since.
    return timedelta(0) <= age < (KEPT if agreed else KEPT_FAILURE)


def _ask_all(currency: str) -> _Answers:
    """Ask all sources at once; who takes longer than _PATIENCE has failed."""
    urls = settings.BTC_PRICE_URLS
    pool = ThreadPoolExecutor(len(urls), thread_name_prefix="price")
    asked = [pool.submit(prices.fetch_price, url, currency=currency) for url in urls]
    wait(asked, timeout=_PATIENCE)
    pool.shutdown(wait=False, cancel_futures=True)
    said = [_outcome(*each) for each in zip(urls, asked, strict=True)]
    answers = _Answers(
        prices=tuple(each for each in said if isinstance(each, Price)),
        failures=tuple(each for each in said if isinstance(each, str)),
        answered_at=timezone.now(),
    )
    for objection in _objections(answers, answers.answered_at):
        logger.warning("price_not_used", currency=currency, reason=objection)
    return answers


def _outcome(url: str, asked: Future[Price]) -> Price | str:
    """Return the price, or a sentence that says why there is none."""
    if not asked.done():
        return f"{prices.source_name(url)}: it did not answer in time"
    try:
        return asked.result()
    except PriceUnusable as exc:
        return exc.message


def _fresh(answers: _Answers, now: datetime) -> list[Price]:
    return [each for each in answers.prices if -AHEAD <= now - each.as_of <= OLDEST]


def _agreeing(answers: _Answers, now: datetime) -> tuple[Price, ...]:
    """Return the fresh prices that are near their median."""
    fresh = _fresh(answers, now)
    return tuple(each for each in fresh if _deviation(each, fresh) <= DEVIATION)


def _deviation(price: Price, fresh: list[Price]) -> Fraction:
    return abs(Fraction(price.price) / Fraction(_median(fresh)) - 1)


def _median(found: Iterable[Price]) -> Decimal:
    # Half a sum of two prices of 31 digits each is exact.
    with localcontext(prec=50):
        return median(each.price for each in found)


def _explanation(currency: str, answers: _Answers, now: datetime) -> str:
    total = len(answers.prices) + len(answers.failures)
    fresh, agreeing = len(_fresh(answers, now)), len(_agreeing(answers, now))
    return (
        f"No exchange rate for {currency.upper()}: of {total} sources {fresh} gave a "
        f"fresh price, {agreeing} agree. {'; '.join(_objections(answers, now))}."
    )


def _objections(answers: _Answers, now: datetime) -> list[str]:
    """Return why the prices that are not used are not."""
    fresh = _fresh(answers, now)
    objections = [*answers.failures]
    for price in answers.prices:
        if price not in fresh:
            age = (now - price.as_of).total_seconds()
            objections.append(f"{price.name}: its price is {age:.0f} s old")
        elif (deviation := _deviation(price, fresh)) > DEVIATION:
            percent = float(deviation) * 100
            objections.append(f"{price.name}: its price is {percent:.1f} % off")
    return objections
