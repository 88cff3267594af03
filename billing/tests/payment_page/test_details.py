"""What the payment page shows of others' answers, or does without."""

import hashlib
import json
import re
import time
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import urlsplit

import pytest
import time_machine
from bolt11 import decode
from django.utils import timezone

from billing.models import CardAttempt, InvoiceCollection
from billing.services.collection.collect import collect_invoice
from billing.services.customers.customer import clear_customer
from billing.services.invoice_views.invoices import InvoiceLine
from billing.services.payment_page import details, quote, receipt
from billing.tests.support.payment_page import path_of, text
from caravel.core.web.throttling import concurrency_limit
from caravel.nostr.events import parse_event
from lightning.models import LightningInvoice
from lightning.services.rates import clear_cache

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def page(client, invoice) -> str:
    answer = client.get(path_of(invoice))
    assert answer.status_code == 200
    return unescape(text(answer))


def change(**columns):
    InvoiceCollection.objects.update(**columns)


# --- what is billed


def test_each_line_says_what_for_and_how_long(client, payable):
    shown = page(client, payable)

    period = f"{payable.period_start:%-d %b} – {payable.period_end:%-d %b %Y}"
    assert "1 × Nostr relay, Basic <" in shown
    assert f"$5.00 / month · {period}" in shown
    assert "Amount due" not in shown


@pytest.mark.parametrize(
    ("described", "title", "note"),
    [
        (
            "1 × Relay (at $5.00 / month)",
            "1 × Relay",
            "$5.00 / month · 1 Oct – 2 Nov 2026",
        ),
        ("Set-up (once)", "Set-up (once)", "1 Oct – 2 Nov 2026"),
    ],
)
def test_a_line_is_as_stripe_describes_it(described, title, note):
    start, end = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    line = InvoiceLine(described, "", 500, 1, start, end)

    shown = details._line(line, "usd")

    assert (shown.title, shown.note, shown.amount) == (title, note, "$5.00")


def test_what_was_credited_stands_between_the_total_and_what_is_asked(client, payable):
    change(amount_remaining_cents=200)

    shown = page(client, payable)

    assert re.findall("<td>(.*?)</td>", shown) == ["$5.00", "$5.00", "-$3.00", "$2.00"]


def test_who_is_billed_is_named(client, payable):
    payable.tenant.display_name = "Ada <3"
    payable.tenant.save()

    assert "Ada &lt;3" in text(client.get(path_of(payable)))


@pytest.mark.parametrize("fault", ["status", "delay"])
def test_without_stripe_the_page_does_without_lines(
    client, payable, sandbox, monkeypatch, fault
):
    monkeypatch.setattr(details, "STRIPE_TIMEOUT", 0.3)
    sandbox.fault(fault, method="GET", path="/v1/invoices", seconds=3, times=None)

    begun = time.monotonic()
    shown = page(client, payable)

    assert time.monotonic() - begun < 2.5
    assert "$5.00" in shown
    assert "Pay with Lightning" in shown
    assert 'class="lines"' not in shown


# --- about how many sats


def test_the_sats_are_about(client, payable):
    assert "≈ 7,813 sats" in page(client, payable)


def test_without_a_rate_the_page_says_so_and_offers_to_try_again(
    client, payable, rates
):
    rates.fault("error")
    clear_cache()

    shown = page(client, payable)

    assert "There is no exchange rate right now" in shown
    assert f'<a id="rate-again" href="{path_of(payable)}">Try again</a>' in shown
    assert "Pay with Lightning" not in shown
    assert "Pay by card" in shown


def test_a_rate_that_takes_long_is_not_waited_for(client, payable, rates, monkeypatch):
    monkeypatch.setattr(quote, "QUOTE_TIMEOUT", 0.3)
    rates.fault("slow", seconds=3)
    clear_cache()

    begun = time.monotonic()
    shown = page(client, payable)

    assert time.monotonic() - begun < 2
    assert "≈" not in shown
    assert "Pay with Lightning" in shown


# --- by card


def test_a_card_is_saved_at_stripe_and_comes_back(client, payable, settings):
    answer = client.post(path_of(payable) + "/card")

    assert answer.status_code == 303
    assert answer["Location"].startswith(settings.STRIPE_API_BASE)
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(answer["Location"]))
    policy = answer["Content-Security-Policy"]
    assert f"form-action 'self' {origin};" in policy
    back = page_at(client, path_of(payable) + "?back")
    assert "If you have just saved a card" in back


def page_at(client, address) -> str:
    return unescape(text(client.get(address)))


def test_stripe_itself_has_its_portal_elsewhere(client, payable, settings):
    settings.STRIPE_API_BASE = "https://api.stripe.com"

    policy = client.get("/pay/nonsense")["Content-Security-Policy"]

    assert "form-action 'self' https://billing.stripe.com;" in policy
    assert "unsafe" not in policy


def test_looking_where_the_form_leads_leads_back(client, payable, sandbox):
    answer = client.get(path_of(payable) + "/card")

    assert (answer.status_code, answer["Location"]) == (302, path_of(payable))
    assert sandbox.requests("POST", "billing_portal") == []


def test_without_stripe_no_card_can_be_saved(client, payable, sandbox):
    sandbox.fault("status", path="billing_portal", times=None)

    answer = client.post(path_of(payable) + "/card")

    assert answer.status_code == 503
    assert "This is not working right now." in text(answer)
    assert "Pay with Lightning" in text(answer)


@pytest.mark.parametrize("why", ["paused", "written off", "the bank wants to ask"])
def test_who_is_not_charged_by_us_pays_at_stripe(client, payable, sandbox, why):
    if why == "paused":
        payable.tenant.autopay_paused = True
        payable.tenant.save()
    elif why == "written off":
        change(stripe_status="uncollectible")
    else:
        tried(payable, CardAttempt.State.ACTION_REQUIRED)

    shown = page(client, payable)
    answer = client.post(path_of(payable) + "/card")

    assert f'href="{payable.hosted_invoice_url}"' in shown
    assert path_of(payable) + "/card" not in shown
    assert (answer.status_code, answer["Location"]) == (302, path_of(payable))
    assert sandbox.requests("POST", "billing_portal") == []


def test_no_card_is_saved_for_a_customer_that_was_deleted(client, payable, sandbox):
    sandbox.client().v1.customers.delete(payable.stripe_customer_id)
    clear_customer(payable.tenant)

    shown = page(client, payable)

    assert path_of(payable) + "/card" not in shown
    assert f'href="{payable.hosted_invoice_url}"' in shown
    assert "Pay with Lightning" in shown


def test_a_card_that_was_declined_is_told_of(client, payable):
    tried(payable, CardAttempt.State.REFUSED)

    assert "Your card was declined" in page(client, payable)


def tried(invoice, state):
    CardAttempt.objects.create(
        collection=invoice,
        payment_method="pm_1",
        amount_cents=500,
        idempotency_key="1",
        state=state,
        resolved_at=timezone.now(),
    )


def test_a_card_waits_for_what_is_on_offer(client, payable):
    client.post(path_of(payable))

    shown = page(client, payable)

    until = LightningInvoice.objects.get().final_at
    assert "charged only after the Lightning invoice can no longer be paid" in shown
    assert f"{until:%-d %B, %H:%M} UTC" in shown.replace("&nbsp;", " ")


# --- the rest of what an invoice may be


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"stripe_status": "uncollectible"}, "This invoice was written off"),
        ({"suspend_at": timezone.now() - timedelta(days=1)}, "This invoice is overdue"),
    ],
)
def test_it_can_still_be_paid(client, payable, columns, told):
    change(**columns)

    shown = page(client, payable)

    assert told in shown
    assert client.post(path_of(payable)).status_code == 302


@pytest.mark.parametrize(("cents", "asked"), [(380, "$3.80"), (700, "$7.00")])
def test_what_is_on_offer_may_be_for_another_amount(client, payable, cents, asked):
    client.post(path_of(payable))
    assert "The amount due is now" not in page(client, payable)

    change(amount_remaining_cents=cents)

    shown = page(client, payable)
    assert "$5.00 at $" in shown
    assert f"The amount due is now {asked}." in shown


def test_an_expired_one_is_replaced_after_a_minute(client, payable):
    client.post(path_of(payable))
    expires_at = LightningInvoice.objects.get().expires_at

    with time_machine.travel(expires_at + timedelta(seconds=10)):
        shown, refused = page(client, payable), client.post(path_of(payable))
    with time_machine.travel(expires_at + timedelta(seconds=70)):
        later = page(client, payable)

    assert "The Lightning invoice has expired" in shown
    assert f"{expires_at + timedelta(seconds=60):%H:%M:%S} UTC" in shown
    assert '<button id="lightning"' not in shown
    assert refused.status_code == 409
    assert "A payment may be arriving." in text(refused)
    assert "Get a new Lightning invoice" in later


# --- the receipt


def pay(client, payable, alice):
    client.post(path_of(payable))
    alice.pay(LightningInvoice.objects.get().bolt11)
    client.get(path_of(payable) + "/status")


def test_a_stranger_can_check_the_receipt(client, payable, alice):
    pay(client, payable, alice)

    shown = page(client, payable)

    codes = re.findall(r"<code[^>]*>(.*?)</code>", shown)
    payment_hash, preimage, shell, bolt11, event = codes
    assert hashlib.sha256(bytes.fromhex(preimage)).hexdigest() == payment_hash
    assert preimage in shell
    assert decode(bolt11).payment_hash == payment_hash
    signed = parse_event(json.loads(event))  # checks id and signature
    assert json.loads(signed.content)["invoice_id"] == payable.pk
    assert payable.number in shown
    assert "$5.00" in shown
    assert "7,813" in shown


def test_without_stripe_the_receipt_has_what_we_know(
    client, payable, alice, sandbox, monkeypatch
):
    monkeypatch.setattr(receipt, "RECEIPT_TIMEOUT", 0.3)
    pay(client, payable, alice)
    sandbox.fault("delay", method="GET", path="/v1/invoices", seconds=3, times=None)

    shown = page(client, payable)

    assert "Paid. Thank you!" in shown
    assert LightningInvoice.objects.get().payment_hash in shown


@pytest.mark.parametrize(
    ("paid_by", "how"),
    [
        ("card", "Card"),
        ("credit", "Credit"),
        ("elsewhere", "Another method, recorded in Stripe"),
        ("wallet", "Lightning, from the connected wallet"),
        ("lightning", "Lightning"),
    ],
)
def test_it_says_how_it_was_paid(client, payable, sandbox, paid_by, how):
    change(
        stripe_status="paid",
        amount_remaining_cents=0,
        paid_by=paid_by,
        amount_paid_cents=5,
    )
    sandbox.fault("status", method="GET", path="/v1/invoices", times=None)

    assert f"<dd>{how}</dd>" in page(client, payable)


def test_what_was_paid_at_stripe_has_a_receipt(client, payable, sandbox, settings):
    sandbox.client().v1.invoices.pay(payable.pk, {"paid_out_of_band": True})
    collect_invoice(invoice_id=payable.pk)

    shown = page(client, payable)

    assert "Another method, recorded in Stripe" in shown
    assert "Payment hash" not in shown
    assert "signed by npub1" in shown


# --- too many


def test_the_buttons_of_one_invoice_are_not_pressed_for_ever(client, payable):
    for _ in range(10):
        assert client.post(path_of(payable)).status_code == 302

    answer = client.post(path_of(payable))

    assert answer.status_code == 429
    assert 0 < int(answer["Retry-After"]) <= 60
    assert "Too many requests" in text(answer)
    assert client.get(path_of(payable)).status_code == 200


def test_too_many_looks_are_a_page_too(client, payable, settings):
    settings.API_RATE_PER_ADDRESS = "1/minute"
    client.get(path_of(payable))

    answer = client.get(path_of(payable))

    assert answer.status_code == 429
    assert int(answer["Retry-After"]) > 0
    assert "One moment, please" in text(answer)
    assert payable.number not in text(answer)


def test_with_many_waiting_nothing_is_begun(client, payable, settings):
    lanes = [concurrency_limit() for _ in range(settings.SLOW_REQUESTS)]
    for lane in lanes:
        lane.__enter__()
    try:
        answer = client.post(path_of(payable))
    finally:
        for lane in lanes:
            lane.__exit__(None, None, None)

    assert answer.status_code == 503
    assert answer["Retry-After"] == "5"
    assert "try again in a moment" in text(answer)
    assert not LightningInvoice.objects.exists()
