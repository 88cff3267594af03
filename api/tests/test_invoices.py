"""Invoices over the API: reading, paying by Lightning, receipts, Stripe's portal."""

import hashlib
from contextlib import ExitStack
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import pytest
import time_machine
from django.conf import settings
from django.utils import timezone

from api.tests.support.client import ApiClient
from api.views import invoices as views
from billing.models import InvoiceCollection
from billing.services.collection.collect import collect_invoice
from billing.services.invoice_views.receipts import build_receipt
from billing.services.invoices.records import payment_request_for
from billing.services.subscriptions.sync import sync_tenant
from billing.tests.factories import InvoiceCollectionFactory
from caravel.core.web.throttling import Overloaded, concurrency_limit
from caravel.nostr import pubkey_of
from caravel.nostr.events import parse_event
from lightning.clients.bolt11 import decode
from lightning.models import LightningInvoice
from lightning.services.invoice_status import check_invoice
from lightning.services.wallets import connect_wallet
from lightning.tests.support.payments import start_payment
from relays.services.lifecycle import create_relay
from sandbox.stripe.client.testing import Sandbox

pytestmark = pytest.mark.django_db


@pytest.fixture
def invoice(ann, prices) -> InvoiceCollection:
    """Ann's open invoice, of $5 for a relay on the basic plan."""
    create_relay(tenant_id=ann.pubkey, subdomain="birds", plan_id="basic")
    sync_tenant(tenant_id=ann.pubkey)
    row = InvoiceCollection.objects.get(tenant=ann.pubkey)
    collect_invoice(invoice_id=row.pk)
    row.refresh_from_db()
    assert row.stripe_status == "open"
    return row


@pytest.fixture
def path(invoice) -> str:
    return f"/api/invoices/{invoice.pk}"


def pay(wallets, bolt11: str) -> None:
    """Pay a bolt11 from another wallet and let Caravel notice."""
    wallets.create("payer", balance_msat=10**12)
    wallets.ledger.pay("payer", bolt11)
    check_invoice(invoice_id=LightningInvoice.objects.get(bolt11=bolt11).pk)


def test_invoice_has_stripes_fields_and_its_collection(ann, invoice, path):
    # Each payment link contains the second in which it was signed.
    with time_machine.travel(timezone.now(), tick=False):
        (in_list,) = ann.get(f"/api/tenants/{ann.pubkey}/invoices").data
        one = ann.get(path).data

    assert one == in_list
    assert (one["id"], one["tenant"]) == (invoice.pk, ann.pubkey)
    assert (one["status"], one["amount_remaining_cents"]) == ("open", 500)
    assert [(line["plan"], line["amount_cents"]) for line in one["lines"]] == [
        ("Basic", 500)
    ]
    assert one["hosted_invoice_url"].startswith("http")
    assert one["collection"]["state"] == "manual"
    assert one["collection"]["waiting"] is None
    assert urlsplit(one["collection"]["payment_url"]).path.startswith("/pay/")


def test_tenant_without_a_customer_has_no_invoices(ann, sandbox):
    assert ann.get(f"/api/tenants/{ann.pubkey}/invoices").data == []


def test_other_tenants_invoices_are_not_found(ann, ben, admin, invoice, path):
    for method, suffix in [
        ("GET", ""),
        ("GET", "/bolt11"),
        ("POST", "/bolt11"),
        ("GET", "/receipt"),
    ]:
        response = ben.call(method, path + suffix)
        assert response.error == (404, "invoice-not-found")
    refusal = ben.get(f"/api/tenants/{ann.pubkey}/invoices")
    assert refusal.error == (404, "tenant-not-found")
    assert admin.get(path).data["id"] == invoice.pk


def test_no_stripe_request_for_another_tenants_invoice(ann, ben, invoice, sandbox):
    before = len(sandbox.requests())

    for name in (invoice.pk, "in_none"):
        assert ben.get(f"/api/invoices/{name}").error == (404, "invoice-not-found")
        assert ApiClient().get(f"/api/invoices/{name}").status == 404

    assert len(sandbox.requests()) == before


def test_invoice_created_only_at_stripe_is_visible_to_its_tenant_only(
    ann, ben, invoice, sandbox
):
    created = sandbox.client().v1.invoices.create(
        {"customer": invoice.stripe_customer_id}
    )

    assert ann.get(f"/api/invoices/{created.id}").data["collection"] is None
    assert ben.get(f"/api/invoices/{created.id}").status == 404


@pytest.mark.parametrize("name", ["in_none", "cus_1", "x" * 300, "in_"])
def test_invalid_invoice_id_is_not_found(ann, sandbox, name):
    assert ann.get(f"/api/invoices/{name}").error == (404, "invoice-not-found")


def test_invoices_are_filtered_and_paginated(ann, invoice, sandbox):
    customer = invoice.stripe_customer_id
    for _ in range(4):
        add_paid_invoice(sandbox, customer)
    base = f"/api/tenants/{ann.pubkey}/invoices"

    assert [row["id"] for row in ann.get(f"{base}?status=open").data] == [invoice.pk]
    seen, path = [], f"{base}?limit=2"
    while path:
        response = ann.get(path)
        seen += [row["id"] for row in response.data]
        assert len(response.data) <= 2
        next_url = response.body["next"]
        path = next_url and next_url.removeprefix("http://localhost:8000")

    assert len(set(seen)) == len(seen) == 5
    assert ann.get(f"{base}?cursor=in_x").error == (400, "cursor-invalid")
    assert ann.get(f"{base}?status=unpaid").error == (400, "parameter-invalid")


def add_paid_invoice(sandbox: Sandbox, customer: str) -> None:
    """Add an invoice of $0 without a subscription."""
    api = sandbox.client().v1
    created = api.invoices.create({"customer": customer, "auto_advance": False})
    api.invoices.finalize_invoice(created.id)


def test_listing_30_invoices_needs_no_more_queries_than_one(
    ann, invoice, sandbox, django_assert_max_num_queries
):
    path = f"/api/tenants/{ann.pubkey}/invoices?limit=100"
    with django_assert_max_num_queries(20) as first_queries:
        assert len(ann.get(path).data) == 1
    for number in range(30):
        add_paid_invoice(sandbox, invoice.stripe_customer_id)
        InvoiceCollectionFactory(
            tenant=invoice.tenant,
            stripe_customer_id=invoice.stripe_customer_id,
            stripe_invoice_id=f"in_other{number}",
        )

    with django_assert_max_num_queries(len(first_queries)):
        ann.get(path)


def test_stripe_outage_is_503_without_details(ann, invoice, sandbox, path):
    sandbox.fault("status", method=None, status=500, times=None)

    refusal = ann.get(path)

    assert refusal.error == (503, "stripe-unavailable")
    assert "Stripe" not in refusal.body["error"]


# --- by Lightning


def test_get_issues_no_bolt11_and_post_issues_one(ann, path, own_wallet, rates):
    assert ann.get(f"{path}/bolt11").error == (404, "bolt11-not-open")
    assert not LightningInvoice.objects.exists()

    issued = ann.post(f"{path}/bolt11").data

    row = LightningInvoice.objects.get()
    assert issued["bolt11"] == row.bolt11
    assert issued["amount_msat"] == decode(row.bolt11).amount_msat
    assert (issued["amount_cents"], issued["currency"]) == (500, "usd")
    assert float(issued["rate"]) > 0
    expires_at = datetime.fromisoformat(issued["expires_at"])
    assert expires_at == row.expires_at > timezone.now()
    fresh_at = datetime.fromisoformat(issued["fresh_at"])
    assert fresh_at == expires_at + timedelta(seconds=60)
    assert ann.get(f"{path}/bolt11").data == issued
    invoice = ann.get(path).data
    assert invoice["hosted_invoice_url"] == ""
    until = datetime.fromisoformat(invoice["collection"]["lightning_until"])
    assert until == row.final_at
    assert ann.post(f"{path}/bolt11", {}).data == issued
    assert LightningInvoice.objects.count() == 1


def test_no_new_bolt11_while_the_expired_one_may_still_be_paid(
    ann, invoice, path, own_wallet, rates, settings
):
    ann.post(f"{path}/bolt11")
    row = LightningInvoice.objects.get()
    LightningInvoice.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    assert ann.get(f"{path}/bolt11").error == (404, "bolt11-not-open")
    refusal = ann.post(f"{path}/bolt11")

    assert refusal.error == (409, "payment-in-progress")
    row.refresh_from_db()
    until = datetime.fromisoformat(refusal.body["until"])
    assert until == row.expires_at + timedelta(seconds=60)


def test_no_bolt11_while_a_wallet_payment_is_pending(
    ann, invoice, path, alice, own_wallet, rates
):
    attempt = make_attempt(invoice, alice)

    refusal = ann.post(f"{path}/bolt11")

    assert refusal.error == (409, "payment-in-progress")
    assert datetime.fromisoformat(refusal.body["until"]) == attempt.invoice.final_at
    waiting = ann.get(path).data["collection"]["waiting"]
    assert datetime.fromisoformat(waiting["until"]) == attempt.invoice.final_at
    assert ann.get(path).data["hosted_invoice_url"] == ""
    assert ann.get(f"{path}/bolt11").error == (404, "bolt11-not-open")


def make_attempt(invoice, alice):
    connect_wallet(pubkey=invoice.tenant_id, nwc_url=alice.url)
    invoice.tenant.refresh_from_db()
    return start_payment(payment_request_for(invoice))


def test_no_bolt11_without_an_exchange_rate(ann, path, own_wallet, rates):
    rates.fault("error")

    refusal = ann.post(f"{path}/bolt11")

    assert refusal.error == (503, "rate-unavailable")
    assert "http" not in refusal.body["error"]


def test_no_bolt11_for_an_invoice_paid_by_lightning(
    ann, invoice, path, own_wallet, rates, wallets, django_capture_on_commit_callbacks
):
    pay(wallets, ann.post(f"{path}/bolt11").data["bolt11"])

    assert ann.post(f"{path}/bolt11").error == (409, "invoice-settled")
    with django_capture_on_commit_callbacks(execute=True):
        collect_invoice(invoice_id=invoice.pk)

    assert ann.post(f"{path}/bolt11").error[1] in {
        "invoice-settled",
        "invoice-not-open",
    }
    paid = ann.get(path).data
    assert (paid["status"], paid["collection"]["paid_by"]) == ("paid", "lightning")
    assert urlsplit(paid["collection"]["payment_url"]).path.startswith("/pay/")


def test_no_bolt11_for_an_invoice_paid_at_stripe(
    ann, invoice, path, sandbox, own_wallet, rates
):
    ann.post(f"{path}/bolt11")
    sandbox.client().v1.invoices.pay(invoice.pk, {"paid_out_of_band": True})
    collect_invoice(invoice_id=invoice.pk)

    assert ann.get(f"{path}/bolt11").error == (404, "bolt11-not-open")
    assert ann.post(f"{path}/bolt11").error == (409, "invoice-not-open")
    assert LightningInvoice.objects.count() == 1


# --- the receipt


def test_receipt_request_counts_against_the_concurrency_limit(ann, path, monkeypatch):
    def fill_up_then_build(invoice_id: str) -> object:
        with ExitStack() as slots, pytest.raises(Overloaded):
            for _ in range(settings.SLOW_REQUESTS):
                slots.enter_context(concurrency_limit())
        return build_receipt(invoice_id)

    monkeypatch.setattr(views, "build_receipt", fill_up_then_build)

    assert ann.get(f"{path}/receipt").error == (409, "invoice-not-paid")


def test_no_receipt_for_an_unpaid_invoice(ann, path):
    assert ann.get(f"{path}/receipt").error == (409, "invoice-not-paid")


def test_receipt_can_be_verified_by_anyone(
    ann, ben, invoice, path, own_wallet, rates, wallets, settings
):
    bolt11 = ann.post(f"{path}/bolt11").data["bolt11"]
    pay(wallets, bolt11)
    collect_invoice(invoice_id=invoice.pk)

    receipt = ann.get(f"{path}/receipt").data

    assert receipt["number"] == InvoiceCollection.objects.get().number != ""
    assert (receipt["paid_cents"], receipt["paid_by"]) == (500, "lightning")
    lightning = receipt["lightning"]
    preimage = bytes.fromhex(lightning["preimage"])
    assert hashlib.sha256(preimage).hexdigest() == lightning["payment_hash"]
    assert decode(lightning["bolt11"]).payment_hash == lightning["payment_hash"]
    assert lightning["bolt11"] == bolt11
    event = parse_event(receipt["event"])
    assert event.pubkey == pubkey_of(settings.ROBOT_SECRET)
    assert event.values("p") == [ann.pubkey]
    assert lightning["payment_hash"] in event.content
    assert ann.get(f"{path}/receipt").data["event"]["id"] == event.id
    assert ben.get(f"{path}/receipt").error == (404, "invoice-not-found")


def test_receipt_can_be_downloaded_as_a_pdf_without_a_signature(
    ann, client, invoice, path, own_wallet, rates, wallets
):
    pay(wallets, ann.post(f"{path}/bolt11").data["bolt11"])

    url = urlsplit(ann.get(f"{path}/receipt").data["pdf_url"])

    assert f"{url.scheme}://{url.netloc}" == settings.APP_URL
    response = client.get(url.path)
    assert response["Content-Type"] == "application/pdf"
    assert response.content.startswith(b"%PDF-")


# --- Stripe's portal


def test_portal_session_is_created_only_for_own_account_and_allowed_origins(
    ann, ben, invoice, settings
):
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example"]
    path = f"/api/tenants/{ann.pubkey}/portal-session"

    response = ann.post(path, {"return_url": "https://app.example/billing"})

    assert response.status == 201
    assert response.data["url"].startswith(settings.STRIPE_API_BASE)
    assert ann.post(path).status == 201
    assert ben.post(path).error == (404, "tenant-not-found")
    for elsewhere in ("https://evil.example/", "https://app.example.evil.example/"):
        refusal = ann.post(path, {"return_url": elsewhere})
        assert refusal.error == (422, "return-url-invalid")
    assert ann.post(path, {"return_url": "x"}).error == (422, "return-url-invalid")
