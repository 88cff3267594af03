"""Quotes from sources on real sockets, and their failures."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from unittest.mock import patch

import hypothesis
import pytest
import time_machine
from django.db import transaction
from hypothesis import strategies as st

from caravel.core import http_client
from caravel.core.currencies import exponent
from caravel.core.db.transactions import NetworkInTransaction
from caravel.core.exceptions import Invalid, UnknownCurrency
from caravel.tests.support.waiting import LIMIT, result_of, wait_until
from lightning.clients import prices
from lightning.exceptions import RateUnavailable
from lightning.services import rates
from lightning.services.rates import clear_cache, quote
from sandbox.prices.feed import SOURCES
from sandbox.prices.server import running_prices

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
SATS = 10**8


@pytest.fixture(scope="module")
def _feed():
    with running_prices() as feed:
        yield feed


@pytest.fixture
def feed(_feed, settings, monkeypatch):
    """Sources that answer in time even if the machine is busy."""
    monkeypatch.setattr(prices, "TIMEOUT", LIMIT)
    monkeypatch.setattr(rates, "_FETCH_TIMEOUT", 2 * LIMIT)
    settings.BTC_PRICE_URLS = _feed.urls
    clear_cache()
    _feed.reset()
    yield _feed
    _feed.reset()


@pytest.fixture
def clock():
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@contextmanager
def short_timeout(*sources):
    """Fetch from these sources with a short timeout."""

    def get(address, *, timeout, **options):
        is_short = any(f"/{source}/" in address for source in sources)
        return http_client.get(address, timeout=0.2 if is_short else timeout, **options)

    with patch.object(prices, "get", get):
        yield


def names(result):
    return [price.name.rpartition("/")[2] for price in result.sources]


def refusal(currency="usd"):
    with pytest.raises(RateUnavailable) as caught:
        quote(amount_cents=1000, currency=currency)
    assert (caught.value.code, caught.value.status) == ("rate-unavailable", 503)
    return caught.value.message


@pytest.mark.parametrize(
    ("amount_cents", "currency", "price", "sats"),
    [
        (1000, "USD", "50000", 20_000),
        (1, "usd", "2000000", 1),
        (1000, "jpy", "10000000", 10_000),
        (1000, "kwd", "20000", 5_000),
        (10_000, "isk", "10000000", 1_000),
        (500_000, "ugx", "250000000", 2_000),
        (999_999_999, "usd", "0.5", 1_999_999_998_000_000),
    ],
)
def test_quote_takes_the_amount_in_the_minor_unit(
    feed, amount_cents, currency, price, sats
):
    feed.set_price(Decimal(price), currency.lower())

    result = quote(amount_cents=amount_cents, currency=currency)

    assert result.amount_msat == sats * 1000
    assert result.rate == Decimal(price)


def test_quote_has_its_sources_rate_and_time(feed, clock):
    result = quote(amount_cents=1000, currency="usd")

    assert names(result) == [*SOURCES]
    assert [price.price for price in result.sources] == [63_968, 64_000, 64_032]
    assert {price.as_of for price in result.sources} == {NOW}
    assert (result.rate, result.quoted_at) == (Decimal("64000.00"), NOW)


def test_rate_of_two_prices_is_their_exact_mean(feed, settings):
    settings.BTC_PRICE_URLS = feed.urls[:2]
    feed.set_price(Decimal("999999999999.000000000000000001"), source="abacus")
    feed.set_price(Decimal("999999999999.000000000000000002"), source="beacon")

    result = quote(amount_cents=1000, currency="usd")

    assert result.rate == Decimal("999999999999.0000000000000000015")


@hypothesis.settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    st.integers(1, 10**9),
    st.sampled_from(["usd", "jpy", "kwd", "isk"]),
    st.decimals(100, 10**9, places=6),
)
def test_amount_is_rounded_up_to_a_whole_sat(feed, amount_cents, currency, price):
    clear_cache()
    feed.set_price(price, currency)
    owed = Fraction(amount_cents, 10 ** exponent(currency))

    result = quote(amount_cents=amount_cents, currency=currency)

    sats, part = divmod(result.amount_msat, 1000)
    assert part == 0
    assert sats * Fraction(price) / SATS >= owed
    assert (sats - 1) * Fraction(price) / SATS < owed


@pytest.mark.parametrize("amount_cents", [0, -1, -(10**30)])
def test_amount_must_be_positive(feed, amount_cents):
    with pytest.raises(Invalid, match="positive"):
        quote(amount_cents=amount_cents, currency="usd")

    assert feed.requests == []


def test_amount_above_the_supply_is_refused(feed):
    feed.set_price(100)
    supply_cents = 21_000_000 * 100 * 100

    result = quote(amount_cents=supply_cents, currency="usd")

    assert result.amount_msat == 21_000_000 * 10**11
    with pytest.raises(Invalid, match="exceeds the supply"):
        quote(amount_cents=supply_cents + 1, currency="usd")


def test_unknown_currency_is_not_fetched(feed):
    with pytest.raises(UnknownCurrency):
        quote(amount_cents=1000, currency="xxx")

    assert feed.requests == []


FAULTS = {
    "reset": "the connection failed",
    "error": "it answered 500",
    "slow": "it did not answer in time",
    "drip": "it did not answer in time",
    "stale": "its price is 3600 s old",
    "zero": "its price is implausible",
    "negative": "its price is implausible",
    "missing": "its answer has no price",
    "garbage": "its answer is not JSON",
    "html": "its answer is not JSON",
    "redirect": "it answered 302",
    "huge": "its answer is too large",
}


@pytest.mark.parametrize("failing", [1, 2, 3])
@pytest.mark.parametrize("kind", FAULTS)
def test_two_working_sources_are_required(feed, clock, kind, failing):
    sources = [*SOURCES][:failing]
    feed.fault(kind, *sources)
    is_slow = kind in {"slow", "drip"}

    with short_timeout(*sources) if is_slow else nullcontext():
        assert_only_others_are_used(kind, failing)


def assert_only_others_are_used(kind, failing):
    if failing == 1:
        result = quote(amount_cents=1000, currency="usd")
        assert names(result) == ["beacon", "compass"]
        assert result.rate == Decimal("64016.00")
    else:
        message = refusal()
        assert f"of 3 sources {3 - failing} gave a fresh price" in message
        assert message.count(f": {FAULTS[kind]}") == failing


@pytest.mark.parametrize("factor", ["2", "0.5", "1.021", "0.979", "100", "0.01"])
def test_price_far_from_the_median_is_rejected(feed, factor):
    feed.fault("wrong", "compass", factor=Decimal(factor))

    result = quote(amount_cents=1000, currency="usd")

    assert names(result) == ["abacus", "beacon"]
    assert result.rate == Decimal("63984.00")


@pytest.mark.parametrize(("price", "used"), [(65_280, 3), (65_281, 2), (62_720, 3)])
def test_price_within_two_percent_is_used(feed, price, used):
    feed.set_price(64_000)
    feed.set_price(price, source="compass")

    assert len(quote(amount_cents=1000, currency="usd").sources) == used


def test_no_rate_without_two_sources_that_agree(feed):
    feed.fault("wrong", "abacus", factor=Decimal("0.5"))
    feed.fault("wrong", "compass", factor=Decimal(2))

    message = refusal()

    assert "of 3 sources 3 gave a fresh price, 1 agree" in message
    assert "abacus: its price is 50.0 % off" in message
    assert "compass: its price is 100.1 % off" in message


def test_no_rate_if_two_sources_disagree(feed):
    feed.fault("error", "abacus")
    feed.fault("wrong", "compass", factor=Decimal("1.1"))

    assert "2 gave a fresh price, 0 agree" in refusal()


def test_no_rate_for_a_currency_with_one_source(feed):
    feed.set_price(25_000, "omr", source="beacon")

    assert "rate for OMR: of 3 sources 1 gave a fresh price" in refusal("OMR")


@pytest.mark.parametrize(
    ("seconds", "usable"), [(300, True), (301, False), (-60, True), (-61, False)]
)
def test_price_that_is_too_old_or_ahead_is_rejected(feed, clock, seconds, usable):
    feed.fault("stale", seconds=seconds)

    if usable:
        assert len(quote(amount_cents=1000, currency="usd").sources) == 3
    else:
        assert f"its price is {seconds} s old" in refusal()


def test_source_that_never_answers_does_not_delay_the_quote(feed, monkeypatch):
    feed.fault("slow", "abacus", "beacon")

    for timeout in (0.2, 2, 20):  # the first suffices unless the machine is busy
        monkeypatch.setattr(rates, "_FETCH_TIMEOUT", timeout)
        clear_cache()
        with patch.object(rates, "wait", wraps=wait) as waited:
            message = refusal()
        assert waited.call_args.kwargs == {"timeout": timeout}
        if "1 gave a fresh price" in message:
            break

    assert message.count("it did not answer in time") == 2
    assert "1 gave a fresh price" in message


def test_rate_is_cached_for_a_minute(feed, clock):
    quote(amount_cents=1000, currency="usd")
    feed.set_price(32_000)

    clock.shift(59)
    cached = quote(amount_cents=2000, currency="USD")
    clock.shift(1)
    fetched = quote(amount_cents=1000, currency="usd")

    assert cached.rate == 64_000
    assert fetched.rate == 32_000
    assert cached.amount_msat == math.ceil(20 * SATS / 64_000) * 1000
    assert cached.quoted_at == NOW + timedelta(seconds=59)
    assert len(feed.requests) == 6


def test_prefetched_rate_is_used(feed, clock):
    rates.prefetch("USD")
    wait_until(lambda: len(feed.requests) == 3, "a request to each source")

    assert quote(amount_cents=1000, currency="usd").rate == 64_000
    rates.prefetch("usd")

    for thread in threading.enumerate():
        if thread.name == "prices":
            thread.join(LIMIT)
    assert len(feed.requests) == 3


def test_rate_is_cached_by_currency_and_sources(feed, settings):
    quote(amount_cents=1000, currency="usd")
    quote(amount_cents=1000, currency="eur")
    settings.BTC_PRICE_URLS = feed.urls[1:]
    quote(amount_cents=1000, currency="usd")

    assert len(feed.requests) == 8


def test_cached_prices_that_became_too_old_are_fetched_again(feed, clock):
    feed.fault("stale", seconds=290)
    quote(amount_cents=1000, currency="usd")
    feed.clear_faults()

    clock.shift(10)
    quote(amount_cents=1000, currency="usd")
    assert len(feed.requests) == 3

    clock.shift(1)
    result = quote(amount_cents=1000, currency="usd")

    assert len(feed.requests) == 6
    assert result.sources[0].as_of == NOW + timedelta(seconds=11)


def test_cached_prices_that_became_too_old_are_not_used_as_a_fallback(feed, clock):
    feed.fault("stale", seconds=290)
    quote(amount_cents=1000, currency="usd")
    feed.fault("error")

    clock.shift(11)

    assert refusal().count("it answered 500") == 3


def test_failure_is_cached_for_five_seconds(feed, clock):
    feed.fault("error", "abacus", "beacon")
    assert "it answered 500" in refusal()
    feed.clear_faults()

    clock.shift(4)
    assert "it answered 500" in refusal()
    assert len(feed.requests) == 3

    clock.shift(1)
    assert quote(amount_cents=1000, currency="usd").rate == 64_000


def test_cache_is_dropped_when_the_clock_is_set_back(feed, clock):
    quote(amount_cents=1000, currency="usd")

    clock.shift(-3600)
    quote(amount_cents=1000, currency="usd")

    assert len(feed.requests) == 6


def start_quotes(count, *, currency="usd"):
    """Start `count` concurrent quotes; returns their futures."""
    pool = ThreadPoolExecutor(count)
    barrier = threading.Barrier(count + 1, timeout=LIMIT)

    def get_quote():
        barrier.wait()
        return quote(amount_cents=1000, currency=currency)

    futures = [pool.submit(get_quote) for _ in range(count)]
    barrier.wait()
    pool.shutdown(wait=False)
    return futures


def wait_for_requests(feed, count, futures):
    ended = partial(wait, futures, timeout=0)
    wait_until(lambda: len(feed.requests) >= count or ended().done)
    assert not ended().done


def test_concurrent_quotes_fetch_once(feed):
    feed.fault("slow")
    futures = start_quotes(8)
    wait_for_requests(feed, 3, futures)

    feed.clear_faults()
    quotes = [result_of(future, "a quote") for future in futures]

    assert len({result.amount_msat for result in quotes}) == 1
    assert len(feed.requests) == 3


def test_concurrent_quotes_fail_once(feed):
    feed.fault("error")

    futures = start_quotes(8)

    assert all(
        isinstance(future.exception(LIMIT), RateUnavailable) for future in futures
    )
    assert len(feed.requests) == 3


def test_one_currency_does_not_wait_for_another(feed):
    feed.fault("slow")
    futures = start_quotes(1)
    wait_for_requests(feed, 3, futures)
    other = start_quotes(1, currency="eur")
    wait_for_requests(feed, 6, futures + other)

    feed.clear_faults()

    assert result_of(futures[0], "a quote").rate == 64_000
    assert result_of(other[0], "a quote").rate == 59_000


def test_failed_source_is_logged_without_its_text(feed, caplog):
    feed.fault("html", "abacus")

    quote(amount_cents=1000, currency="usd")

    assert "abacus: its answer is not JSON" in caplog.text
    assert "human" not in caplog.text


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_quote_is_refused_inside_a_transaction(feed):
    quote(amount_cents=1000, currency="usd")

    # Also with a cached rate: it is not always there.
    with transaction.atomic(), pytest.raises(NetworkInTransaction):
        quote(amount_cents=1000, currency="usd")
