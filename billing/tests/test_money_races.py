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


def pay_in_part(sandbox, tenant, cents):
    """A person pays a part by card: https://docs.stripe.com/invoicing/partial-payments.

    The sandbox has no call for it.
    """
    invoice_id = collection_of(tenant).pk

    def work(context):
        with context.edit("invoice", invoice_id) as draft:
            draft["amount_paid"] += cents
            draft["amount_remaining"] -= cents
        whole = next(context.store.scan("invoice_payment"))
        intent = context.get("payment_intent", whole["payment"]["payment_intent"])
        paid = {**intent, "id": "pi_part", "amount": cents, "status": "succeeded"}
        context.insert({**paid, "amount_received": cents})
        part = {**whole, "id": "inpay_part", "amount_paid": cents, "status": "paid"}
        part["payment"] = {**part["payment"], "payment_intent": "pi_part"}
        part["is_default"] = False
        # The sandbox takes the first that it finds for the default one.
        created = whole["created"] - 1
        context.insert({**part, "amount_requested": cents, "created": created})

    sandbox.app.transact(work)


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


def test_of_what_was_paid_by_card_in_part_the_rest_is_marked(billed, sandbox, arrived):
    pay_in_part(sandbox, billed, 200)

    first = collect(billed)

    assert (first.status, first.paid_by) == ("paid", "lightning")
    assert Settlement.objects.get().marked_cents == 300
    assert Credit.objects.get().amount_cents == 200
