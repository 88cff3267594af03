"""Collecting invoices, by every rail."""

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.models import CardAttempt, InvoiceCollection, Settlement
from billing.services.collection import collect_invoice
from billing.services.offers import offer_bolt11
from billing.services.subscriptions import sync_tenant
from lightning.models import NwcPayment
from lightning.services.payments import run_payment
from lightning.services.wallets import connect_wallet
from lightning.services.watching import check_invoice
from relays.services.lifecycle import create_relay
from sandbox.wallets import refuses
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

State = InvoiceCollection.State


@pytest.fixture
def billed(prices):
    """A tenant with one relay on the basic plan, and its first invoice."""
    tenant = TenantFactory()
    create_relay(tenant_id=tenant.pk, subdomain="first", plan_id="basic")
    sync_tenant(tenant_id=tenant.pk)
    tenant.refresh_from_db()
    return tenant


def collection_of(tenant) -> InvoiceCollection:
    return InvoiceCollection.objects.get(tenant=tenant)


def collect(tenant) -> str:
    return collect_invoice(invoice_id=collection_of(tenant).pk)


def test_the_first_invoice_is_taken_up_with_its_subscription(billed):
    first = collection_of(billed)

    assert (first.status, first.state) == ("draft", State.DRAFT)


def test_without_a_wallet_or_a_card_it_is_finalized_and_waits_for_a_person(billed):
    said = collect(billed)

    first = collection_of(billed)
    assert (first.status, first.state) == ("open", State.MANUAL)
    assert first.amount_remaining_cents == 500
    assert first.finalized_at and first.suspend_at
    assert first.suspend_at - first.finalized_at == timedelta(days=7)
    assert said == "waits for a person, or the next try"


def test_a_card_pays_it(billed, sandbox):
    sandbox.client().v1.payment_methods.attach(
        "pm_card_visa", {"customer": billed.stripe_customer_id}
    )

    said = collect(billed)

    first = collection_of(billed)
    assert (first.status, first.state) == ("paid", State.CLOSED)
    assert (first.paid_by, said) == ("card", "paid by a card")
    assert CardAttempt.objects.get().state == "paid"


def test_a_wallet_pays_it(billed, wallets, alice, rates):
    connect_wallet(pubkey=billed.pk, nwc_url=alice.url)

    collect(billed)
    assert collection_of(billed).state == State.PENDING
    run_payment(payment_id=NwcPayment.objects.get().pk)
    collect(billed)

    first = collection_of(billed)
    assert (first.status, first.state, first.paid_by) == ("paid", "closed", "wallet")
    assert Settlement.objects.get().marked_cents == 500
    assert len(wallets.ledger.debits("alice")) == 1


def test_a_wallet_that_refuses_lets_the_card_pay(billed, sandbox, alice, rates):
    connect_wallet(pubkey=billed.pk, nwc_url=alice.url)
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    sandbox.client().v1.payment_methods.attach(
        "pm_card_visa", {"customer": billed.stripe_customer_id}
    )
    collect(billed)
    run_payment(payment_id=NwcPayment.objects.get().pk)

    collect(billed)

    assert collection_of(billed).paid_by == "card"


def test_a_person_pays_the_bolt11_that_they_were_shown(
    billed, wallets, platform, alice, rates
):
    collect(billed)
    shown = offer_bolt11(invoice_id=collection_of(billed).pk)
    wallets.ledger.pay("alice", shown.bolt11)
    check_invoice(invoice_id=shown.pk)

    collect(billed)

    first = collection_of(billed)
    assert (first.status, first.paid_by) == ("paid", "lightning")
    assert first.next_attempt_at >= timezone.now()
