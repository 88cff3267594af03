"""Receipts, checked as a stranger would, with nothing of ours."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import bolt11
import nostr_sdk
import pytest
import requests
import time_machine
from django.utils import timezone

from billing.exceptions import InvoiceNotPaid, StripeUnavailable, UnknownInvoice
from billing.models import CardAttempt, InvoiceCollection, Settlement
from billing.services.collection.collect import collect_invoice
from billing.services.credits.posting import post_credits
from billing.services.invoice_views.receipts import build_receipt
from billing.services.payment_page import receipt as page_receipt
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.services.payment_page.receipt import ReceiptLine
from billing.services.subscriptions.sync import sync_tenant
from billing.tests.collection.test_races import pay_in_part
from billing.tests.credits.test_posting import owe
from caravel.nostr import npub, pubkey_of
from lightning.models import LightningInvoice, NwcPayment
from lightning.services.invoice_status import check_invoice
from lightning.services.payments import run_payment
from lightning.services.wallets import connect_wallet
from relays.models import Relay
from relays.services.lifecycle import deactivate_relay
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def arrived(invoice, wallets, alice, rates) -> LightningInvoice:
    """What alice has paid by hand for the invoice, and is not booked yet."""
    offered = get_or_issue_bolt11(invoice_id=invoice.pk)
    wallets.ledger.pay("alice", offered.bolt11)
    return check_invoice(invoice_id=offered.pk)


def pay_at_stripe(sandbox, invoice) -> None:
    """What a person does on Stripe's hosted page."""
    url = f"{sandbox.url}/_sandbox/invoices/{invoice.pk}/pay"
    requests.post(url, json={"card": "pm_card_visa"}, timeout=20).raise_for_status()


def pay_by_card(sandbox, invoice) -> None:
    sandbox.client().v1.payment_methods.attach(
        "pm_card_visa", {"customer": invoice.stripe_customer_id}
    )
    InvoiceCollection.objects.update(next_action="card")
    collect_invoice(invoice_id=invoice.pk)


def checked(receipt, robot) -> dict[str, Any]:
    """Return what the robot states, from what anybody is shown of a receipt."""
    shown = json.loads(json.dumps(receipt.to_dict()))
    event = nostr_sdk.Event.from_json(json.dumps(shown.pop("signed")))
    assert event.verify()
    assert event.author().to_hex() == robot
    assert event.kind().as_u16() == 30078
    tags = [tag.to_vec() for tag in event.tags()]
    assert tags == [
        ["d", f"receipt:{shown['invoice_id']}"],
        ["p", shown["tenant_pubkey"]],
    ]
    stated = json.loads(event.content())
    assert stated == shown
    paid_at = datetime.fromisoformat(stated["paid_at"])
    assert event.created_at().as_secs() == paid_at.timestamp()
    return dict(stated)


def check_lightning(proof, amount_msat) -> None:
    """Check a payment by what the payer's own wallet has of it: the bolt11."""
    asked = bolt11.decode(proof["bolt11"])
    proven = hashlib.sha256(bytes.fromhex(proof["preimage"])).hexdigest()
    assert proven == proof["payment_hash"] == asked.payment_hash
    assert asked.amount_msat == proof["amount_msat"] == amount_msat


@pytest.fixture
def robot(settings) -> str:
    return pubkey_of(settings.ROBOT_SECRET)


# --- Lightning


def test_a_stranger_can_check_a_payment_by_hand(invoice, arrived, robot):
    collect_invoice(invoice_id=invoice.pk)

    stated = checked(build_receipt(invoice.pk), robot)

    assert stated["paid_by"] == "lightning"
    assert (stated["invoice_id"], stated["number"]) == (invoice.pk, invoice.number)
    assert stated["tenant_pubkey"] == invoice.tenant_id
    assert stated["tenant_npub"] == npub(invoice.tenant_id)
    assert (stated["currency"], stated["total_cents"]) == ("usd", 500)
    assert (stated["paid_cents"], stated["credit_cents"]) == (500, 0)
    arrived.refresh_from_db()
    assert arrived.settled_at
    assert stated["paid_at"] == arrived.settled_at.replace(microsecond=0).isoformat()
    proof = stated["lightning"]
    check_lightning(proof, arrived.amount_msat)
    assert (proof["amount_cents"], proof["received_msat"]) == (500, arrived.amount_msat)
    assert proof["paid_cents"] == 500
    asked_msat = 500 * 10**11 / (100 * float(proof["rate"]))
    assert 0 <= proof["amount_msat"] - asked_msat < 1000
    assert len(proof["rate_sources"]) >= 2
    assert all(source["price"] for source in proof["rate_sources"])


def test_a_stranger_can_check_a_payment_by_wallet(invoice, alice, rates, robot):
    connect_wallet(pubkey=invoice.tenant_id, nwc_url=alice.url)
    InvoiceCollection.objects.update(next_action="wallet")
    collect_invoice(invoice_id=invoice.pk)
    run_payment(payment_id=NwcPayment.objects.get().pk)
    collect_invoice(invoice_id=invoice.pk)

    stated = checked(build_receipt(invoice.pk), robot)

    assert stated["paid_by"] == "wallet"
    check_lightning(stated["lightning"], LightningInvoice.objects.get().amount_msat)


def test_a_payment_counts_at_once_and_the_receipt_stays_the_same(
    invoice, arrived, sandbox, robot
):
    before = build_receipt(invoice.pk)
    assert sandbox.client().v1.invoices.retrieve(invoice.pk).status == "open"
    collect_invoice(invoice_id=invoice.pk)
    after = build_receipt(invoice.pk)

    assert Settlement.objects.get().state == "marked"
    assert checked(before, robot) == checked(after, robot)
    assert before.signed.id == after.signed.id


@pytest.mark.parametrize("path", ["invoices/in_[A-Za-z0-9]+$", "/pay$", "payments$"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_wherever_the_booking_stopped_the_receipt_is_the_same(
    invoice, arrived, sandbox, path, when
):
    first = build_receipt(invoice.pk)
    sandbox.fault("reset", method=None, path=path, when=when, times=3)
    collect_invoice(invoice_id=invoice.pk)
    sandbox.clear_faults()

    assert build_receipt(invoice.pk).signed.id == first.signed.id


def test_a_payment_counts_while_stripe_is_away(invoice, arrived, sandbox):
    first = build_receipt(invoice.pk)
    sandbox.fault("status", method=None, status=503, times=None)

    assert build_receipt(invoice.pk).signed.id == first.signed.id
    assert first.paid_by == "lightning"


def test_a_payment_of_what_was_written_off_counts(invoice, arrived, sandbox):
    sandbox.client().v1.invoices.mark_uncollectible(invoice.pk)

    assert build_receipt(invoice.pk).lightning


def test_what_a_credit_note_has_taken_off_was_not_paid(invoice, arrived, sandbox):
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


@pytest.mark.parametrize("offered", [500, 300])
def test_what_a_card_has_paid_in_part_was_not_paid_by_lightning(
    invoice, wallets, alice, rates, sandbox, client, offered
):
    if offered == 300:
        pay_in_part(sandbox, invoice.tenant, 200)
    payment = get_or_issue_bolt11(invoice_id=invoice.pk)
    if offered == 500:
        pay_in_part(sandbox, invoice.tenant, 200)
    wallets.ledger.pay("alice", payment.bolt11)
    check_invoice(invoice_id=payment.pk)

    before = build_receipt(invoice.pk)
    collect_invoice(invoice_id=invoice.pk)
    after = build_receipt(invoice.pk)

    assert after.signed.id == before.signed.id
    assert (after.paid_cents, after.paid_by) == (500, "lightning")
    assert after.lightning
    assert (after.lightning.amount_cents, after.lightning.paid_cents) == (offered, 300)
    assert ReceiptLine("By Lightning", "$3.00") in page_receipt._facts(after)


def test_no_secret_is_in_print(invoice, arrived):
    receipt = build_receipt(invoice.pk)

    assert receipt.lightning and len(receipt.lightning.preimage) == 64
    assert receipt.lightning.preimage not in repr(receipt)


# --- a payment that became credit


def test_a_payment_that_came_second_has_paid_nothing(invoice, arrived, sandbox, robot):
    pay_at_stripe(sandbox, invoice)

    before = build_receipt(invoice.pk)
    collect_invoice(invoice_id=invoice.pk)
    after = build_receipt(invoice.pk)

    assert Settlement.objects.get().state == "credited"
    stated = checked(after, robot)
    assert (stated["paid_by"], stated["lightning"]) == ("elsewhere", None)
    assert before.signed.id == after.signed.id


def test_nor_has_one_that_was_overtaken_while_it_was_booked(invoice, arrived, sandbox):
    sandbox.fault("reset", path="/pay$", times=3)
    collect_invoice(invoice_id=invoice.pk)
    assert Settlement.objects.get().state == "marking"
    pay_at_stripe(sandbox, invoice)

    receipt = build_receipt(invoice.pk)

    assert (receipt.paid_by, receipt.lightning) == ("elsewhere", None)


@pytest.mark.parametrize("collected", [False, True])
def test_a_payment_for_a_void_invoice_is_no_payment(
    invoice, arrived, sandbox, collected
):
    sandbox.client().v1.invoices.void_invoice(invoice.pk)
    if collected:
        collect_invoice(invoice_id=invoice.pk)

    with pytest.raises(InvoiceNotPaid):
        build_receipt(invoice.pk)


def test_a_payment_that_is_too_little_is_no_payment(invoice, arrived):
    LightningInvoice.objects.update(amount_cents=499)

    with pytest.raises(InvoiceNotPaid):
        build_receipt(invoice.pk)


def test_while_a_card_was_asked_as_well_nobody_can_say(invoice, arrived):
    CardAttempt.objects.create(
        collection=invoice, payment_method="pm", amount_cents=500, idempotency_key="k"
    )

    with pytest.raises(InvoiceNotPaid):
        build_receipt(invoice.pk)


# --- other ways of paying


def test_a_stranger_can_check_a_payment_by_card(invoice, sandbox, robot):
    pay_by_card(sandbox, invoice)

    stated = checked(build_receipt(invoice.pk), robot)

    assert (stated["paid_by"], stated["paid_cents"]) == ("card", 500)
    assert stated["lightning"] is None
    paid_at = datetime.fromisoformat(stated["paid_at"])
    assert abs(paid_at - timezone.now()) < timedelta(minutes=1)


def test_whoever_asks_whenever_gets_the_same(invoice, sandbox):
    pay_by_card(sandbox, invoice)
    first = build_receipt(invoice.pk)

    with time_machine.travel(timezone.now() + timedelta(days=40)):
        again = build_receipt(invoice.pk)

    assert again.signed.id == first.signed.id
    assert again.to_dict()["paid_at"] == first.to_dict()["paid_at"]


def test_what_our_charge_has_paid_is_not_stated_before_it_is_known(invoice, sandbox):
    sandbox.fault("reset", path="/pay$", when="after", times=3)
    pay_by_card(sandbox, invoice)

    with pytest.raises(InvoiceNotPaid, match="not known yet"):
        build_receipt(invoice.pk)


def test_a_payment_at_stripe_counts_before_we_hear_of_it(invoice, sandbox):
    pay_at_stripe(sandbox, invoice)

    receipt = build_receipt(invoice.pk)

    assert (receipt.paid_by, receipt.paid_cents) == ("elsewhere", 500)
    invoice.refresh_from_db()
    assert invoice.stripe_status == "open"


def test_what_credit_has_paid_is_no_money(invoice, robot):
    owe(invoice.tenant, 500)
    post_credits(tenant_id=invoice.tenant_id)
    collect_invoice(invoice_id=invoice.pk)

    stated = checked(build_receipt(invoice.pk), robot)

    assert stated["paid_by"] == "credit"
    assert (stated["total_cents"], stated["paid_cents"]) == (500, 0)
    assert stated["credit_cents"] == 500


def test_an_invoice_that_we_do_not_collect_has_a_receipt(invoice, sandbox, robot):
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

    stated = checked(build_receipt(extra.id), robot)

    assert (stated["paid_by"], stated["paid_cents"]) == ("elsewhere", 300)
    assert stated["tenant_pubkey"] == invoice.tenant_id


# --- no receipt


def test_what_is_open_has_no_receipt(invoice):
    with pytest.raises(InvoiceNotPaid) as refused:
        build_receipt(invoice.pk)

    assert (refused.value.code, refused.value.status) == ("invoice-not-paid", 409)


def test_a_draft_has_no_receipt(subscriber):
    with pytest.raises(InvoiceNotPaid):
        build_receipt(InvoiceCollection.objects.get(tenant=subscriber).pk)


def test_what_asked_for_nothing_has_no_receipt(invoice, sandbox):
    """It gives back what the time is worth that was paid for and not served."""
    pay_by_card(sandbox, invoice)
    deactivate_relay(relay_id=Relay.objects.get().pk)
    sync_tenant(tenant_id=invoice.tenant_id)
    last = InvoiceCollection.objects.exclude(pk=invoice.pk).get()
    assert last.total_cents < 0

    with pytest.raises(InvoiceNotPaid, match="nothing to pay"):
        build_receipt(last.pk)


@pytest.mark.parametrize("invoice_id", ["in_nothing", "junk"])
def test_what_is_not_there_has_no_receipt(sandbox, invoice_id):
    TenantFactory()

    with pytest.raises(UnknownInvoice):
        build_receipt(invoice_id)


def test_what_only_stripe_knows_waits_for_it(invoice, sandbox):
    pay_by_card(sandbox, invoice)
    sandbox.fault("status", method=None, status=503, times=None)

    with pytest.raises(StripeUnavailable):
        build_receipt(invoice.pk)


def test_the_time_is_told_in_whole_seconds(invoice, arrived):
    then = datetime(2027, 1, 2, 3, 4, 5, 999_999, tzinfo=UTC)
    LightningInvoice.objects.update(settled_at=then)

    receipt = build_receipt(invoice.pk)

    assert receipt.to_dict()["paid_at"] == "2027-01-02T03:04:05+00:00"
    assert receipt.signed.created_at == int(then.timestamp())
