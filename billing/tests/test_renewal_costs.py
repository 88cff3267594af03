"""Requests to Stripe that one renewal costs: Stripe's rate limits a month's first day.

A read belongs here only if something is decided by its answer.
"""

from collections import Counter

import pytest

from billing.models import InvoiceCollection
from billing.tests.support.collection import attach, make_default
from billing.tests.support.renewals import (
    pay_first_invoice,
    requests_of,
    skip_events,
    until_draft,
    work,
)
from lightning.services.wallets import connect_wallet

pytestmark = pytest.mark.django_db

#: The draft is read once, by its event. Nothing is read for the new period.
DRAFT = Counter({"GET invoices": 1})
#: After the finalization the collection reads the invoice: is it open, what remains?
FINALIZED = Counter({"GET invoices": 1})
#: The customer and its cards; a new one may have been saved.
CARDS = Counter({"GET customers": 1, "GET payment_methods": 1})


@pytest.fixture
def tenant(subscriber, sandbox, own_wallet, rates):
    """A tenant whose first invoice is paid."""
    pay_first_invoice(subscriber, sandbox)
    return subscriber


@pytest.fixture
def renew(tenant, sandbox, clock):
    """Function that lets a subscription renew, and returns the requests and invoice.

    The requests are those until the end of the draft, and those after it.
    """

    def renew():
        clock.move(seconds=until_draft(sandbox).total_seconds())
        draft = requests_of(sandbox, lambda: work(sandbox))
        clock.move(hours=1)
        finalized = requests_of(sandbox, lambda: work(sandbox))
        return draft, finalized, InvoiceCollection.objects.latest("created_at")

    return renew


def test_renewal_paid_by_wallet(tenant, renew, alice):
    connect_wallet(pubkey=tenant.pk, nwc_url=alice.url)

    draft, finalized, invoice = renew()

    assert (invoice.state, invoice.paid_by) == ("closed", "wallet")
    assert draft == DRAFT
    # Read again when it is booked, then marked in two steps.
    booked = {"GET invoices": 1, "POST invoices": 1, "POST invoices/pay": 1}
    assert finalized == FINALIZED + Counter(booked)


def test_renewal_paid_by_card(tenant, renew, sandbox):
    make_default(sandbox, tenant, attach(sandbox, tenant))
    skip_events(sandbox)

    draft, finalized, invoice = renew()

    assert (invoice.state, invoice.paid_by) == ("closed", "card")
    assert draft == DRAFT
    # Read again when the charge has ended.
    charged = {"POST invoices/pay": 1, "GET invoices": 1}
    assert finalized == FINALIZED + CARDS + Counter(charged)


def test_renewal_that_the_tenant_pays_by_hand(renew):
    draft, finalized, invoice = renew()

    assert (invoice.state, invoice.stripe_status) == ("manual", "open")
    assert draft == DRAFT
    # Once more at the end, for a card whose event was lost.
    assert finalized == FINALIZED + CARDS + CARDS
