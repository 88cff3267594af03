"""`/pay/<token>`: a person looks at an invoice and pays it, without a login."""

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
from billing.services.invoices.payment_link import LIFETIME, payment_link, verify_token
from billing.tests.support.payment_page import bill, bolt11s, path_of, text
from lightning.clients import nwc
from lightning.models import LightningInvoice
from lightning.services.invoice_status import check_invoice
from lightning.services.payments import start_payment
from lightning.services.wallets import connect_wallet
from relays.models import Relay

pytestmark = pytest.mark.django_db


@pytest.fixture
def invoice(payable: InvoiceCollection) -> InvoiceCollection:
    return payable


def test_looking_issues_nothing(client, invoice, sandbox):
    before = len(sandbox.requests("POST"))

    answer = client.get(path_of(invoice))

    assert answer.status_code == 200
    assert invoice.number in text(answer)
    assert "$5.00" in text(answer)
    assert f"{invoice.suspend_at:%-d %B %Y, %H:%M} UTC" in text(answer)
    assert "Pay with Lightning" in text(answer)
    assert "Pay by card" in text(answer)
    assert bolt11s() == []
    assert len(sandbox.requests("POST")) == before


def test_a_click_offers_one_bolt11_and_two_clicks_the_same(client, invoice):
    path = path_of(invoice)

    first, again = client.post(path), client.post(path)

    assert (first.status_code, first["Location"]) == (302, path)
    assert again.status_code == 302
    (bolt11,) = bolt11s()
    shown = client.get(path)
    row = LightningInvoice.objects.get()
    assert bolt11 in text(shown)
    assert f"{row.amount_msat // 1000:,} sats" in text(shown)
    assert f"{row.expires_at:%H:%M} UTC" in text(shown)
    assert "Pay with Lightning" not in text(shown)
    assert bolt11s() == [bolt11]


def test_what_has_expired_is_not_shown(client, invoice):
    path = path_of(invoice)
    client.post(path)

    with time_machine.travel(timezone.now() + timedelta(seconds=901)):
        shown = client.get(path)

    assert bolt11s()[0] not in text(shown)


def test_a_payment_is_seen(client, invoice, wallets, alice):
    path = path_of(invoice)
    client.post(path)
    wallets.ledger.pay("alice", bolt11s()[0])
    check_invoice(invoice_id=LightningInvoice.objects.get().pk)
    collect_invoice(invoice_id=invoice.pk)

    shown = client.get(path)

    assert "Paid. Thank you!" in text(shown)
    assert "<form" not in text(shown)
    again = client.post(path)
    assert again.status_code == 409
    assert "Paid. Thank you!" in text(again)
    assert 'role="alert"' not in text(again)
    assert len(bolt11s()) == 1


def test_while_the_wallet_is_asked_nobody_is_shown_anything(client, invoice, alice):
    connect_wallet(pubkey=invoice.tenant_id, nwc_url=alice.url)
    start_payment(bill=bill(invoice))
    path = path_of(invoice)

    shown, refused = client.get(path), client.post(path)

    assert "Waiting for your wallet" in text(shown)
    until = LightningInvoice.objects.get().final_at
    assert f"{until:%-d %B, %H:%M} UTC" in text(shown)
    assert refused.status_code == 409
    assert "has been asked to pay this. Please come back after" in text(refused)
    for answer in (shown, refused):
        assert bolt11s()[0] not in text(answer)
        assert "<form" not in text(answer)
        assert invoice.hosted_invoice_url not in text(answer)


def test_nobody_is_told_to_come_back_at_a_time_that_has_passed(client, invoice, alice):
    connect_wallet(pubkey=invoice.tenant_id, nwc_url=alice.url)
    start_payment(bill=bill(invoice))
    path = path_of(invoice)

    # Our wallet has not answered since.
    with time_machine.travel(timezone.now() + timedelta(hours=5)):
        shown, refused = client.get(path), client.post(path)

    assert "It takes a moment" in text(shown)
    assert "has been asked to pay this." in text(refused)
    assert "come back after" not in text(refused)


def test_without_a_price_a_person_is_told_to_come_back(client, invoice, rates):
    rates.fault("error")

    answer = client.post(path_of(invoice))

    assert answer.status_code == 503
    assert "Please try again in a few minutes." in text(answer)
    assert bolt11s() == []


def test_our_own_trouble_is_a_sentence_and_no_more(client, invoice, own_wallet, caplog):
    own_wallet.go_offline()

    with patch.object(nwc, "QUICK", 0.5):
        answer = client.post(path_of(invoice))

    assert answer.status_code == 504
    assert "This is not working just now." in text(answer)
    assert "Pay by card" in text(answer)
    assert "payment_not_begun" in caplog.text


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (
            {"stripe_status": "void", "amount_remaining_cents": 0},
            "There is nothing to pay.",
        ),
        (
            {"stripe_status": "draft", "suspend_at": None, "finalized_at": None},
            "still being made up",
        ),
    ],
)
def test_there_is_nothing_to_pay_on_others(client, invoice, columns, told):
    InvoiceCollection.objects.update(**columns)

    answer = client.get(path_of(invoice))

    assert f"is-{columns['stripe_status']}" in text(answer)
    assert told in text(answer)
    assert "<form" not in text(answer)


def test_who_has_no_relay_running_is_not_told_that_it_stays_on(client, invoice):
    assert "the relays stay on" in text(client.get(path_of(invoice)))

    Relay.objects.update(status="inactive")

    assert "relays" not in text(client.get(path_of(invoice)))


def test_an_overdue_one_says_so(client, invoice):
    InvoiceCollection.objects.update(suspend_at=timezone.now())

    assert "overdue" in text(client.get(path_of(invoice)))


# --- the link


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_link_that_is_not_ours(client, invoice, method):
    good = path_of(invoice)
    other = good.replace(invoice.pk, "in_another")

    for path in ("/pay/nonsense", good[:-1], good + "a", other):
        answer = getattr(client, method)(path)
        assert answer.status_code == 404
        assert invoice.number not in text(answer)
        assert answer["Cache-Control"] == "no-store, private"
    assert bolt11s() == []


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_link_that_is_too_old(client, invoice, method):
    path = path_of(invoice)

    with time_machine.travel(timezone.now() + LIFETIME - timedelta(minutes=1)):
        assert client.get(path).status_code == 200
    with time_machine.travel(timezone.now() + LIFETIME + timedelta(minutes=1)):
        answer = getattr(client, method)(path)

    assert answer.status_code == 410
    assert "too old" in text(answer)
    assert invoice.number not in text(answer)
    assert bolt11s() == []


def test_an_invoice_that_is_unknown(client, invoice):
    unsaved = InvoiceCollection(pk="in_gone")

    assert client.get(path_of(unsaved)).status_code == 404


def test_a_link_survives_being_copied(invoice):
    link = payment_link(invoice)

    assert len(link) < 150
    assert (
        link.split("/pay/")[1]
        .replace(".", "")
        .replace("_", "")
        .replace("-", "")
        .isalnum()
    )
    assert verify_token(link.split("/pay/")[1]) == invoice.pk


# --- safety


def test_a_form_of_another_site_issues_nothing(invoice):
    strict = Client(enforce_csrf_checks=True)
    path = path_of(invoice)

    for address in (path, f"{path}/card"):
        refused = strict.post(address)
        assert refused.status_code == 403
        assert "Your browser did not send this page’s cookie." in text(refused)
        assert refused["Cache-Control"] == "no-store, private"
    assert "CSRF verification failed" in text(strict.post("/admin/login/"))
    assert bolt11s() == []

    strict.get(path)
    token = strict.cookies["csrftoken"].value
    answer = strict.post(path, {"csrfmiddlewaretoken": token})
    assert answer.status_code == 302
    assert len(bolt11s()) == 1


def test_nothing_keeps_or_tells_the_address(client, invoice):
    path = path_of(invoice)

    for answer in (client.get(path), client.post(path)):
        assert answer["Cache-Control"] == "no-store, private"
        assert answer["Referrer-Policy"] == "same-origin"
        assert "noindex" in answer["X-Robots-Tag"]
        assert "default-src 'none'" in answer["Content-Security-Policy"]
    page = text(client.get(path))
    assert "<style" not in page
    assert "style=" not in page
    assert set(re.findall(r'(?:src|href)="(https?:[^"]*)"', page)) == set()
    assert re.findall(r"<script[^>]*>[^<]", page) == []


def test_other_methods_are_refused(client, invoice):
    assert client.put(path_of(invoice)).status_code == 405
    assert client.head(path_of(invoice)).status_code == 200
    assert reverse("pay", args=["x"]) == "/pay/x"


def test_what_is_shown_is_escaped(client, invoice):
    InvoiceCollection.objects.update(number="<script>alert(1)</script>")

    assert "<script>" not in text(client.get(path_of(invoice)))


# --- a bolt11 that was shown and not paid


def test_whoever_comes_back_later_may_ask_for_another_or_take_a_card(client, invoice):
    path = path_of(invoice)
    client.post(path)

    with time_machine.travel(timezone.now() + timedelta(seconds=990)):
        shown = client.get(path)
        again = client.post(path)

    assert "Get a fresh Lightning invoice" in text(shown)
    assert "Pay by card" in text(shown)
    assert again.status_code == 302
    assert len(bolt11s()) == 2


def test_pressing_the_button_again_asks_stripe_nothing(client, invoice, sandbox):
    path = path_of(invoice)
    client.post(path)
    before = len(sandbox.requests())

    for _ in range(5):
        assert client.post(path).status_code == 302

    assert len(sandbox.requests()) == before


def test_while_the_wallet_is_asked_a_click_asks_stripe_nothing(
    client, invoice, alice, sandbox
):
    connect_wallet(pubkey=invoice.tenant_id, nwc_url=alice.url)
    start_payment(bill=bill(invoice))
    client.get(path_of(invoice))  # what is billed is known from now on
    before = len(sandbox.requests())

    assert client.post(path_of(invoice)).status_code == 409

    assert len(sandbox.requests()) == before
