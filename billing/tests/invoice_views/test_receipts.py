"""Receipts, verified with independent libraries."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import bolt11
import nostr_sdk
import pytest
import redis
import requests
import time_machine
from django.utils import timezone

from billing.clients.stripe.errors import StripeUnavailable
from billing.exceptions import InvoiceNotPaid, UnknownInvoice
from billing.models import CardAttempt, InvoiceCollection, Settlement
from billing.services.collection.collect import collect_invoice
from billing.services.credits.posting import post_credits
from billing.services.invoice_views.invoices import get_invoice
from billing.services.invoice_views.receipts import build_receipt
from billing.services.payment_page import receipt as page_receipt
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.services.payment_page.receipt import ReceiptLine
from billing.services.subscriptions.sync import sync_tenant
from billing.tests.support.collection import pay_in_part
from billing.tests.support.credits import owe
from caravel.nostr import npub, pubkey_of
from lightning.models import LightningInvoice, NwcPayment
from lightning.services.invoice_status import check_invoice
from lightning.services.wallets import connect_wallet
from lightning.tests.support.payments import run_payment
from relays.models import Relay
from relays.services.lifecycle import deactivate_relay
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def settled_payment(invoice, wallets, alice, rates) -> LightningInvoice:
    """A Lightning payment by alice that has settled and is not booked yet."""
    issued = get_or_issue_bolt11(invoice_id=invoice.pk)
    wallets.ledger.pay("alice", issued.bolt11)
    return check_invoice(invoice_id=issued.pk)


def pay_on_hosted_page(sandbox, invoice) -> None:
    """Pay on Stripe's hosted page, as a payer would."""
    url = f"{sandbox.url}/_sandbox/invoices/{invoice.pk}/pay"
    requests.post(url, json={"card": "pm_card_visa"}, timeout=60).raise_for_status()


def pay_by_card(sandbox, invoice) -> None:
    sandbox.client().v1.payment_methods.attach(
        "pm_card_visa", {"customer": invoice.stripe_customer_id}
    )
    InvoiceCollection.objects.update(next_action="card")
    collect_invoice(invoice_id=invoice.pk)


def verify(receipt, robot) -> dict[str, Any]:
    """Verify a receipt from its JSON alone, and return the signed content."""
    data = json.loads(json.dumps(receipt.to_dict()))
    event = nostr_sdk.Event.from_json(json.dumps(data.pop("signed")))
    assert event.verify()
    assert event.author().to_hex() == robot
    assert event.kind().as_u16() == 30078
    tags = [tag.to_vec() for tag in event.tags()]
    assert tags == [
        ["d", f"receipt:{data['invoice_id']}"],
        ["p", data["tenant_pubkey"]],
    ]
    content = json.loads(event.content())
    assert content == data
    paid_at = datetime.fromisoformat(content["paid_at"])
    assert event.created_at().as_secs() == paid_at.timestamp()
    return dict(content)


def verify_lightning(proof, amount_msat) -> None:
    """Verify a payment with the bolt11, which is in the payer's own wallet as well."""
    decoded = bolt11.decode(proof["bolt11"])
    preimage_hash = hashlib.sha256(bytes.fromhex(proof["preimage"])).hexdigest()
    assert preimage_hash == proof["payment_hash"] == decoded.payment_hash
    assert decoded.amount_msat == proof["amount_msat"] == amount_msat


@pytest.fixture
def robot(settings) -> str:
    return pubkey_of(settings.ROBOT_SECRET)


# --- Lightning


def test_receipt_of_manual_lightning_payment_can_be_verified(
    invoice, settled_payment, robot
):
    collect_invoice(invoice_id=invoice.pk)

    content = verify(build_receipt(invoice.pk), robot)

    assert content["paid_by"] == "lightning"
    assert (content["invoice_id"], content["number"]) == (invoice.pk, invoice.number)
    assert content["tenant_pubkey"] == invoice.tenant_id
    assert content["tenant_npub"] == npub(invoice.tenant_id)
    assert (content["currency"], content["total_cents"]) == ("usd", 500)
    assert (content["paid_cents"], content["credit_cents"]) == (500, 0)
    settled_payment.refresh_from_db()
    assert settled_payment.settled_at
    settled_at = settled_payment.settled_at.replace(microsecond=0)
    assert content["paid_at"] == settled_at.isoformat()
    proof = content["lightning"]
    verify_lightning(proof, settled_payment.amount_msat)
    assert proof["received_msat"] == settled_payment.amount_msat
    assert (proof["amount_cents"], proof["paid_cents"]) == (500, 500)
    expected_msat = 500 * 10**11 / (100 * float(proof["rate"]))
    assert 0 <= proof["amount_msat"] - expected_msat < 1000
    assert len(proof["rate_sources"]) >= 2
    assert all(source["price"] for source in proof["rate_sources"])


def test_receipt_of_wallet_payment_can_be_verified(invoice, alice, rates, robot):
    connect_wallet(pubkey=invoice.tenant_id, nwc_url=alice.url)
    InvoiceCollection.objects.update(next_action="wallet")
    collect_invoice(invoice_id=invoice.pk)
    run_payment(payment_id=NwcPayment.objects.get().pk)
    collect_invoice(invoice_id=invoice.pk)

    content = verify(build_receipt(invoice.pk), robot)

    assert content["paid_by"] == "wallet"
    verify_lightning(content["lightning"], LightningInvoice.objects.get().amount_msat)


def test_receipt_is_the_same_before_and_after_marking(
    invoice, settled_payment, sandbox, robot
):
    before = build_receipt(invoice.pk)
    assert sandbox.client().v1.invoices.retrieve(invoice.pk).status == "open"
    collect_invoice(invoice_id=invoice.pk)
    after = build_receipt(invoice.pk)

    assert Settlement.objects.get().state == "marked"
    assert verify(before, robot) == verify(after, robot)
    assert before.signed.id == after.signed.id


@pytest.mark.parametrize("path", ["invoices/in_[A-Za-z0-9]+$", "/pay$", "payments$"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_receipt_is_the_same_after_interrupted_booking(
    invoice, settled_payment, sandbox, path, when
):
    first = build_receipt(invoice.pk)
    sandbox.fault("reset", method=None, path=path, when=when, times=3)
    collect_invoice(invoice_id=invoice.pk)
    sandbox.clear_faults()

    assert build_receipt(invoice.pk).signed.id == first.signed.id


def test_settled_payment_has_receipt_while_stripe_is_unavailable(
    invoice, settled_payment, sandbox
):
    first = build_receipt(invoice.pk)
    sandbox.fault("status", method=None, status=503, times=None)

    assert build_receipt(invoice.pk).signed.id == first.signed.id
    assert first.paid_by == "lightning"


def test_payment_of_written_off_invoice_has_receipt(invoice, settled_payment, sandbox):
    sandbox.client().v1.invoices.mark_uncollectible(invoice.pk)

    assert build_receipt(invoice.pk).lightning


def test_credit_note_reduces_paid_amount(invoice, settled_payment, sandbox):
    note = {"invoice": invoice.pk, "amount": 120}
    sandbox.client().v1.credit_notes.create(note)

    before = build_receipt(invoice.pk)
    collect_invoice(invoice_id=invoice.pk)
    after = build_receipt(invoice.pk)

    assert (before.paid_cents, before.credit_cents) == (380, 120)
    assert before.lightning
    lightning = before.lightning
    assert (lightning.amount_cents, lightning.paid_cents) == (500, 380)
    assert after.signed.id == before.signed.id


@pytest.mark.parametrize("bolt11_cents", [500, 300])
def test_partial_payment_in_stripe_reduces_lightning_part(
    invoice, wallets, alice, rates, sandbox, client, bolt11_cents
):
    if bolt11_cents == 300:
        pay_in_part(sandbox, invoice.tenant, 200)
    payment = get_or_issue_bolt11(invoice_id=invoice.pk)
    if bolt11_cents == 500:
        pay_in_part(sandbox, invoice.tenant, 200)
    wallets.ledger.pay("alice", payment.bolt11)
    check_invoice(invoice_id=payment.pk)

    before = build_receipt(invoice.pk)
    collect_invoice(invoice_id=invoice.pk)
    after = build_receipt(invoice.pk)

    assert after.signed.id == before.signed.id
    assert (after.paid_cents, after.paid_by) == (500, "lightning")
    assert after.lightning
    assert after.lightning.amount_cents == bolt11_cents
    assert after.lightning.paid_cents == 300
    lines = list(page_receipt.receipt_lines(after))
    assert ReceiptLine("Paid with Lightning", "$3.00") in lines


def test_preimage_is_not_in_repr(invoice, settled_payment):
    receipt = build_receipt(invoice.pk)

    assert receipt.lightning and len(receipt.lightning.preimage) == 64
    assert receipt.lightning.preimage not in repr(receipt)


def test_receipt_names_the_seller(invoice, settled_payment, robot, settings):
    settings.SELLER_NAME, settings.SELLER_CONTACT = "Ada & Co", "help@ada.example"
    settings.SELLER_ADDRESS, settings.SELLER_TAX_ID = "1 High Street", "VAT 1"

    content = verify(build_receipt(invoice.pk), robot)

    assert content["seller"] == {
        "name": "Ada & Co",
        "address": "1 High Street",
        "tax_id": "VAT 1",
        "contact": "help@ada.example",
    }


# --- payments that became credit


def test_second_payment_is_not_on_receipt(invoice, settled_payment, sandbox, robot):
    pay_on_hosted_page(sandbox, invoice)

    before = build_receipt(invoice.pk)
    collect_invoice(invoice_id=invoice.pk)
    after = build_receipt(invoice.pk)

    assert Settlement.objects.get().state == "credited"
    content = verify(after, robot)
    assert content["paid_by"] == "elsewhere"
    assert content["lightning"] is None
    assert before.signed.id == after.signed.id


def test_payment_superseded_during_booking_is_not_on_receipt(
    invoice, settled_payment, sandbox
):
    sandbox.fault("reset", path="/pay$", times=3)
    collect_invoice(invoice_id=invoice.pk)
    assert Settlement.objects.get().state == "marking"
    pay_on_hosted_page(sandbox, invoice)

    receipt = build_receipt(invoice.pk)

    assert receipt.paid_by == "elsewhere"
    assert receipt.lightning is None


@pytest.mark.parametrize("collected", [False, True])
def test_no_receipt_for_payment_of_void_invoice(
    invoice, settled_payment, sandbox, collected
):
    sandbox.client().v1.invoices.void_invoice(invoice.pk)
    if collected:
        collect_invoice(invoice_id=invoice.pk)

    with pytest.raises(InvoiceNotPaid):
        build_receipt(invoice.pk)


def test_no_receipt_for_insufficient_payment(invoice, settled_payment):
    LightningInvoice.objects.update(amount_cents=499)

    with pytest.raises(InvoiceNotPaid):
        build_receipt(invoice.pk)


def test_no_receipt_for_lightning_payment_while_card_charge_is_pending(
    invoice, settled_payment
):
    CardAttempt.objects.create(
        collection=invoice, payment_method="pm", amount_cents=500, idempotency_key="k"
    )

    with pytest.raises(InvoiceNotPaid):
        build_receipt(invoice.pk)


# --- other payment methods


def test_receipt_of_card_payment_can_be_verified(invoice, sandbox, robot):
    pay_by_card(sandbox, invoice)

    content = verify(build_receipt(invoice.pk), robot)

    assert (content["paid_by"], content["paid_cents"]) == ("card", 500)
    assert content["lightning"] is None
    paid_at = datetime.fromisoformat(content["paid_at"])
    assert abs(paid_at - timezone.now()) < timedelta(minutes=1)


def test_receipt_is_the_same_weeks_later(invoice, sandbox):
    pay_by_card(sandbox, invoice)
    first = build_receipt(invoice.pk)

    with time_machine.travel(timezone.now() + timedelta(days=40)):
        again = build_receipt(invoice.pk)

    assert again.signed.id == first.signed.id
    assert again.to_dict()["paid_at"] == first.to_dict()["paid_at"]


def test_no_receipt_while_outcome_of_our_charge_is_unknown(invoice, sandbox):
    sandbox.fault("reset", path="/pay$", when="after", times=3)
    pay_by_card(sandbox, invoice)

    with pytest.raises(InvoiceNotPaid, match="not known yet"):
        build_receipt(invoice.pk)


def test_payment_in_stripe_has_receipt_before_its_event(invoice, sandbox):
    pay_on_hosted_page(sandbox, invoice)

    receipt = build_receipt(invoice.pk)

    assert (receipt.paid_by, receipt.paid_cents) == ("elsewhere", 500)
    invoice.refresh_from_db()
    assert invoice.stripe_status == "open"


def test_receipt_of_invoice_paid_by_credit_has_no_paid_amount(invoice, robot):
    owe(invoice.tenant, 500)
    post_credits(tenant_id=invoice.tenant_id)
    collect_invoice(invoice_id=invoice.pk)

    content = verify(build_receipt(invoice.pk), robot)

    assert content["paid_by"] == "credit"
    assert (content["total_cents"], content["paid_cents"]) == (500, 0)
    assert content["credit_cents"] == 500


def test_uncollected_invoice_has_receipt(invoice, sandbox, robot):
    api, customer = sandbox.client().v1, invoice.stripe_customer_id
    extra = api.invoices.create({"customer": customer, "auto_advance": False})
    api.invoice_items.create(
        {
            "customer": customer,
            "invoice": extra.id,
            "currency": "usd",
            "amount": 300,
        }
    )
    api.invoices.finalize_invoice(extra.id)
    api.invoices.pay(extra.id, {"paid_out_of_band": True})

    content = verify(build_receipt(extra.id), robot)

    assert (content["paid_by"], content["paid_cents"]) == ("elsewhere", 300)
    assert content["tenant_pubkey"] == invoice.tenant_id


# --- without receipt


def test_no_receipt_for_open_invoice(invoice):
    with pytest.raises(InvoiceNotPaid) as error:
        build_receipt(invoice.pk)

    assert error.value.code == "invoice-not-paid"
    assert error.value.status == 409


def test_forged_cache_entry_gets_no_receipt(invoice, sandbox, settings):
    """With write access to Redis, an open invoice can be made to look paid."""
    get_invoice(invoice.pk)
    with redis.from_url(settings.REDIS_URL) as client:
        (key,) = client.keys(f"caravel-cache:*:invoices:*:{invoice.pk}")
        entry = json.loads(client.get(key))
        entry["invoices"][0] |= {"status": "paid", "amount_paid": 500}
        client.set(key, json.dumps(entry))
    assert get_invoice(invoice.pk).status == "paid"

    with pytest.raises(InvoiceNotPaid):
        build_receipt(invoice.pk)


def test_no_receipt_for_draft(subscriber):
    with pytest.raises(InvoiceNotPaid):
        build_receipt(InvoiceCollection.objects.get(tenant=subscriber).pk)


def test_no_receipt_for_negative_invoice(invoice, sandbox):
    """A final invoice that only credits the unused time."""
    pay_by_card(sandbox, invoice)
    deactivate_relay(relay_id=Relay.objects.get().pk)
    sync_tenant(tenant_id=invoice.tenant_id)
    last = InvoiceCollection.objects.exclude(pk=invoice.pk).get()
    assert last.total_cents < 0

    with pytest.raises(InvoiceNotPaid, match="nothing to pay"):
        build_receipt(last.pk)


@pytest.mark.parametrize("invoice_id", ["in_nothing", "junk"])
def test_no_receipt_for_unknown_invoice(sandbox, invoice_id):
    TenantFactory()

    with pytest.raises(UnknownInvoice):
        build_receipt(invoice_id)


def test_receipt_raises_when_it_needs_unavailable_stripe(invoice, sandbox):
    pay_by_card(sandbox, invoice)
    sandbox.fault("status", method=None, status=503, times=None)

    with pytest.raises(StripeUnavailable):
        build_receipt(invoice.pk)


def test_paid_at_is_in_whole_seconds(invoice, settled_payment):
    settled_at = datetime(2027, 1, 2, 3, 4, 5, 999_999, tzinfo=UTC)
    LightningInvoice.objects.update(settled_at=settled_at)

    receipt = build_receipt(invoice.pk)

    assert receipt.to_dict()["paid_at"] == "2027-01-02T03:04:05+00:00"
    assert receipt.signed.created_at == int(settled_at.timestamp())
