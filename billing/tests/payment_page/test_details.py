"""Lines, quote, card and receipt on the payment page, with and without Stripe."""

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import urlsplit

import pytest
import time_machine
from bolt11 import decode
from django.conf import settings
from django.utils import timezone

from billing.models import CardAttempt, InvoiceCollection
from billing.services.collection.collect import collect_invoice
from billing.services.customers.customer import clear_customer
from billing.services.invoice_views.invoices import InvoiceLine
from billing.services.payment_page import details, quote, receipt
from billing.services.subscriptions.sync import sync_tenant
from billing.tests.support.payment_page import path_of, text
from caravel.core.web.throttling import concurrency_limit
from caravel.nostr.events import parse_event
from lightning.models import LightningInvoice
from lightning.services.rates import clear_cache
from relays.services.lifecycle import change_plan, create_relay
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def get_html(client, invoice) -> str:
    response = client.get(path_of(invoice))
    assert response.status_code == 200
    return unescape(text(response))


def change(**columns):
    InvoiceCollection.objects.update(**columns)


# --- lines


def test_line_shows_plan_price_and_period(client, open_invoice):
    html = get_html(client, open_invoice)

    period = f"{open_invoice.period_start:%-d %b} – {open_invoice.period_end:%-d %b %Y}"
    assert "1 × Nostr relay, Basic <" in html
    assert f"$5.00 / month · {period}" in html
    assert "Amount due" not in html


@pytest.mark.parametrize(
    ("description", "title", "note"),
    [
        (
            "1 × Relay (at $5.00 / month)",
            "1 × Relay",
            "$5.00 / month · 1 Oct – 2 Nov 2026",
        ),
        ("Set-up (once)", "Set-up (once)", "1 Oct – 2 Nov 2026"),
    ],
)
def test_line_splits_stripe_description_into_title_and_price(description, title, note):
    start, end = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    line = InvoiceLine(description, "", 500, 1, start, end)

    formatted = details._line(line, "usd")

    assert formatted.title == title
    assert formatted.note == note
    assert formatted.amount == "$5.00"


def test_lines_name_the_relays_that_they_were_for(client, prices, clock):
    tenant = TenantFactory()
    relays = [
        create_relay(tenant_id=tenant.pk, subdomain=name, plan_id="basic")
        for name in ("birds", "cats")
    ]
    sync_tenant(tenant_id=tenant.pk)
    first = tenant.collections.get()
    collect_invoice(invoice_id=first.pk)
    clock.move(days=10)
    change_plan(relay_id=relays[1].pk, plan_id="growth")
    sync_tenant(tenant_id=tenant.pk)

    html = get_html(client, first)

    domain = settings.RELAY_DOMAIN
    assert f"birds.{domain}, cats.{domain}" in html


def test_line_for_many_relays_names_the_first(settings):
    start = datetime(2026, 10, 1, tzinfo=UTC)
    line = InvoiceLine("7 × Relay (at $5.00 / month)", "", 3500, 7, start, start)

    relays = details._line(line, "usd", list("abcdefg")).relays

    assert relays.startswith(f"a.{settings.RELAY_DOMAIN}, b.")
    assert relays.endswith(f"e.{settings.RELAY_DOMAIN} and 2 more")


def test_credits_are_shown_between_total_and_amount_due(client, open_invoice):
    change(amount_remaining_cents=200)

    html = get_html(client, open_invoice)

    assert re.findall("<td>(.*?)</td>", html) == ["$5.00", "$5.00", "-$3.00", "$2.00"]


def test_tenant_name_is_shown_and_escaped(client, open_invoice):
    open_invoice.tenant.display_name = "Ada <3"
    open_invoice.tenant.save()

    assert "Ada &lt;3" in text(client.get(path_of(open_invoice)))


@pytest.mark.parametrize("fault", ["status", "delay"])
def test_page_has_no_lines_when_stripe_is_unavailable(
    client, open_invoice, sandbox, monkeypatch, fault
):
    monkeypatch.setattr(details, "STRIPE_TIMEOUT", 0.3)
    sandbox.fault(fault, method="GET", path="/v1/invoices", seconds=3, times=None)

    html = get_html(client, open_invoice)

    assert "$5.00" in html
    assert "Pay with Lightning" in html
    assert 'class="lines"' not in html


# --- quote


def test_approximate_sats_are_shown_before_a_bolt11_is_issued(client, open_invoice):
    assert "≈ 7,813 sats" in get_html(client, open_invoice)


def test_missing_exchange_rate_hides_lightning_and_offers_retry(
    client, open_invoice, rates
):
    rates.fault("error")
    clear_cache()

    html = get_html(client, open_invoice)

    assert "There is no exchange rate right now" in html
    assert f'<a id="rate-again" href="{path_of(open_invoice)}">Try again</a>' in html
    assert "Pay with Lightning" not in html
    assert "Pay by card" in html


def test_slow_exchange_rate_is_left_out(client, open_invoice, rates, monkeypatch):
    monkeypatch.setattr(quote, "QUOTE_TIMEOUT", 0.3)
    rates.fault("slow", seconds=3)
    clear_cache()

    html = get_html(client, open_invoice)

    assert "≈" not in html
    assert "Pay with Lightning" in html


# --- card


def test_card_button_redirects_to_portal_and_returns(client, open_invoice, settings):
    response = client.post(path_of(open_invoice) + "/card")

    assert response.status_code == 303
    assert response["Location"].startswith(settings.STRIPE_API_BASE)
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(response["Location"]))
    policy = response["Content-Security-Policy"]
    assert f"form-action 'self' {origin};" in policy
    html = unescape(text(client.get(path_of(open_invoice) + "?back")))
    assert "If you have just saved a card" in html


def test_policy_allows_forms_to_stripes_own_portal(client, open_invoice, settings):
    settings.STRIPE_API_BASE = "https://api.stripe.com"

    policy = client.get("/pay/nonsense")["Content-Security-Policy"]

    assert "form-action 'self' https://billing.stripe.com;" in policy
    assert "unsafe" not in policy


def test_get_of_card_url_redirects_to_page(client, open_invoice, sandbox):
    response = client.get(path_of(open_invoice) + "/card")

    assert response.status_code == 302
    assert response["Location"] == path_of(open_invoice)
    assert sandbox.requests("POST", "billing_portal") == []


def test_card_button_shows_error_when_stripe_is_unavailable(
    client, open_invoice, sandbox
):
    sandbox.fault("status", path="billing_portal", times=None)

    response = client.post(path_of(open_invoice) + "/card")

    assert response.status_code == 503
    assert "This is not working right now." in text(response)
    assert "Pay with Lightning" in text(response)


@pytest.mark.parametrize("reason", ["paused", "written off", "authentication required"])
def test_hosted_page_is_linked_when_card_must_not_be_charged(
    client, open_invoice, sandbox, reason
):
    if reason == "paused":
        open_invoice.tenant.autopay_paused = True
        open_invoice.tenant.save()
    elif reason == "written off":
        change(stripe_status="uncollectible")
    else:
        create_card_attempt(open_invoice, CardAttempt.State.ACTION_REQUIRED)

    html = get_html(client, open_invoice)
    response = client.post(path_of(open_invoice) + "/card")

    assert f'href="{open_invoice.hosted_invoice_url}"' in html
    assert path_of(open_invoice) + "/card" not in html
    assert response.status_code == 302
    assert response["Location"] == path_of(open_invoice)
    assert sandbox.requests("POST", "billing_portal") == []


def test_hosted_page_is_linked_when_customer_was_deleted(client, open_invoice, sandbox):
    sandbox.client().v1.customers.delete(open_invoice.stripe_customer_id)
    clear_customer(open_invoice.tenant)

    html = get_html(client, open_invoice)

    assert path_of(open_invoice) + "/card" not in html
    assert f'href="{open_invoice.hosted_invoice_url}"' in html
    assert "Pay with Lightning" in html


def test_declined_card_is_mentioned(client, open_invoice):
    create_card_attempt(open_invoice, CardAttempt.State.REFUSED)

    assert "Your card was declined" in get_html(client, open_invoice)


def create_card_attempt(invoice, state):
    CardAttempt.objects.create(
        collection=invoice,
        payment_method="pm_1",
        amount_cents=500,
        idempotency_key="1",
        state=state,
        resolved_at=timezone.now(),
    )


def test_card_hint_names_time_until_bolt11_can_be_paid(client, open_invoice):
    client.post(path_of(open_invoice))

    html = get_html(client, open_invoice)

    until = LightningInvoice.objects.get().final_at
    assert "charged only after the Lightning invoice can no longer be paid" in html
    assert "soon after <time" in html
    assert f"{until:%-d %B %Y, %H:%M} UTC" in html


# --- state


@pytest.mark.parametrize(
    ("columns", "headline"),
    [
        ({"stripe_status": "uncollectible"}, "This invoice was written off"),
        ({"suspend_at": timezone.now() - timedelta(days=1)}, "This invoice is overdue"),
    ],
)
def test_overdue_and_written_off_invoices_can_be_paid(
    client, open_invoice, columns, headline
):
    change(**columns)

    html = get_html(client, open_invoice)

    assert headline in html
    assert client.post(path_of(open_invoice)).status_code == 302


@pytest.mark.parametrize(("cents", "amount_due"), [(380, "$3.80"), (700, "$7.00")])
def test_changed_amount_due_is_explained_next_to_open_bolt11(
    client, open_invoice, cents, amount_due
):
    client.post(path_of(open_invoice))
    assert "The amount due is now" not in get_html(client, open_invoice)

    change(amount_remaining_cents=cents)

    html = get_html(client, open_invoice)
    assert "$5.00 at $" in html
    assert f"The amount due is now {amount_due}." in html


def test_new_bolt11_is_available_one_minute_after_expiry(client, open_invoice):
    client.post(path_of(open_invoice))
    expires_at = LightningInvoice.objects.get().expires_at

    with time_machine.travel(expires_at + timedelta(seconds=10)):
        html = get_html(client, open_invoice)
        response = client.post(path_of(open_invoice))
    with time_machine.travel(expires_at + timedelta(seconds=70)):
        later = get_html(client, open_invoice)

    assert "The Lightning invoice has expired" in html
    assert f"{expires_at + timedelta(seconds=60):%H:%M:%S} UTC" in html
    assert '<button id="lightning"' not in html
    assert response.status_code == 409
    assert "A payment may be arriving." in text(response)
    assert "Get a new Lightning invoice" in later


# --- receipt


def pay_by_lightning(client, open_invoice, alice):
    client.post(path_of(open_invoice))
    alice.pay(LightningInvoice.objects.get().bolt11)
    client.get(path_of(open_invoice) + "/status")


def test_receipt_on_page_can_be_verified_by_anyone(client, open_invoice, alice):
    pay_by_lightning(client, open_invoice, alice)

    html = get_html(client, open_invoice)

    codes = re.findall(r"<code[^>]*>(.*?)</code>", html)
    payment_hash, preimage, shell, bolt11, event = codes
    assert hashlib.sha256(bytes.fromhex(preimage)).hexdigest() == payment_hash
    assert preimage in shell
    assert decode(bolt11).payment_hash == payment_hash
    signed = parse_event(json.loads(event))  # checks id and signature
    assert json.loads(signed.content)["invoice_id"] == open_invoice.pk
    assert open_invoice.number in html
    assert "$5.00" in html
    assert "7,813" in html


def test_receipt_comes_from_database_when_stripe_is_slow(
    client, open_invoice, alice, sandbox, monkeypatch
):
    monkeypatch.setattr(receipt, "RECEIPT_TIMEOUT", 0.3)
    pay_by_lightning(client, open_invoice, alice)
    sandbox.fault("delay", method="GET", path="/v1/invoices", seconds=3, times=None)

    html = get_html(client, open_invoice)

    assert "Paid. Thank you!" in html
    assert LightningInvoice.objects.get().payment_hash in html


@pytest.mark.parametrize(
    ("paid_by", "method"),
    [
        ("card", "Card"),
        ("credit", "Credit"),
        ("elsewhere", "Another method, recorded in Stripe"),
        ("wallet", "Lightning, from the connected wallet"),
        ("lightning", "Lightning"),
    ],
)
def test_receipt_from_database_names_payment_method(
    client, open_invoice, sandbox, paid_by, method
):
    change(
        stripe_status="paid",
        amount_remaining_cents=0,
        paid_by=paid_by,
        amount_paid_cents=5,
    )
    sandbox.fault("status", method="GET", path="/v1/invoices", times=None)

    assert f"<dd>{method}</dd>" in get_html(client, open_invoice)


def test_receipt_of_a_bank_debit_does_not_name_a_card(client, open_invoice, sandbox):
    CardAttempt.objects.create(
        collection=open_invoice,
        payment_method="pm_1",
        method_type="sepa_debit",
        amount_cents=500,
        idempotency_key="key",
        state="paid",
        resolved_at=timezone.now(),
    )
    sandbox.client().v1.invoices.pay(open_invoice.pk, {"paid_out_of_band": True})
    collect_invoice(invoice_id=open_invoice.pk)

    assert "<dd>Bank account</dd>" in get_html(client, open_invoice)


def test_invoice_paid_in_stripe_has_receipt(client, open_invoice, sandbox, settings):
    sandbox.client().v1.invoices.pay(open_invoice.pk, {"paid_out_of_band": True})
    collect_invoice(invoice_id=open_invoice.pk)

    html = get_html(client, open_invoice)

    assert "Another method, recorded in Stripe" in html
    assert "Payment hash" not in html
    assert "signed by npub1" in html


def test_reloading_a_receipt_reads_it_at_stripe_ten_times_a_minute(
    client, open_invoice, sandbox
):
    sandbox.client().v1.invoices.pay(open_invoice.pk, {"paid_out_of_band": True})
    collect_invoice(invoice_id=open_invoice.pk)
    get_html(client, open_invoice)  # caches the lines
    before = len(sandbox.requests("GET", f"invoices/{open_invoice.pk}"))

    for _ in range(12):
        html = get_html(client, open_invoice)

    assert len(sandbox.requests("GET", f"invoices/{open_invoice.pk}")) == before + 9
    assert "<dt>Amount</dt><dd>$5.00</dd>" in html
    assert "Please reload this page in a minute" in html


def visible_text(html) -> str:
    return re.sub(r"<details.*?</details>|<[^>]*>", "", html, flags=re.DOTALL)


def test_invoice_that_was_credited_away_is_not_called_paid(
    client, open_invoice, sandbox
):
    note = {"invoice": open_invoice.pk, "amount": 500}
    sandbox.client().v1.credit_notes.create(note)
    collect_invoice(invoice_id=open_invoice.pk)

    html = get_html(client, open_invoice)

    assert "Covered by credit" in html
    assert "nothing was charged" in html
    assert "<dt>Credit applied</dt><dd>$5.00</dd>" in html
    assert "$0.00" not in html
    assert "Thank you" not in html and "Amount paid" not in html
    assert "receipt" not in visible_text(html)
    assert "This link does not expire" in html


def test_invoice_without_an_amount_is_not_called_paid(client, open_invoice):
    free = {"total_cents": 0, "amount_due_cents": 0, "paid_by": "credit"}
    change(stripe_status="paid", amount_remaining_cents=0, **free)

    html = get_html(client, open_invoice)

    assert "There is nothing to pay" in html
    assert "Thank you" not in html
    assert "receipt" not in visible_text(html)
    assert "Payment method" not in html
    assert "Please reload" not in html


# --- limits


def test_buttons_of_one_invoice_are_rate_limited(client, open_invoice):
    for _ in range(10):
        assert client.post(path_of(open_invoice)).status_code == 302

    response = client.post(path_of(open_invoice))

    assert response.status_code == 429
    assert 0 < int(response["Retry-After"]) <= 60
    assert "Too many requests" in text(response)
    assert client.get(path_of(open_invoice)).status_code == 200


def test_rate_limited_view_renders_error_page(client, open_invoice, settings):
    settings.API_RATE_PER_ADDRESS = "1/minute"
    client.get(path_of(open_invoice))

    response = client.get(path_of(open_invoice))

    assert response.status_code == 429
    assert int(response["Retry-After"]) > 0
    assert "One moment, please" in text(response)
    assert open_invoice.number not in text(response)


def test_no_bolt11_is_issued_when_overloaded(client, open_invoice, settings):
    limits = [concurrency_limit() for _ in range(settings.SLOW_REQUESTS)]
    for limit in limits:
        limit.__enter__()
    try:
        response = client.post(path_of(open_invoice))
    finally:
        for limit in limits:
            limit.__exit__(None, None, None)

    assert response.status_code == 503
    assert response["Retry-After"] == "5"
    assert "try again in a moment" in text(response)
    assert not LightningInvoice.objects.exists()
