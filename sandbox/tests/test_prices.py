"""The price feed, asked over a real socket."""

import time
from concurrent.futures import ThreadPoolExecutor, wait
from decimal import Decimal

import pytest
import requests

from caravel import dev_defaults
from sandbox.prices.feed import HUGE, SOURCES
from sandbox.prices.server import running_prices


@pytest.fixture
def feed():
    with running_prices() as feed:
        yield feed


def ask(feed, source="beacon", currency="usd", **options):
    url = f"{feed.url}/prices/{source}/{currency}"
    options = {"timeout": 10, "allow_redirects": False, **options}
    with requests.Session() as session, session.get(url, **options) as answer:
        assert answer.content is not None
        return answer


@pytest.mark.parametrize("currency", ["usd", "eur", "jpy", "kwd", "isk", "ugx"])
def test_each_source_has_a_price_of_now(feed, currency):
    answers = [ask(feed, source, currency).json() for source in SOURCES]

    prices = [Decimal(answer["amount"]) for answer in answers]
    assert prices == sorted({*prices})
    assert prices[-1] / prices[0] < Decimal("1.01")
    assert all(abs(answer["as_of"] - time.time()) < 5 for answer in answers)
    assert {answer["currency"] for answer in answers} == {currency.upper()}
    assert feed.requests == [(source, currency) for source in SOURCES]


def test_its_urls_lead_to_the_sources(feed):
    for template, source in zip(feed.urls, SOURCES, strict=True):
        url, _, pointer = template.partition("#")

        answer = requests.get(url.replace("{currency}", "eur"), timeout=10).json()

        assert pointer == "/amount@/as_of"
        assert Decimal(answer["amount"]) > 0
        assert feed.requests[-1] == (source, "eur")


def test_development_asks_these_sources(feed, tmp_path):
    default = dev_defaults.defaults(tmp_path)["BTC_PRICE_URLS"]

    assert default.replace("http://127.0.0.1:12112", feed.url) == ",".join(feed.urls)


def test_a_price_is_what_it_is_set_to(feed):
    feed.set_price(70_000)
    feed.set_price(Decimal("1.25"), "omr", source="abacus")

    assert {ask(feed, name).json()["amount"] for name in SOURCES} == {"70000"}
    assert ask(feed, "abacus", "omr").json()["amount"] == "1.25"
    assert ask(feed, "beacon", "omr").status_code == 404


@pytest.mark.parametrize(
    "path", ["/", "/prices/nobody/usd", "/prices/beacon/xxx", "/prices/beacon"]
)
def test_what_is_unknown_is_not_found(feed, path):
    assert requests.get(feed.url + path, timeout=10).status_code == 404


def test_a_fault_is_of_its_source_alone_until_it_is_cleared(feed):
    feed.fault("error", "abacus")

    assert ask(feed, "abacus").status_code == 500
    assert ask(feed, "beacon").status_code == 200

    feed.clear_faults()
    assert ask(feed, "abacus").status_code == 200


def test_a_source_that_is_none_is_not_taken(feed):
    with pytest.raises(KeyError):
        feed.fault("error", "beacom")
    with pytest.raises(KeyError):
        feed.set_price(1, source="beacom")


def test_a_connection_can_be_reset(feed):
    feed.fault("reset")

    with pytest.raises(requests.ConnectionError, match="reset"):
        ask(feed)


def test_a_slow_answer_comes_late(feed):
    feed.fault("slow", seconds=0.02)
    assert ask(feed).elapsed.total_seconds() >= 0.02

    feed.fault("slow")
    with pytest.raises(requests.ReadTimeout):
        ask(feed, timeout=0.05)


def test_what_a_fault_holds_back_comes_once_it_is_cleared(feed):
    feed.fault("slow")
    with ThreadPoolExecutor() as pool:
        held = [pool.submit(ask, feed, source) for source in SOURCES]
        while len(feed.requests) < len(SOURCES):
            assert not wait(held, timeout=0.005).done

        feed.clear_faults()

        assert [each.result(10).status_code for each in held] == [200] * 3


def test_a_body_can_drip(feed):
    feed.fault("drip", seconds=0.001)

    assert ask(feed).json()["currency"] == "USD"


@pytest.mark.parametrize(
    ("kind", "details", "amount"),
    [
        ("wrong", {"factor": Decimal("0.5")}, "32000.000"),
        ("zero", {}, "0"),
        ("negative", {}, "-64000.00"),
        ("stale", {}, "64000.00"),
    ],
)
def test_a_price_can_be_wrong(feed, kind, details, amount):
    feed.fault(kind, **details)

    answer = ask(feed).json()

    assert answer["amount"] == amount
    assert (time.time() - answer["as_of"] > 3000) == (kind == "stale")


def test_an_answer_can_be_no_price(feed):
    feed.fault("missing")
    assert "amount" not in ask(feed).json()
    feed.fault("garbage")
    with pytest.raises(requests.JSONDecodeError):
        ask(feed).json()
    feed.fault("html")
    assert ask(feed).headers["Content-Type"] == "text/html"
    feed.fault("body", body='{"else": 1}')
    assert ask(feed).json() == {"else": 1}
    feed.fault("huge")
    assert len(ask(feed).content) > HUGE


def test_a_redirect_leads_to_a_price_of_another(feed):
    feed.fault("redirect", "compass")

    assert ask(feed, "compass").status_code == 302
    assert ask(feed, "compass", allow_redirects=True).json()["amount"]
    assert feed.requests[-1][0] == "beacon"


def test_headers_can_be_others_or_none(feed):
    feed.fault("headers", headers={"Date": None, "Age": "17"})

    answer = ask(feed)

    assert "Date" not in answer.headers
    assert answer.headers["Age"] == "17"


def test_a_reset_forgets_everything(feed):
    feed.set_price(1)
    feed.fault("error")
    ask(feed)

    feed.reset()

    assert feed.requests == []
    assert ask(feed).json()["amount"] == "64000.00"


def test_a_port_can_be_asked_for(feed):
    with running_prices() as other:
        port = int(other.url.rpartition(":")[2])
    with running_prices(port=port) as again:
        assert again.url == other.url
        assert ask(again).status_code == 200
