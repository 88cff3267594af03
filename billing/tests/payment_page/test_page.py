"""GET and POST of `/pay/<token>`."""

import re
from datetime import timedelta
from unittest.mock import patch

import pytest
import time_machine
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.models import InvoiceCollection
from billing.services.collection.collect import collect_invoice
from billing.services.invoices.payment_link import LIFETIME, payment_url, verify_token
from billing.services.invoices.records import payment_request_for
from billing.tests.support.payment_page import bolt11s, path_of, text
from lightning.clients import nwc
from lightning.models import LightningInvoice
from lightning.services.invoice_status import check_invoice
from lightning.services.wallets import connect_wallet
from lightning.tests.support.payments import start_payment
from relays.models import Relay

pytestmark = pytest.mark.django_db


@pytest.fixture
def invoice(open_invoice: InvoiceCollection) -> InvoiceCollection:
    return open_invoice


def test_viewing_page_issues_no_bolt11(client, invoice, sandbox):
    before = len(sandbox.requests("POST"))

    response = client.get(path_of(invoice))

    assert response.status_code == 200
    assert invoice.number in text(response)
    assert "$5.00" in text(response)
    assert f"{invoice.suspend_at:%-d %B %Y, %H:%M} UTC" in text(response)
    assert "Pay with Lightning" in text(response)
    assert "Pay by card" in text(response)
    assert bolt11s() == []
    assert len(sandbox.requests("POST")) == before


def test_second_click_shows_the_same_bolt11(client, invoice):
    path = path_of(invoice)

    first, second = client.post(path), client.post(path)

    assert first.status_code == 302
    assert first["Location"] == path
    assert second.status_code == 302
    (bolt11,) = bolt11s()
    response = client.get(path)
    row = LightningInvoice.objects.get()
    assert bolt11 in text(response)
    assert f"{row.amount_msat // 1000:,} sats" in text(response)
    assert f"{row.expires_at:%H:%M} UTC" in text(response)
    assert "Pay with Lightning" not in text(response)
    assert bolt11s() == [bolt11]


def test_expired_bolt11_is_not_shown(client, invoice):
    path = path_of(invoice)
    client.post(path)

    with time_machine.travel(timezone.now() + timedelta(seconds=901)):
        response = client.get(path)

    assert bolt11s()[0] not in text(response)


def test_page_shows_receipt_after_lightning_payment(client, invoice, wallets, alice):
    path = path_of(invoice)
    client.post(path)
    wallets.ledger.pay("alice", bolt11s()[0])
    check_invoice(invoice_id=LightningInvoice.objects.get().pk)
    collect_invoice(invoice_id=invoice.pk)

    response = client.get(path)

    assert "Paid. Thank you!" in text(response)
    assert "<form" not in text(response)
    late_click = client.post(path)
    assert late_click.status_code == 409
    assert "Paid. Thank you!" in text(late_click)
    assert 'role="alert"' not in text(late_click)
    assert len(bolt11s()) == 1


def test_no_payment_method_is_shown_while_wallet_payment_is_pending(
    client, invoice, alice
):
    connect_wallet(pubkey=invoice.tenant_id, nwc_url=alice.url)
    start_payment(payment_request_for(invoice))
    path = path_of(invoice)

    page, click = client.get(path), client.post(path)

    assert "Waiting for your wallet" in text(page)
    until = LightningInvoice.objects.get().final_at
    assert f"{until:%-d %B %Y, %H:%M} UTC" in text(page)
    assert click.status_code == 409
    assert "wallet is in progress. Please come back after <time" in text(click)
    for response in (page, click):
        assert bolt11s()[0] not in text(response)
        assert "<form" not in text(response)
        assert invoice.hosted_invoice_url not in text(response)


def test_no_past_time_is_shown_while_wallet_payment_is_pending(client, invoice, alice):
    connect_wallet(pubkey=invoice.tenant_id, nwc_url=alice.url)
    start_payment(payment_request_for(invoice))
    path = path_of(invoice)

    # Without an answer from our wallet the payment stays pending after its end.
    with time_machine.travel(timezone.now() + timedelta(hours=5)):
        page, click = client.get(path), client.post(path)

    assert "This usually takes only a moment" in text(page)
    assert "wallet is in progress." in text(click)
    assert "come back after" not in text(click)


def test_missing_exchange_rate_asks_payer_to_try_again(client, invoice, rates):
    rates.fault("error")

    response = client.post(path_of(invoice))

    assert response.status_code == 503
    assert "Please try again in a few minutes." in text(response)
    assert bolt11s() == []


def test_wallet_error_is_logged_and_not_shown(client, invoice, own_wallet, caplog):
    own_wallet.go_offline()

    with patch.object(nwc, "TIMEOUT", 1.0):
        response = client.post(path_of(invoice))

    assert response.status_code == 504
    assert "This is not working right now." in text(response)
    assert "Pay by card" in text(response)
    assert "payment_not_begun" in caplog.text


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"stripe_status": "void", "amount_remaining_cents": 0},
            "There is nothing to pay.",
        ),
        (
            {"stripe_status": "draft", "suspend_at": None, "finalized_at": None},
            "still being prepared",
        ),
    ],
)
def test_draft_and_void_invoices_have_no_form(client, invoice, columns, message):
    InvoiceCollection.objects.update(**columns)

    response = client.get(path_of(invoice))

    assert f"is-{columns['stripe_status']}" in text(response)
    assert message in text(response)
    assert "<form" not in text(response)


def test_page_promises_that_relays_stay_on_only_with_an_active_relay(client, invoice):
    assert "the relays stay on" in text(client.get(path_of(invoice)))

    Relay.objects.update(status="inactive")

    assert "relays" not in text(client.get(path_of(invoice)))


def test_overdue_invoice_is_labelled(client, invoice):
    InvoiceCollection.objects.update(suspend_at=timezone.now())

    assert "overdue" in text(client.get(path_of(invoice)))


# --- link


@pytest.mark.parametrize("method", ["get", "post"])
def test_invalid_link_is_not_found(client, invoice, method):
    valid = path_of(invoice)
    other = valid.replace(invoice.pk, "in_another")

    for path in ("/pay/nonsense", valid[:-1], valid + "a", other):
        response = getattr(client, method)(path)
        assert response.status_code == 404
        assert invoice.number not in text(response)
        assert response["Cache-Control"] == "no-store, private"
    assert bolt11s() == []


@pytest.mark.parametrize("method", ["get", "post"])
def test_expired_link_is_gone(client, invoice, method):
    path = path_of(invoice)

    with time_machine.travel(timezone.now() + LIFETIME - timedelta(minutes=1)):
        assert client.get(path).status_code == 200
    with time_machine.travel(timezone.now() + LIFETIME + timedelta(minutes=1)):
        response = getattr(client, method)(path)

    assert response.status_code == 410
    assert "too old" in text(response)
    assert invoice.number not in text(response)
    assert bolt11s() == []


def mark_as_paid(invoice, **columns):
    paid = {"stripe_status": "paid", "amount_remaining_cents": 0, "paid_by": "card"}
    InvoiceCollection.objects.filter(pk=invoice.pk).update(**paid, **columns)


def test_link_of_a_paid_invoice_leads_to_its_receipt_years_later(client, invoice):
    path = path_of(invoice)
    mark_as_paid(invoice, amount_paid_cents=500)

    with time_machine.travel(timezone.now() + timedelta(days=3 * 365)):
        response = client.get(path)
        status = client.get(f"{path}/status")

    assert response.status_code == status.status_code == 200
    assert "This is your receipt" in text(response)
    assert "This link does not expire" in text(response)


def test_old_link_does_not_lead_to_a_debt_from_a_dispute(client, invoice):
    path = path_of(invoice)
    mark_as_paid(invoice, dispute_debt_cents=500)

    with time_machine.travel(timezone.now() + LIFETIME + timedelta(minutes=1)):
        response = client.get(path)

    assert response.status_code == 410
    assert invoice.number not in text(response)


def test_link_of_unknown_invoice_is_not_found(client, invoice):
    unsaved = InvoiceCollection(pk="in_gone")

    assert client.get(path_of(unsaved)).status_code == 404


def test_link_is_short_and_has_only_url_safe_characters(invoice):
    link = payment_url(invoice)

    assert len(link) < 150
    assert (
        link.split("/pay/")[1]
        .replace(".", "")
        .replace("_", "")
        .replace("-", "")
        .isalnum()
    )
    assert verify_token(link.split("/pay/")[1]) == invoice.pk


# --- security


def test_cross_site_form_is_refused(invoice):
    strict = Client(enforce_csrf_checks=True)
    path = path_of(invoice)

    for url in (path, f"{path}/card"):
        response = strict.post(url)
        assert response.status_code == 403
        assert "Your browser did not send this page’s cookie." in text(response)
        assert response["Cache-Control"] == "no-store, private"
    assert "CSRF verification failed" in text(strict.post("/admin/login/"))
    assert bolt11s() == []

    strict.get(path)
    token = strict.cookies["csrftoken"].value
    response = strict.post(path, {"csrfmiddlewaretoken": token})
    assert response.status_code == 302
    assert len(bolt11s()) == 1


def test_page_is_private_and_loads_nothing_external(client, invoice):
    path = path_of(invoice)

    for response in (client.get(path), client.post(path)):
        assert response["Cache-Control"] == "no-store, private"
        assert response["Referrer-Policy"] == "same-origin"
        assert "noindex" in response["X-Robots-Tag"]
        assert "default-src 'none'" in response["Content-Security-Policy"]
    page = text(client.get(path))
    assert "<style" not in page
    assert "style=" not in page
    assert set(re.findall(r'(?:src|href)="(https?:[^"]*)"', page)) == set()
    assert re.findall(r"<script[^>]*>[^<]", page) == []


def test_only_get_head_and_post_are_allowed(client, invoice):
    assert client.put(path_of(invoice)).status_code == 405
    assert client.head(path_of(invoice)).status_code == 200
    assert reverse("pay", args=["x"]) == "/pay/x"


def test_invoice_number_is_escaped(client, invoice):
    InvoiceCollection.objects.update(number="<script>alert(1)</script>")

    assert "<script>" not in text(client.get(path_of(invoice)))


# --- after the bolt11 has expired


def test_new_bolt11_and_card_are_available_after_expiry(client, invoice):
    path = path_of(invoice)
    client.post(path)

    with time_machine.travel(timezone.now() + timedelta(seconds=990)):
        response = client.get(path)
        click = client.post(path)

    assert "Get a new Lightning invoice" in text(response)
    assert "Pay by card" in text(response)
    assert click.status_code == 302
    assert len(bolt11s()) == 2


def test_repeated_clicks_make_no_stripe_request(client, invoice, sandbox):
    path = path_of(invoice)
    client.post(path)
    before = len(sandbox.requests())

    for _ in range(5):
        assert client.post(path).status_code == 302

    assert len(sandbox.requests()) == before


def test_click_makes_no_stripe_request_while_wallet_payment_is_pending(
    client, invoice, alice, sandbox
):
    connect_wallet(pubkey=invoice.tenant_id, nwc_url=alice.url)
    start_payment(payment_request_for(invoice))
    client.get(path_of(invoice))  # caches the lines
    before = len(sandbox.requests())

    assert client.post(path_of(invoice)).status_code == 409

    assert len(sandbox.requests()) == before


# --- the seller


@pytest.mark.parametrize(
    ("contact", "link"),
    [
        ("help@relays.example", 'href="mailto:help@relays.example"'),
        ("https://relays.example/help", 'href="https://relays.example/help"'),
        ("+48 123 456", "Questions: +48 123 456"),
        ("javascript:alert(1)", "Questions: javascript:alert(1)"),
    ],
)
def test_page_names_the_seller_and_links_to_their_contact(
    client, invoice, settings, contact, link
):
    settings.SELLER_NAME, settings.SELLER_ADDRESS = "Ada & Co", "1 High Street, Leeds"
    settings.SELLER_CONTACT = contact

    html = text(client.get(path_of(invoice)))

    assert "Sold by Ada &amp; Co, 1 High Street, Leeds" in html
    assert link in html


def test_page_of_a_link_that_is_too_old_says_whom_to_ask(client, invoice, settings):
    settings.SELLER_CONTACT = "help@relays.example"
    path = path_of(invoice)

    with time_machine.travel(timezone.now() + LIFETIME + timedelta(minutes=1)):
        assert "help@relays.example" in text(client.get(path))
