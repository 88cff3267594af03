"""Refunds, disputes and warnings are recorded once, as Stripe has them last."""

from datetime import UTC, datetime

import pytest

from billing.clients.stripe.client import Stripe
from billing.exceptions import ReversalChanged
from billing.models import Reversal, StripeCursor, StripeEvent
from billing.services.events.process import process_event
from billing.services.pull.objects import discover_objects
from billing.services.reversals import read, record
from billing.services.reversals.record import (
    apply_reversals,
    fetch_reversals,
    record_charge,
)
from billing.tests.factories import StripeEventFactory
from billing.tests.support.reversals import (
    close_dispute,
    deliver,
    deliver_all,
    dispute,
    new_events,
    refund,
    settle_refund,
    warn_of_fraud,
)
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


def recorded():
    rows = Reversal.objects.order_by("kind", "-amount_cents")
    return [(row.kind, row.state, row.amount_cents) for row in rows]


def test_dispute_is_recorded_with_its_card_and_the_date_for_evidence(
    sandbox, payer, paid, charge
):
    id = dispute(sandbox, charge, reason="subscription_canceled", days=14)

    deliver_all(sandbox)

    row = Reversal.objects.get()
    at_stripe = sandbox.client().v1.disputes.retrieve(id)
    card = sandbox.client().v1.charges.retrieve(charge)
    assert (row.kind, row.state, row.reason) == (
        "dispute",
        "needs_response",
        "subscription_canceled",
    )
    assert (row.tenant, row.collection, row.amount_cents) == (payer, paid, 2500)
    assert row.evidence_due_at == datetime.fromtimestamp(
        at_stripe.evidence_details.due_by, UTC
    )
    assert row.payment_method == card.payment_method
    assert row.card_fingerprint == card.payment_method_details.card.fingerprint


@pytest.mark.parametrize("order", [(0, 1, 0), (1, 0, 1), (0, 0, 1)])
def test_refund_is_recorded_once_in_any_order_of_its_events(
    sandbox, payer, charge, order
):
    refund(sandbox, charge, 1000)
    events = new_events(sandbox, {"refund.created", "charge.refunded"})
    assert len(events) == 2

    for number in order:
        deliver(events[number])

    assert recorded() == [("refund", "succeeded", 1000)]


def test_two_refunds_of_one_charge_are_two_rows(sandbox, payer, charge):
    refund(sandbox, charge, 1000)
    refund(sandbox, charge, 400)

    deliver_all(sandbox)

    assert recorded() == [("refund", "succeeded", 1000), ("refund", "succeeded", 400)]


@pytest.mark.parametrize("is_reversed", [False, True])
def test_refund_that_fails_later_gives_nothing_back(
    sandbox, payer, charge, is_reversed
):
    id = refund(sandbox, charge, 1000)
    settle_refund(sandbox, id, "failed")
    events = new_events(sandbox, {"refund.created", "refund.failed", "refund.updated"})

    for event in events[::-1] if is_reversed else events:
        deliver(event)

    assert recorded() == [("refund", "failed", 1000)]
    assert not Reversal.objects.refunds().exists()


def test_refund_by_a_credit_note_names_the_note(sandbox, payer, paid, charge):
    params = {"invoice": paid.pk, "amount": 700, "refund_amount": 700}
    note = sandbox.client().v1.credit_notes.create(params)
    refund(sandbox, charge, 300)

    deliver_all(sandbox)

    notes = dict(Reversal.objects.values_list("amount_cents", "credit_note_id"))
    assert notes == {700: note.id, 300: ""}


def test_warning_and_inquiry_take_nothing(sandbox, payer, paid, charge):
    warn_of_fraud(sandbox, charge)
    dispute(sandbox, charge, kind="inquiry")

    deliver_all(sandbox)

    assert recorded() == [
        ("dispute", "warning_needs_response", 2500),
        ("fraud_warning", "open", 2500),
    ]
    paid.refresh_from_db()
    assert not paid.is_unpaid
    assert not Reversal.objects.disputes().exists()


def test_old_answer_does_not_replace_a_newer_one(sandbox, payer, charge):
    id = dispute(sandbox, charge)
    stripe = Stripe()
    old = fetch_reversals(stripe, payer, stripe.charges.get(charge))
    close_dispute(sandbox, id, "won")
    deliver_all(sandbox)

    with pytest.raises(ReversalChanged):
        apply_reversals(old)

    assert recorded() == [("dispute", "won", 2500)]


def test_charge_is_read_again_if_it_changes_while_it_is_read(
    sandbox, payer, charge, monkeypatch
):
    id = dispute(sandbox, charge)
    real = read.read_reversals

    def read_and_get_overtaken(*args):
        found = real(*args)
        monkeypatch.setattr(record, "read_reversals", real)
        deliver_all(sandbox)
        close_dispute(sandbox, id, "lost")
        return found

    monkeypatch.setattr(record, "read_reversals", read_and_get_overtaken)

    stripe = Stripe()
    record_charge(stripe, payer, stripe.charges.get(charge))

    assert recorded() == [("dispute", "lost", 2500)]


def test_event_that_is_overtaken_is_read_again_at_once(
    sandbox, payer, charge, monkeypatch
):
    id = dispute(sandbox, charge)
    first, *others = new_events(sandbox)
    real = read.read_reversals

    def read_and_get_overtaken(*args):
        found = real(*args)
        monkeypatch.setattr(record, "read_reversals", real)
        close_dispute(sandbox, id, "won")
        deliver(others[0])
        return found

    monkeypatch.setattr(record, "read_reversals", read_and_get_overtaken)
    deliver(first)

    event = StripeEvent.objects.get(pk=first.id)
    assert (event.status, event.failures) == ("processed", 0)
    assert recorded() == [("dispute", "won", 2500)]


def test_dispute_of_a_deleted_customer_finds_the_tenant_by_its_invoice(
    sandbox, payer, charge
):
    sandbox.client().v1.customers.delete(payer.stripe_customer_id)
    Tenant.objects.update(stripe_customer_id=None)
    dispute(sandbox, charge)

    deliver_all(sandbox, {"charge.dispute.created"})

    assert Reversal.objects.get().tenant == payer


def test_dispute_belongs_to_the_tenant_of_the_invoice_when_the_customer_moved(
    sandbox, payer, paid, charge
):
    customer = payer.stripe_customer_id
    Tenant.objects.update(stripe_customer_id=None)
    other = TenantFactory(stripe_customer_id=customer)
    dispute(sandbox, charge)

    deliver_all(sandbox)

    assert Reversal.objects.get().tenant == payer
    paid.refresh_from_db()
    assert paid.dispute_debt_cents == 2500
    assert not other.reversals.exists()


def test_refund_of_an_unknown_invoice_records_the_invoice_first(
    sandbox, payer, paid, charge
):
    pk = paid.pk
    paid.card_attempts.all().delete()
    paid.delete()
    refund(sandbox, charge)

    deliver_all(sandbox, {"refund.created"})

    assert Reversal.objects.get().collection_id == pk


def test_refund_without_a_charge_is_no_concern_of_ours(payer):
    event = StripeEventFactory(
        type="refund.created",
        object={
            "id": "re_1",
            "object": "refund",
            "customer": payer.stripe_customer_id,
            "charge": None,
        },
    )

    process_event(event_id=event.pk)

    assert StripeEvent.objects.get(pk=event.pk).outcome == "not of a charge"


def test_dispute_in_another_currency_takes_the_whole_charge(
    sandbox, payer, charge, monkeypatch
):
    id = dispute(sandbox, charge)

    def work(context):
        with context.update("dispute", id) as draft:
            draft.update(currency="eur", amount=2311)

    sandbox.app.transact(work)

    deliver_all(sandbox)

    assert Reversal.objects.get().amount_cents == 2500


def test_dispute_that_no_event_reported_is_found_by_the_hourly_discovery(
    sandbox, payer, paid, charge
):
    discover_objects()
    dispute(sandbox, charge)

    discover_objects()

    assert recorded() == [("dispute", "needs_response", 2500)]
    assert set(StripeCursor.objects.values_list("last_error", flat=True)) == {""}
