"""The price feed over a real socket."""

import time
from concurrent.futures import ThreadPoolExecutor, wait
from decimal import Decimal

import pytest
import requests

from caravel import dev_defaults
from caravel.tests.support.waiting import wait_until
from sandbox.prices.feed import HUGE, SOURCES
from sandbox.prices.server import running_prices


@pytest.fixture
def feed():
    with running_prices() as feed:
        yield feed


def fetch(feed, source="beacon", currency="usd", **options):
    url = f"{feed.url}/prices/{source}/{currency}"
    options = {"timeout": 10, "allow_redirects": False, **options}
    with requests.Session() as session, session.get(url, **options) as answer:
        assert answer.content is not None
        return answer


@pytest.mark.parametrize("currency", ["usd", "eur", "jpy", "kwd", "isk", "ugx"])
def test_each_source_returns_a_current_price(feed, currency):
    earliest = int(time.time())
    answers = [fetch(feed, source, currency).json() for source in SOURCES]
    latest = time.time()

    prices = [Decimal(answer["amount"]) for answer in answers]
    assert prices == sorted({*prices})
    assert prices[-1] / prices[0] < Decimal("1.01")
    assert all(earliest <= answer["as_of"] <= latest for answer in answers)
    assert {answer["currency"] for answer in answers} == {currency.upper()}
    assert feed.requests == [(source, currency) for source in SOURCES]


def test_price_urls_lead_to_the_sources(feed):
    for template, source in zip(feed.urls, SOURCES, strict=True):
        url, _, pointer = template.partition("#")

        answer = requests.get(url.replace("{currency}", "eur"), timeout=60).json()

        assert pointer == "/amount@/as_of"
        assert Decimal(answer["amount"]) > 0
        assert feed.requests[-1] == (source, "eur")


def test_development_settings_name_these_sources(feed, tmp_path):
    default = dev_defaults.defaults(tmp_path)["BTC_PRICE_URLS"]

    assert default.replace("http://127.0.0.1:12112", feed.url) == ",".join(feed.urls)


def test_price_can_be_set_for_all_sources_or_one(feed):
    feed.set_price(70_000)
    feed.set_price(Decimal("1.25"), "omr", source="abacus")

    assert {fetch(feed, name).json()["amount"] for name in SOURCES} == {"70000"}
    assert fetch(feed, "abacus", "omr").json()["amount"] == "1.25"
    assert fetch(feed, "beacon", "omr").status_code == 404


@pytest.mark.parametrize(
    "path", ["/", "/prices/nobody/usd", "/prices/beacon/xxx", "/prices/beacon"]
)
def test_unknown_price_path_source_or_currency_is_404(feed, path):
    assert requests.get(feed.url + path, timeout=60).status_code == 404


def test_price_fault_applies_to_its_source_until_cleared(feed):
    feed.fault("error", "abacus")

    assert fetch(feed, "abacus").status_code == 500
    assert fetch(feed, "beacon").status_code == 200

    feed.clear_faults()
    assert fetch(feed, "abacus").status_code == 200


def test_unknown_price_source_raises_keyerror(feed):
    with pytest.raises(KeyError):
        feed.fault("error", "beacom")
    with pytest.raises(KeyError):
        feed.set_price(1, source="beacom")


def test_reset_fault_resets_the_connection(feed):
    feed.fault("reset")

    with pytest.raises(requests.ConnectionError, match="reset"):
        fetch(feed)


def test_slow_fault_delays_the_response(feed):
    feed.fault("slow", seconds=0.02)
    assert fetch(feed).elapsed.total_seconds() >= 0.02

    feed.fault("slow")
    with pytest.raises(requests.ReadTimeout):
        fetch(feed, timeout=0.05)


def test_delayed_responses_arrive_once_the_faults_are_cleared(feed):
    feed.fault("slow")
    with ThreadPoolExecutor() as pool:
        held = [pool.submit(fetch, feed, source) for source in SOURCES]
        wait_until(lambda: len(feed.requests) >= len(SOURCES))
        assert not wait(held, timeout=0.05).done

        feed.clear_faults()

        assert [each.result(60).status_code for each in held] == [200] * 3


def test_drip_fault_sends_the_whole_body_slowly(feed):
    feed.fault("drip", seconds=0.001)

    assert fetch(feed).json()["currency"] == "USD"


@pytest.mark.parametrize(
    ("kind", "details", "amount"),
    [
        ("wrong", {"factor": Decimal("0.5")}, "32000.000"),
        ("zero", {}, "0"),
        ("negative", {}, "-64000.00"),
        ("stale", {}, "64000.00"),
    ],
)
def test_price_faults_change_the_price_or_its_timestamp(feed, kind, details, amount):
    feed.fault(kind, **details)

    answer = fetch(feed).json()

    assert answer["amount"] == amount
    assert (time.time() - answer["as_of"] > 3000) == (kind == "stale")


def test_faults_can_return_no_price(feed):
    feed.fault("missing")
    assert "amount" not in fetch(feed).json()
    feed.fault("garbage")
    with pytest.raises(requests.JSONDecodeError):
        fetch(feed).json()
    feed.fault("html")
    assert fetch(feed).headers["Content-Type"] == "text/html"
    feed.fault("body", body='{"else": 1}')
    assert fetch(feed).json() == {"else": 1}
    feed.fault("huge")
    assert len(fetch(feed).content) > HUGE


def test_redirect_fault_leads_to_another_source(feed):
    feed.fault("redirect", "compass")

    assert fetch(feed, "compass").status_code == 302
    assert fetch(feed, "compass", allow_redirects=True).json()["amount"]
    assert feed.requests[-1][0] == "beacon"


def test_headers_fault_replaces_and_removes_headers(feed):
    feed.fault("headers", headers={"Date": None, "Age": "17"})

    answer = fetch(feed)

    assert "Date" not in answer.headers
    assert answer.headers["Age"] == "17"


def test_reset_restores_prices_and_clears_requests(feed):
    feed.set_price(1)
    feed.fault("error")
    fetch(feed)

    feed.reset()

    assert feed.requests == []
    assert fetch(feed).json()["amount"] == "64000.00"


def test_port_of_the_price_sources_can_be_chosen(feed):
    with running_prices() as other:
        port = int(other.url.rpartition(":")[2])
    with running_prices(port=port) as again:
        assert again.url == other.url
        assert fetch(again).status_code == 200
