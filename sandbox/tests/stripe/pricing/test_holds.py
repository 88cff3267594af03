"""Holds, refunds and write-offs of invoices with discounts and taxes."""

from typing import Any

import pytest
import stripe

from sandbox.tests.support.stripe import audit, builders
from sandbox.tests.support.stripe.builders import DAY
from sandbox.tests.support.stripe.control import control


@pytest.fixture
def priced(api):
    """Parameters of a subscription at half the price plus 20 % tax."""
    return {
        "discounts": [{"coupon": builders.coupon(api).id}],
        "default_tax_rates": [builders.tax_rate(api, 20).id],
    }


@pytest.fixture
def weekly(api):
    return builders.price(api, 1_400, recurring={"interval": "week"})


def amounts(invoice: Any) -> list[int]:
    taken = sum(entry.amount for entry in invoice.total_discount_amounts)
    taxes = sum(tax.amount for tax in invoice.total_taxes)
    return [invoice.subtotal, taken, taxes, invoice.total]


def pause_collection(api, subscription, behavior):
    pause: Any = {"pause_collection": {"behavior": behavior}}
    api.v1.subscriptions.update(subscription.id, pause)


@pytest.mark.parametrize(
    ("behavior", "status"),
    [
        ("keep_as_draft", "draft"),
        ("mark_uncollectible", "uncollectible"),
        ("void", "void"),
    ],
)
def test_an_invoice_of_paused_collection_is_discounted_and_taxed(
    api, stripe_sandbox, priced, weekly, behavior, status
):
    subscription = builders.subscription(api, weekly, **priced)
    pause_collection(api, subscription, behavior)

    stripe_sandbox.advance(7 * DAY)

    invoice = builders.newest_invoice(api, subscription)
    assert (invoice.status, amounts(invoice)) == (status, [1_400, 700, 140, 840])
    assert audit.audit(stripe_sandbox.app.store) == []


def test_a_coupon_for_one_invoice_is_also_consumed_by_a_void_one(
    api, stripe_sandbox, weekly
):
    # No page says so: the invoice has used it when it is voided.
    subscription = builders.subscription(api, weekly)
    coupon = builders.coupon(api, duration="once")
    api.v1.subscriptions.update(subscription.id, {"discounts": [{"coupon": coupon.id}]})
    pause_collection(api, subscription, "void")

    stripe_sandbox.advance(7 * DAY)

    assert builders.newest_invoice(api, subscription).total == 700
    assert api.v1.subscriptions.retrieve(subscription.id).discounts == []


def test_items_of_a_held_draft_are_discounted_and_taxed(api, priced, weekly):
    subscription = builders.subscription(api, weekly, **priced)
    draft = subscription.latest_invoice
    api.v1.invoices.update(draft, {"auto_advance": False})
    item: Any = {"customer": subscription.customer, "currency": "usd", "amount": 600}

    added = api.v1.invoice_items.create({**item, "invoice": draft})
    with_item = api.v1.invoices.retrieve(draft)
    api.v1.invoice_items.update(added.id, {"amount": 200})
    changed = api.v1.invoices.retrieve(draft)
    api.v1.invoice_items.delete(added.id)

    assert amounts(with_item) == [2_000, 1_000, 200, 1_200]
    assert amounts(changed) == [1_600, 800, 160, 960]
    assert amounts(api.v1.invoices.retrieve(draft)) == [1_400, 700, 140, 840]


def test_a_draft_that_is_edited_consumes_a_coupon_for_one_invoice(
    api, stripe_sandbox, weekly
):
    subscription = builders.subscription(api, weekly)
    draft = subscription.latest_invoice
    coupon = builders.coupon(api, duration="once")
    changed = api.v1.subscriptions.update(
        subscription.id, {"discounts": [{"coupon": coupon.id}]}
    )
    before = builders.latest_event(api)

    reused: Any = {"discounts": [{"discount": changed.discounts[0]}]}
    api.v1.invoices.update(draft, reused)

    assert builders.types_since(api, before) == [
        "invoice.updated",
        "customer.discount.deleted",
        "customer.subscription.updated",
    ]
    stripe_sandbox.advance(7 * DAY)
    totals = [invoice.total for invoice in api.v1.invoices.list().data]
    assert totals == [1_400, 700]


def test_a_discountable_item_cannot_become_negative(api):
    payer = builders.customer(api)
    params: Any = {"customer": payer.id, "currency": "usd", "amount": 600}
    item = api.v1.invoice_items.create(params)

    with pytest.raises(stripe.InvalidRequestError) as refusal:
        api.v1.invoice_items.update(item.id, {"amount": -1})

    assert refusal.value.param == "discountable"


def test_a_pause_and_a_resumption_are_discounted_and_taxed(
    api, stripe_sandbox, priced, weekly
):
    payer, _ = builders.paying_customer(api)
    subscription = builders.automatic(
        api, to=payer, items=[{"price": weekly.id}], **priced
    )
    stripe_sandbox.advance(DAY)

    api.v1.subscriptions.pause(subscription.id, {"invoicing_behavior": "invoice"})
    credit = builders.newest_invoice(api, subscription)
    stripe_sandbox.advance(DAY)
    api.v1.subscriptions.resume(
        subscription.id,
        {
            "billing_cycle_anchor": {"type": "unchanged"},
            "proration_behavior": "always_invoice",
        },
    )

    rest = builders.newest_invoice(api, subscription)
    assert amounts(credit) == [-600, 0, -120, -720]
    assert amounts(rest) == [500, 0, 100, 600]
    assert (rest.starting_balance, rest.status) == (-720, "paid")
    assert builders.status_of(api, subscription) == "active"
    assert audit.audit(stripe_sandbox.app.store) == []


def test_a_resumption_consumes_a_coupon_for_one_invoice(api, stripe_sandbox, weekly):
    payer, _ = builders.paying_customer(api)
    subscription = builders.automatic(api, to=payer, items=[{"price": weekly.id}])
    api.v1.subscriptions.pause(subscription.id)
    coupon = builders.coupon(api, duration="once")
    paused = api.v1.subscriptions.update(
        subscription.id, {"discounts": [{"coupon": coupon.id}]}
    )

    resumed = api.v1.subscriptions.resume(
        subscription.id, {"payment_behavior": "resume_on_payment_success"}
    )

    assert (paused.status, resumed.status) == ("paused", "active")
    assert (len(paused.discounts), resumed.discounts) == (1, [])
    events = api.v1.events.list({"type": "customer.subscription.updated"}).data
    previous = [event.data.previous_attributes for event in events]
    assert paused.discounts in [getattr(old, "discounts", None) for old in previous]


def test_a_taxed_charge_is_refunded_and_disputed_with_its_tax(
    api, stripe_sandbox, priced, weekly
):
    payer, _ = builders.paying_customer(api)
    subscription = builders.automatic(
        api, to=payer, items=[{"price": weekly.id}], **priced
    )
    (charge,) = api.v1.charges.list({"customer": payer.id}).data

    note = api.v1.credit_notes.create(
        {
            "invoice": str(subscription.latest_invoice),
            "amount": 420,
            "refund_amount": 420,
        }
    )
    opened = control(stripe_sandbox, "POST", f"charges/{charge.id}/dispute", {})

    assert charge.amount == 840
    assert [note.subtotal, note.total] == [350, 420]
    assert [tax.amount for tax in note.total_taxes] == [70]
    assert opened[0] == 200
    (dispute,) = api.v1.disputes.list({"charge": charge.id}).data
    assert dispute.amount == 420
    assert audit.audit(stripe_sandbox.app.store) == []


def test_a_credit_note_on_an_uncollectible_invoice_includes_its_tax(
    api, stripe_sandbox, priced, weekly
):
    stripe_sandbox.app.change_settings({"credit_uncollectible": "allowed"})
    subscription = builders.subscription(api, weekly, **priced)
    invoice = builders.first_invoice(api, subscription)
    api.v1.invoices.mark_uncollectible(invoice.id)

    half = api.v1.credit_notes.create({"invoice": invoice.id, "amount": 420})
    rest = api.v1.credit_notes.create({"invoice": invoice.id, "amount": 420})

    assert [(note.subtotal, note.total) for note in (half, rest)] == [(350, 420)] * 2
    credited = api.v1.invoices.retrieve(invoice.id)
    assert (credited.amount_remaining, credited.status) == (0, "paid")
    assert audit.audit(stripe_sandbox.app.store) == []
