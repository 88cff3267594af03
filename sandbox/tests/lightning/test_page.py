"""The page of the sandbox Lightning over HTTP: its contents and its forms."""

import re
from html import unescape
from html.parser import HTMLParser

import pytest
import requests

from sandbox.common.control import match_command
from sandbox.lightning.commands import COMMANDS
from sandbox.tests.support.lightning_fixtures import control, lightning
from sandbox.tests.support.stripe.web import fetch, part, submit, words
from sandbox.tests.support.wallet_client import wallet_client
from sandbox.wallets.behaviour import pays_after, settles_late

__all__ = ["control", "lightning"]

HOSTILE = """"><script>alert('1')</script>&amp;"""


class Forms(HTMLParser):
    """The forms of a page: their actions and field names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.forms: list[tuple[str, set[str]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "form":
            assert attributes["method"] == "post"
            self.forms.append((attributes["action"], set()))
        elif tag in ("input", "select") and "name" in attributes:
            self.forms[-1][1].add(attributes["name"])


def press(lightning, path, **form):
    return submit(f"{lightning.url}/_pages/{path}", form)


def test_page_shows_wallets_with_their_address(lightning):
    page = fetch(f"{lightning.url}/").text

    section = part(page, "wallets")
    addresses = re.findall(r'<input readonly value="([^"]+)"', section)
    assert [unescape(address) for address in addresses] == [
        w.url for w in lightning.wallets
    ]
    text = words(section)
    assert "platform Caravel's: issues the invoices" in text
    assert "10,000,000 sats" in text
    assert "0 sats of 20,000 sats, monthly" in text
    assert "pays after 20 s" in text
    assert "No requests yet." in text


def test_page_shows_payments_and_requests(lightning, control):
    invoice = control.post("wallets/platform/invoices", sats=21, description="Relay")
    control.post("wallets/platform/invoices", sats=7)
    with wallet_client(lightning.wallets["rich"].url) as client:
        client.call("pay_invoice", invoice=invoice["bolt11"])

    page = fetch(f"{lightning.url}/").text

    text = words(part(page, "invoices"))
    assert re.search(r"without a description open 7 sats – platform \S+ \S+ –", text)
    assert re.search(r"Relay paid 21 sats rich platform", text)
    assert re.search(r"pays pay_invoice \d{4}-", words(part(page, "wallets")))


def test_page_contains_no_preimage(lightning, control):
    invoice = control.post("wallets/platform/invoices", sats=21)
    control.post("wallets/rich/pay", bolt11=invoice["bolt11"])
    settled = lightning.wallets.ledger.invoice(bolt11=invoice["bolt11"])

    assert settled.preimage not in fetch(f"{lightning.url}/").text


def test_page_shows_prices_relay_and_faults(lightning, control):
    control.post("prices", price="70000.50", source="beacon")
    control.post("prices/faults", kind="stale", sources=["abacus"])
    control.post("relay/faults", kind="mute", kinds=[23194], times=2)
    control.post("wallets/rich/offline")
    control.post("relay/offline")

    page = fetch(f"{lightning.url}/").text

    assert "USD 63,968 70,000.5 64,032" in words(part(page, "prices"))
    assert f"Address {lightning.relay.url} State offline" in words(part(page, "relay"))
    faults = words(part(page, "faults"))
    assert "mute, relay on event of kind 23194, before processing 2 left" in faults
    assert "stale, prices of abacus" in faults
    assert "the relay is offline" in words(page)
    assert "2 faults active" in words(page)
    assert "offline pays" in words(part(page, "wallets"))


def test_every_form_has_a_command_that_knows_its_fields(lightning, control):
    control.post("relay/faults", kind="drop")
    control.post("wallets/slow/offline")
    forms = Forms(fetch(f"{lightning.url}/").text).forms

    commands = set()
    for action, names in forms:
        method = "DELETE" if "method" in names else "POST"
        matched = match_command(COMMANDS, method, action.removeprefix("/_pages/"))
        assert matched, action
        assert names - {"method"} <= set(matched.fields), action
        commands.add(matched.name)
    control.post("relay/offline")
    commands |= {
        matched.name
        for action, _ in Forms(fetch(f"{lightning.url}/").text).forms
        if (matched := match_command(COMMANDS, "POST", action.removeprefix("/_pages/")))
    }
    cleared_together = {"clear_price_faults", "clear_relay_faults"}  # by one form
    assert {
        command.name for command in COMMANDS.values()
    } - commands == cleared_together


def test_forms_add_a_wallet_and_set_its_behaviour(lightning):
    answer = press(lightning, "wallets", name="alice", sats="5", budget="", renewal="")
    assert answer.status_code == 200
    assert "The wallet is created." in words(answer.text)
    assert lightning.wallets["alice"].balance_msat == 5_000
    assert lightning.wallets["alice"].connection.terms.budget_msat is None

    behaving = {"kind": "settles-late", "seconds": "3", "code": ""}
    answer = press(lightning, "wallets/alice/behaviour", **behaving)
    assert "The wallet's behaviour is changed." in words(answer.text)
    assert lightning.wallets["alice"].behaviour == settles_late(3, "PAYMENT_FAILED")
    press(lightning, "wallets/alice/behaviour", kind="pays", seconds="", code="X")
    assert lightning.wallets["alice"].behaviour == pays_after(0)


def test_forms_change_the_answers_and_the_protocol_of_a_wallet(lightning):
    press(lightning, "wallets/rich/lookups", kind="settles-expired")
    answer = press(
        lightning,
        "wallets/rich/protocol",
        clock_skew="-120",
        requests_per_minute="60",
        announces="false",
        may_get_info="true",
        error_field="type",
    )

    assert "The wallet's protocol is changed." in words(answer.text)
    for difference in (
        "look-ups: settles-expired",
        "clock -120 s",
        "60 requests a minute",
        "no info event",
        "errors under type",
    ):
        assert difference in words(part(answer.text, "wallets"))


def test_form_pays_a_pasted_invoice(lightning):
    press(lightning, "wallets/platform/invoices", sats="21", description="Relay")
    page = fetch(f"{lightning.url}/").text
    bolt11 = re.findall(r'readonly value="(lnbcrt\w+)"', part(page, "invoices"))[0]

    paid = press(lightning, "wallets/rich/pay", bolt11=f" {bolt11}\n")
    again = press(lightning, "wallets/rich/pay", bolt11=bolt11)

    assert "The invoice is paid." in words(paid.text)
    assert lightning.wallets["platform"].balance_msat == 21_000
    assert again.status_code == 402
    assert "Not paid, INTERNAL: This invoice was already paid." in words(again.text)
    assert lightning.wallets["platform"].balance_msat == 21_000


def test_forms_add_and_clear_faults(lightning):
    relay = {
        "kind": "hold",
        "on": "event",
        "when": "after",
        "kinds": "23194 23195",
        "times": "1",
        "seconds": "",
    }
    prices = {"kind": "wrong", "sources": "", "seconds": "", "factor": "3"}

    assert press(lightning, "relay/faults", **relay).status_code == 200
    assert press(lightning, "prices/faults", **prices).status_code == 200

    (fault,) = lightning.relay.faults()
    assert (fault.kind, fault.when, fault.kinds) == ("hold", "after", [23194, 23195])
    assert {fault.factor for fault in lightning.prices.faults.values()} == {3}
    cleared = press(lightning, "faults", method="DELETE")
    assert "All faults are cleared." in words(cleared.text)
    assert lightning.relay.faults() == []
    assert lightning.prices.faults == {}


def test_invalid_form_shows_its_error_on_the_page(lightning):
    answer = press(lightning, "wallets/rich/deposit", sats="many")

    assert answer.status_code == 400
    assert "Sats must be an integer, at least 1." in words(answer.text)
    assert press(lightning, "wallets/nobody/deposit", sats="1").status_code == 404
    assert press(lightning, "nothing").status_code == 404


def test_hostile_text_is_escaped(lightning, control):
    control.post("wallets/platform/invoices", sats=1, description=HOSTILE)

    pages = [
        fetch(f"{lightning.url}/").text,
        press(lightning, "wallets", name=HOSTILE).text,
        fetch(f"{lightning.url}/?done={HOSTILE}").text,
    ]

    for page in pages:
        assert "<script>alert" not in page
    assert HOSTILE in unescape(pages[0])


def test_page_has_security_headers_and_all_assets(lightning):
    answer = fetch(f"{lightning.url}/")

    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert " style=" not in answer.text
    assert not re.search(r"https?://", answer.text)  # no asset of a third party
    for path in set(re.findall(r'(?:href|src)="(/_pages/[^"]+)"', answer.text)):
        assert fetch(f"{lightning.url}{path}").status_code == 200
    assert "status.css" in fetch(f"{lightning.url}/_pages/lightning.css").text


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example"])
def test_forms_of_other_origins_are_refused(lightning, origin):
    headers = {} if origin is None else {"Origin": origin}

    answer = requests.post(
        f"{lightning.url}/_pages/wallets/rich/deposit",
        data={"sats": "1"},
        headers=headers,
        timeout=60,
    )

    assert answer.status_code == 403
    assert lightning.wallets["rich"].balance_msat == 10**10


def test_unknown_paths_and_methods_are_refused(lightning):
    assert fetch(f"{lightning.url}/nothing").status_code == 404
    assert fetch(f"{lightning.url}/_pages/nothing.css").status_code == 404
    assert requests.delete(f"{lightning.url}/", timeout=60).status_code == 405
    head = requests.head(f"{lightning.url}/", timeout=60)
    assert (head.status_code, head.text) == (200, "")
