"""Two workers at once, crashes and people at Stripe: money is counted once."""

import pytest

from billing.clients.stripe import Stripe
from billing.models import Credit, Settlement
from billing.services import settlements
from billing.services.offers import offer_bolt11
from billing.tests.test_collection import collect, collection_of
from lightning.services.watching import check_invoice

pytestmark = pytest.mark.django_db


def at_stripe(sandbox, tenant):
    """The tenant's only invoice, as Stripe has it."""
    return sandbox.client().v1.invoices.retrieve(collection_of(tenant).pk)


@pytest.fixture
def arrived(billed, wallets, alice, rates):
    """A Lightning payment of the first invoice, which is not booked yet."""
    collect(billed)
    offered = offer_bolt11(invoice_id=collection_of(billed).pk)
    wallets.ledger.pay("alice", offered.bolt11)
    check_invoice(invoice_id=offered.pk)
    return offered


# --- booking


def test_what_another_worker_has_just_credited_marks_nothing(
    billed, sandbox, arrived, monkeypatch
):
    """The payment is worth less than is asked for: all of it is credit."""
    type(arrived).objects.filter(pk=arrived.pk).update(amount_cents=400)
    real = settlements._begin_marking

    def book_first(collection, payment, found):
        monkeypatch.setattr(settlements, "_begin_marking", real)
        settlements.book_next(Stripe(), collection, found)
        return real(collection, payment, found)

    monkeypatch.setattr(settlements, "_begin_marking", book_first)
    collect(billed)

    assert Settlement.objects.get().state == "credited"
    assert Credit.objects.get().amount_cents == 400
    assert at_stripe(sandbox, billed).status == "open"
