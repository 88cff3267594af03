import socket
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from lightning.clients import prices
from lightning.clients.prices import MAX_BYTES, fetch_price, source_name
from lightning.exceptions import PriceUnusable
from sandbox.prices.feed import DEFAULTS, HUGE
from sandbox.prices.server import running_prices

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
KRAKEN = "https://api.kraken.com/0/public/Ticker?pair=XBT{CURRENCY}#/result/*/c/0"


@pytest.fixture(scope="module")
def _feed():
    with running_prices() as feed:
        yield feed


@pytest.fixture
def feed(_feed):
    yield _feed
    _feed.clear_faults()


def template(feed, pointer="/amount@/as_of", source="beacon"):
    return f"{feed.url}/prices/{source}/{{currency}}#{pointer}"


def fetch_body(feed, body, pointer):
    """Return the price fetched from a source with this body."""
    feed.fault("body", body=body)
    return fetch_price(template(feed, pointer), currency="usd")


def refusal(feed, pointer="/amount@/as_of"):
    with pytest.raises(PriceUnusable) as caught:
        fetch_price(template(feed, pointer), currency="usd")
    assert (caught.value.code, caught.value.status) == ("price-unusable", 502)
    host = feed.url.removeprefix("http://")
    name, _, reason = caught.value.message.partition(": ")
    assert name == f"{host}/prices/beacon"
    return reason


@pytest.mark.parametrize("currency", ["usd", "KWD", "Jpy"])
def test_price_has_its_source_and_time(feed, currency):
    with time_machine.travel(NOW, tick=False):
        name, price, as_of = fetch_price(template(feed), currency=currency)

    assert name == source_name(template(feed))
    assert price == DEFAULTS[currency.lower()]
    assert as_of == NOW
    assert feed.requests[-1] == ("beacon", currency.lower())


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (
            "https://api.coinbase.com/v2/prices/BTC-{CURRENCY}/spot#/data/amount",
            "api.coinbase.com/v2/prices",
        ),
        (KRAKEN, "api.kraken.com/0/public/Ticker"),
        (
            "https://www.bitstamp.net/api/v2/ticker/btc{currency}/#/last@/timestamp",
            "www.bitstamp.net/api/v2/ticker",
        ),
        ("https://x.example:8443/{currency}?key=s3cret#/p", "x.example:8443"),
    ],
)
def test_source_name_contains_no_secret(url, name):
    assert source_name(url) == name


@pytest.mark.parametrize(
    ("body", "pointer", "price"),
    [
        # The formats of Coinbase, Kraken and Bitstamp.
        (
            '{"data": {"amount": "63180.505", "base": "BTC", "currency": "USD"}}',
            "/data/amount",
            "63180.505",
        ),
        (
            '{"error": [], "result": {"XXBTZUSD": {"a": ["30300.10000", "1", "1.000"],'
            ' "c": ["30303.20000", "0.00067643"], "o": "30502.80000"}}}',
            "/result/*/c/0",
            "30303.20000",
        ),
        (
            '{"timestamp": "1700000000", "open": "24577", "last": "24574.25"}',
            "/last@/timestamp",
            "24574.25",
        ),
        ('{"price": 0.1}', "/price", "0.1"),
        ('{"price": 64000}', "/price", "64000"),
        ('{"price": 6.4e4}', "/price", "64000"),
        ('{"price": 64000.123456789012345678}', "/price", "64000.123456789012345678"),
        ('[{"price": "0.001"}]', "/*/price", "0.001"),
        ('{"a/b": {"~c": "1000000000000"}}', "/a~1b/~0c", "1000000000000"),
    ],
)
def test_price_at_the_pointer_is_read_exactly(feed, body, pointer, price):
    assert fetch_body(feed, body, pointer).price == Decimal(price)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ('{"error": ["EQuery:Unknown asset pair"]}', "/result/*/c/0"),
        ('{"result": {"A": {"c": ["1"]}, "B": {"c": ["2"]}}}', "/result/*/c/0"),
        ('{"result": {}}', "/result/*/c/0"),
        ('{"price": NaN}', "/price"),
        ('{"price": Infinity}', "/price"),
        ('{"price": "NaN"}', "/price"),
        ('{"price": "Infinity"}', "/price"),
        ('{"price": "64_000"}', "/price"),
        ('{"price": "64,000.00"}', "/price"),
        ('{"price": "\u0666\u0664"}', "/price"),
        ('{"price": "$64000"}', "/price"),
        ('{"price": ""}', "/price"),
        ('{"price": true}', "/price"),
        ('{"price": null}', "/price"),
        ('{"price": {"usd": 1}}', "/price"),
        ('["64000"]', "/1"),
        ('["64000"]', "/-1"),
        ('"64000"', "/0"),
    ],
)
def test_value_that_is_not_a_number_is_refused(feed, body, pointer):
    feed.fault("body", body=body)

    assert refusal(feed, pointer) == "its answer has no price"


@pytest.mark.parametrize(
    "price",
    [
        "0",
        "0.0",
        "0.0009",
        "-64000",
        "-0.0",
        '"-64000"',
        "1000000000000.01",
        "1e13",
        "1e999999999999",
        "1e-999999999999",
        "64000.1234567890123456789",
    ],
)
def test_implausible_price_is_refused(feed, price):
    feed.fault("body", body=f'{{"price": {price}}}')

    assert refusal(feed, "/price") == "its price is implausible"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[" * 60_000,
        f'{{"price": {"9" * 5000}}}',
        '{"price": 1e99999999999999999999999}',
        '{"price": .5}',
    ],
    ids=lambda body: body[:20],
)
def test_response_that_is_not_json_is_refused(feed, body):
    feed.fault("body", body=body)

    assert refusal(feed, "/price") == "its answer is not JSON"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("reset", "the connection failed"),
        ("error", "it answered 500"),
        ("redirect", "it answered 302"),
        ("zero", "its price is implausible"),
        ("negative", "its price is implausible"),
        ("missing", "its answer has no price"),
        ("garbage", "its answer is not JSON"),
        ("html", "its answer is not JSON"),
        ("huge", "its answer is too large"),
    ],
)
def test_failure_of_a_source_has_a_reason(feed, kind, reason):
    feed.fault(kind)
    request_count = len(feed.requests)

    assert refusal(feed) == reason
    # A redirect is not followed.
    assert len(feed.requests) == request_count + 1


@pytest.mark.parametrize(
    # It answers within the usual timeout, and so is used without the shorter one.
    ("kind", "seconds"),
    [("slow", 4), ("drip", 4), ("drip", 0.01)],
)
def test_slow_source_times_out(feed, kind, seconds, monkeypatch):
    monkeypatch.setattr(prices, "TIMEOUT", 0.1)
    feed.fault(kind, seconds=seconds)

    assert refusal(feed) == "it did not answer in time"


def test_closed_port_is_a_failed_connection(feed):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/{{currency}}#/price"

        with pytest.raises(PriceUnusable, match="no connection was made"):
            fetch_price(url, currency="usd")


@pytest.mark.parametrize(
    "url",
    [
        "http://prices.example/{currency}#/price",
        "http://127.0.0.1.example/{currency}#/price",
        "http://user@10.0.0.1/{currency}#/price",
        "ftp://prices.example/{currency}#/price",
        "/{currency}#/price",
    ],
)
def test_source_without_https_is_not_fetched(url):
    with pytest.raises(PriceUnusable, match="must begin with https"):
        fetch_price(url, currency="usd")


def test_response_size_is_limited(feed):
    filler = "x" * (MAX_BYTES - len('{"price": 1, "x": ""}'))
    body = f'{{"price": 1, "x": "{filler}"}}'

    assert len(body) == MAX_BYTES < HUGE
    assert fetch_body(feed, body, "/price").price == 1
    feed.fault("body", body=f"{body} ")
    assert refusal(feed, "/price") == "its answer is too large"


def test_api_key_in_the_url_is_not_in_errors(feed):
    url = template(feed).replace("#", "?key=s3cret#")
    with pytest.raises(PriceUnusable) as caught:
        fetch_price(url, currency="usd")

    assert caught.value.message.endswith("it answered 404")
    assert "s3cret" not in repr(caught.value)
    assert "s3cret" not in repr(prices._parse_template(url))


@pytest.mark.parametrize("seconds", [299, 301, 86_400, -30])
def test_price_time_comes_from_the_response(feed, seconds):
    feed.fault("stale", seconds=seconds)

    with time_machine.travel(NOW, tick=False):
        as_of = fetch_price(template(feed), currency="usd").as_of

    assert as_of == NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("value", "as_of"),
    [
        ("1700000000", 1_700_000_000),
        ('"1700000000"', 1_700_000_000),
        ("1700000000.9", 1_700_000_000),
        ('"0"', None),
        ("-5", None),
        ("1700000000000000", None),
        ('"yesterday"', None),
        ('"2023-11-14T22:13:20Z"', None),
        ("null", None),
        ("NaN", None),
    ],
)
def test_price_time_is_in_unix_seconds(feed, value, as_of):
    feed.fault("body", body=f'{{"amount": 64000, "as_of": {value}}}')

    if as_of is None:
        assert refusal(feed) == "its answer has no time"
    else:
        price = fetch_price(template(feed), currency="usd")
        assert price.as_of == datetime.fromtimestamp(as_of, UTC)


def ago(seconds):
    return format_datetime(datetime.now(UTC) - timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("date", "age", "seconds"),
    [
        (0, None, 0),
        (120, None, 120),
        (0, "240", 240),
        (500, "240", 500),
        (None, "240", 240),
        (-7200, None, -7200),
        (-7200, "240", 240),
    ],
)
def test_price_time_falls_back_to_http_headers(feed, date, age, seconds):
    with time_machine.travel(NOW, tick=False):
        headers = {"Date": None if date is None else ago(date), "Age": age}
        feed.fault("headers", headers=headers)
        as_of = fetch_price(template(feed, "/amount"), currency="usd").as_of

    assert as_of == NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "headers",
    [
        {"Date": None},
        {"Date": "yesterday"},
        {"Date": ""},
        {"Date": "Tue, 15 Nov 1994 08:12:31 +99999999999999"},
        {"Age": "-1"},
        {"Age": "a day"},
        {"Age": "9" * 15},
    ],
)
def test_response_without_a_time_is_refused(feed, headers):
    feed.fault("headers", headers=headers)

    assert refusal(feed, "/amount") == "its answer has no time"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
STEPS = st.lists(st.sampled_from(["*", "0", "1", "", "~1", "a"]) | st.text())


@given(JSON, STEPS)
def test_json_pointer_never_raises(value, steps):
    member = prices._resolve_pointer(value, "".join(f"/{step}" for step in steps))

    number = prices._number(member)
    assert number is None or isinstance(number, Decimal)
