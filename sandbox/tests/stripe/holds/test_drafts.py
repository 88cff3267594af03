"""Drafts that staff hold, schedule or edit, and drafts that cannot be finalized.

Sources: docs.stripe.com/invoicing/scheduled-finalization,
docs.stripe.com/api/invoiceitems, docs.stripe.com/error-codes.
"""

import pytest
import stripe

from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY, HOUR

FAILURE = {"sandbox_finalization": "customer_tax_location_invalid"}


@pytest.fixture
def draft(api):
    """First invoice of a subscription, a draft over $10.00."""
    id = builders.subscription(api).latest_invoice
    return api.v1.invoices.retrieve(id)


def item_on(api, draft, amount=500):
    return api.v1.invoice_items.create(
        {
            "customer": draft.customer,
            "invoice": draft.id,
            "amount": amount,
            "currency": "usd",
        }
    )


def test_draft_is_finalized_at_the_time_that_staff_choose(stripe_sandbox, api, draft):
    at = stripe_sandbox.now() + 3 * DAY
    updated = api.v1.invoices.update(draft.id, {"automatically_finalizes_at": at})

    stripe_sandbox.advance(3 * DAY - 60)
    before = api.v1.invoices.retrieve(draft.id).status
    stripe_sandbox.advance(60)

    assert (updated.auto_advance, updated.automatically_finalizes_at) == (True, at)
    assert (before, api.v1.invoices.retrieve(draft.id).status) == ("draft", "open")


@pytest.mark.parametrize("seconds", [0, 6 * 366 * DAY])
def test_time_of_finalization_is_within_five_years(stripe_sandbox, api, draft, seconds):
    at = stripe_sandbox.now() + seconds

    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.v1.invoices.update(draft.id, {"automatically_finalizes_at": at})

    assert caught.value.param == "automatically_finalizes_at"


def test_held_draft_cannot_be_scheduled(stripe_sandbox, api, draft):
    at = stripe_sandbox.now() + DAY

    with pytest.raises(stripe.InvalidRequestError):
        api.v1.invoices.update(
            draft.id, {"auto_advance": False, "automatically_finalizes_at": at}
        )


def test_draft_that_is_held_has_no_time_of_finalization(stripe_sandbox, api, draft):
    held = api.v1.invoices.update(draft.id, {"auto_advance": False})

    stripe_sandbox.advance(10 * DAY)

    event = api.v1.events.list({"type": "invoice.updated"}).data[0]
    assert held.automatically_finalizes_at is None
    assert event.data.previous_attributes["auto_advance"] is True
    assert api.v1.invoices.retrieve(draft.id).status == "draft"


def test_item_of_a_draft_can_be_changed_and_deleted(api, draft):
    item = item_on(api, draft)

    api.v1.invoice_items.update(item.id, {"amount": 300, "description": "Setup"})
    changed = api.v1.invoices.retrieve(draft.id)
    api.v1.invoice_items.delete(item.id)

    assert (changed.total, changed.lines.data[-1].description) == (1_300, "Setup")
    assert api.v1.invoices.retrieve(draft.id).total == 1_000
    assert api.v1.events.list({"type": "invoice.updated"}).data[
        0
    ].data.object.total == (1_000)


def test_item_of_a_finalized_invoice_cannot_be_changed(api, draft):
    item = item_on(api, draft)
    api.v1.invoices.finalize_invoice(draft.id)

    with pytest.raises(stripe.InvalidRequestError):
        api.v1.invoice_items.update(item.id, {"amount": 300})
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.invoice_items.delete(item.id)


def test_item_for_a_subscription_is_on_its_next_invoice(stripe_sandbox, api):
    subscription = builders.subscription(api)
    item = api.v1.invoice_items.create(
        {
            "customer": subscription.customer,
            "subscription": subscription.id,
            "amount": 250,
            "currency": "usd",
        }
    )

    stripe_sandbox.advance(31 * DAY)

    invoice = builders.newest_invoice(api, subscription)
    assert (item.proration, item.parent.subscription_details.subscription) == (
        False,
        subscription.id,
    )
    assert invoice.total == 1_250


def test_refused_finalization_is_a_400_and_recorded(api, draft):
    api.v1.customers.update(draft.customer, {"metadata": FAILURE})
    before = builders.latest_event(api)

    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.v1.invoices.finalize_invoice(draft.id)

    after = api.v1.invoices.retrieve(draft.id)
    assert caught.value.code == "customer_tax_location_invalid"
    assert (after.status, after.last_finalization_error.code) == (
        "draft",
        "customer_tax_location_invalid",
    )
    assert builders.types_since(api, before) == [
        "invoice.updated",
        "invoice.finalization_failed",
    ]


def test_refused_automatic_finalization_leaves_a_draft(stripe_sandbox, api, draft):
    api.v1.invoices.update(draft.id, {"metadata": FAILURE})

    stripe_sandbox.advance(20 * DAY)

    after = api.v1.invoices.retrieve(draft.id)
    assert (after.status, after.automatically_finalizes_at) == ("draft", None)
    assert len(api.v1.events.list({"type": "invoice.finalization_failed"}).data) == 1


def test_finalization_works_once_the_cause_is_gone(stripe_sandbox, api, draft):
    api.v1.invoices.update(draft.id, {"metadata": FAILURE})
    stripe_sandbox.advance(HOUR)
    api.v1.invoices.update(draft.id, {"metadata": dict.fromkeys(FAILURE, "")})

    finalized = api.v1.invoices.finalize_invoice(draft.id)

    assert (finalized.status, finalized.last_finalization_error) == ("open", None)


def test_automatic_subscription_stays_active_without_its_first_invoice(api):
    payer, _ = builders.paying_customer(api, metadata=FAILURE)

    subscription = builders.automatic(api, to=payer)

    assert subscription.status == "active"
    assert builders.newest_invoice(api, subscription).status == "draft"


def test_invoices_are_listed_by_time_and_collection_method(stripe_sandbox, api):
    subscription = builders.subscription(api)
    start = stripe_sandbox.now()
    stripe_sandbox.advance(31 * DAY)

    params = {"subscription": subscription.id, "created": {"gt": start}}
    newer = api.v1.invoices.list(params).data
    automatic = api.v1.invoices.list(
        {**params, "collection_method": "charge_automatically"}
    ).data

    assert [invoice.billing_reason for invoice in newer] == ["subscription_cycle"]
    assert automatic == []


def test_listed_invoices_have_their_intents_if_expanded(api):
    builders.open_invoice(api)

    (invoice,) = api.v1.invoices.list(
        {"expand": ["data.payments.data.payment.payment_intent"]}
    ).data

    intent = invoice.payments.data[0].payment.payment_intent
    assert intent.status == "requires_payment_method"
