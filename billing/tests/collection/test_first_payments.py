"""A tenant's first payment, by any rail, is recorded; credit is none."""

from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.utils import timezone

from billing.models import InvoiceCollection, Settlement
from billing.services.collection.collect import collect_invoice
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.tests.factories import InvoiceCollectionFactory
from billing.tests.support.collection import (
    attach,
    collect,
    pay_at_stripe,
    pay_by_wallet,
)
from lightning.services.invoice_status import check_invoice
from lightning.services.wallets import connect_wallet
from lightning.tests.factories import make_invoice
from relays.models import Plan
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

MIGRATION = import_module("billing.migrations.0015_first_payments")


def first_paid_at(tenant):
    return Tenant.objects.get(pk=tenant.pk).first_paid_at


def test_card_payment_is_the_first(subscriber, sandbox):
    assert first_paid_at(subscriber) is None
    attach(sandbox, subscriber)

    assert collect(subscriber).paid_by == "card"

    first = first_paid_at(subscriber)
    assert first is not None
    InvoiceCollection.objects.update(state="collecting", closed_at=None)
    collect(subscriber)
    assert first_paid_at(subscriber) == first


def test_wallet_payment_is_the_first(subscriber, alice, rates):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    collect(subscriber)
    pay_by_wallet()
    assert first_paid_at(subscriber) is None

    assert collect(subscriber).paid_by == "wallet"

    assert first_paid_at(subscriber)


def test_payment_at_stripe_is_the_first(subscriber, sandbox):
    collect(subscriber)
    pay_at_stripe(sandbox, subscriber)

    assert collect(subscriber).paid_by == "elsewhere"

    assert first_paid_at(subscriber)


def test_lightning_payment_is_the_first_also_if_it_becomes_credit(
    open_invoice, wallets, alice, sandbox
):
    issued = get_or_issue_bolt11(invoice_id=open_invoice.pk)
    sandbox.client().v1.invoices.void_invoice(open_invoice.pk)
    wallets.ledger.pay("alice", issued.bolt11)
    check_invoice(invoice_id=issued.pk)

    collect_invoice(invoice_id=open_invoice.pk)

    assert Settlement.objects.get().state == "credited"
    assert first_paid_at(open_invoice.tenant)


def test_credit_is_no_payment(subscriber, sandbox):
    sandbox.client().v1.customers.balance_transactions.create(
        subscriber.stripe_customer_id, {"amount": -500, "currency": "usd"}
    )

    assert collect(subscriber).paid_by == "credit"

    assert first_paid_at(subscriber) is None


@pytest.mark.parametrize(("price", "counts"), [(500, True), (501, False)])
def test_payment_of_less_than_a_month_of_any_plan_does_not_count(
    subscriber, sandbox, price, counts
):
    collect(subscriber)
    pay_at_stripe(sandbox, subscriber)
    Plan.objects.paid().update(amount_cents=price)

    assert collect(subscriber).paid_by == "elsewhere"

    assert bool(first_paid_at(subscriber)) is counts


def test_lightning_payment_of_less_than_a_month_does_not_count(
    open_invoice, wallets, alice
):
    issued = get_or_issue_bolt11(invoice_id=open_invoice.pk)
    Plan.objects.paid().update(amount_cents=501)
    wallets.ledger.pay("alice", issued.bolt11)
    check_invoice(invoice_id=issued.pk)

    collect_invoice(invoice_id=open_invoice.pk)

    assert Settlement.objects.get().state == "marked"
    assert first_paid_at(open_invoice.tenant) is None


# --- payments from before the column


def migrate() -> None:
    MIGRATION.record_first_payments(apps, None)


@pytest.mark.parametrize("paid_by", ["wallet", "lightning", "card", "elsewhere"])
def test_earlier_payments_are_found_by_the_migration(paid_by):
    tenant, now = TenantFactory(), timezone.now()
    for days in (1, 40, 20):
        InvoiceCollectionFactory(
            tenant=tenant,
            stripe_status="paid",
            state="closed",
            paid_by=paid_by,
            closed_at=now - timedelta(days=days),
        )

    migrate()

    assert first_paid_at(tenant) == now - timedelta(days=40)


def test_earlier_lightning_payment_that_became_credit_is_found_by_the_migration():
    tenant, now = TenantFactory(), timezone.now()
    void = InvoiceCollectionFactory(
        tenant=tenant, stripe_status="void", state="closed", paid_by=""
    )
    Settlement.objects.create(
        invoice=make_invoice(tenant, "ab" * 32, stripe_invoice_id=void.pk),
        collection=void,
        state="credited",
        resolved_at=now,
    )

    migrate()

    assert first_paid_at(tenant) == now


def test_migration_leaves_those_who_never_paid_and_what_is_recorded():
    never, known = TenantFactory(), TenantFactory(first_paid_at=timezone.now())
    for tenant, paid_by in ((never, "credit"), (known, "card")):
        InvoiceCollectionFactory(
            tenant=tenant, stripe_status="paid", state="closed", paid_by=paid_by
        )
    InvoiceCollectionFactory(tenant=never)

    migrate()

    assert first_paid_at(never) is None
    assert first_paid_at(known) == known.first_paid_at
