"""Automatic collection of renewals: charges, failures, end of collection."""

import pytest
import stripe

from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.objects.portal import hosted_actions
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY, HOUR

MONTH = 31 * DAY
PAID = [
    "payment_intent.created",
    "charge.succeeded",
    "payment_intent.succeeded",
    "invoice.updated",
    "invoice.paid",
    "invoice.payment_succeeded",
    "invoice_payment.paid",
]
FAILED = [
    "charge.failed",
    "payment_intent.payment_failed",
    "invoice.updated",
    "invoice.payment_failed",
]


@pytest.fixture
def api(app):
    return in_process_client(app)


def delinquent(api, owner):
    return api.v1.customers.retrieve(owner.id).delinquent


def advance_to_renewal(app, subscription):
    """Advance to the end of the first period, when the renewal is a draft."""
    app.advance(subscription.items.data[0].current_period_end - app.clock.now())


def failed_renewal(app, api, payer, script="card_declined", **params):
    """Return a subscription whose renewal has had one failed attempt."""
    subscription = builders.automatic(api, to=payer, **params)
    advance_to_renewal(app, subscription)
    builders.script(api, payer, script)
    app.advance(HOUR)
    return subscription


def test_renewal_is_charged_after_an_hour(app, api, payer):
    subscription = builders.automatic(api, to=payer)
    advance_to_renewal(app, subscription)
    draft = builders.newest_invoice(api, subscription)
    mark = builders.latest_event(api)

    app.advance(HOUR)

    paid = builders.newest_invoice(api, subscription)
    assert (draft.status, draft.next_payment_attempt) == ("draft", draft.created + HOUR)
    assert (paid.status, paid.attempt_count) == ("paid", 1)
    assert builders.types_since(api, mark) == [
        "invoice.updated",
        "invoice.finalized",
        *PAID,
    ]


def test_failed_renewal_emits_events_in_order(app, api, payer):
    subscription = builders.automatic(api, to=payer)
    advance_to_renewal(app, subscription)
    builders.script(api, payer, "card_declined")
    mark = builders.latest_event(api)

    app.advance(HOUR)

    assert builders.types_since(api, mark) == [
        "invoice.updated",
        "invoice.finalized",
        "payment_intent.created",
        *FAILED,
        "customer.subscription.updated",
        "customer.updated",
    ]
    failed = api.v1.events.list({"type": "invoice.payment_failed"}).data[0]
    invoice = failed.data.object
    assert invoice.next_payment_attempt is None
    changed = api.v1.events.list({"type": "customer.subscription.updated"}).data[0]
    assert changed.data.previous_attributes.to_dict() == {"status": "active"}


def test_failed_renewal_is_not_retried(app, api, payer):
    subscription = failed_renewal(app, api, payer)
    failed = builders.newest_invoice(api, subscription)

    app.advance(20 * DAY)

    assert (failed.status, failed.attempt_count) == ("open", 1)
    assert failed.next_payment_attempt is None
    assert builders.event_types(api).count("charge.failed") == 1
    assert delinquent(api, payer)


def test_card_pays_failed_renewal_on_request(app, api, payer):
    subscription = failed_renewal(app, api, payer, "card_declined,succeed")

    paid = api.v1.invoices.pay(builders.newest_invoice(api, subscription).id)

    assert (paid.status, paid.attempt_count) == ("paid", 1)
    assert builders.status_of(api, subscription) == "active"
    assert not delinquent(api, payer)


def test_automatic_collection_cannot_be_turned_on_again(app, api, payer):
    subscription = failed_renewal(app, api, payer)
    id = builders.newest_invoice(api, subscription).id
    api.v1.invoices.update(id, {"auto_advance": False})

    with pytest.raises(stripe.InvalidRequestError, match="only when it is finalized"):
        api.v1.invoices.update(id, {"auto_advance": True})


@pytest.mark.parametrize("setting", ["past_due", "unpaid", "canceled"])
def test_account_setting_applies_after_failed_charge(app, api, payer, setting):
    app.change_settings({"after_last_retry": setting})

    subscription = failed_renewal(app, api, payer)

    ended = api.v1.subscriptions.retrieve(subscription.id)
    assert ended.status == setting
    assert builders.newest_invoice(api, subscription).status == "open"
    reason = "payment_failed" if setting == "canceled" else None
    assert ended.cancellation_details.reason == reason


def test_cancellation_by_api_has_reason_cancellation_requested(api, payer):
    subscription = builders.automatic(api, to=payer)

    ended = api.v1.subscriptions.cancel(subscription.id)

    assert ended.cancellation_details.reason == "cancellation_requested"


def test_unpaid_subscription_reactivates_when_newest_draft_is_paid(app, api, payer):
    app.change_settings({"after_last_retry": "unpaid"})
    subscription = failed_renewal(app, api, payer)
    failed = builders.newest_invoice(api, subscription)
    app.advance(MONTH)
    draft = builders.newest_invoice(api, subscription)
    builders.script(api, payer, "succeed")

    api.v1.invoices.pay(failed.id)
    status_after_old_invoice = builders.status_of(api, subscription)
    api.v1.invoices.finalize_invoice(draft.id)
    api.v1.invoices.pay(draft.id)

    assert (draft.status, draft.auto_advance) == ("draft", False)
    assert draft.automatically_finalizes_at is None
    assert status_after_old_invoice == "unpaid"
    assert builders.status_of(api, subscription) == "active"


def test_past_due_ends_when_latest_finalized_invoice_is_paid(app, api, payer):
    subscription = failed_renewal(app, api, payer)
    old = builders.newest_invoice(api, subscription)
    app.advance(MONTH + DAY)
    latest = builders.newest_invoice(api, subscription)
    builders.script(api, payer, "succeed")

    api.v1.invoices.pay(old.id)
    status_after_old_invoice = builders.status_of(api, subscription)
    api.v1.invoices.pay(latest.id)

    assert latest.id != old.id
    assert status_after_old_invoice == "past_due"
    assert builders.status_of(api, subscription) == "active"


@pytest.mark.parametrize("end", ["mark_uncollectible", "void_invoice"])
def test_subscription_is_active_after_invoice_is_voided_or_written_off(
    app, api, payer, end
):
    subscription = failed_renewal(app, api, payer)

    getattr(api.v1.invoices, end)(builders.newest_invoice(api, subscription).id)

    assert builders.status_of(api, subscription) == "active"
    assert delinquent(api, payer) is (end == "void_invoice")


def test_subscription_default_card_precedes_customer_default(app, api, payer):
    card = api.v1.payment_methods.attach(
        "pm_card_chargeCustomerFail", {"customer": payer.id}
    )
    subscription = builders.automatic(api, to=payer)
    api.v1.subscriptions.update(subscription.id, {"default_payment_method": card.id})

    advance_to_renewal(app, subscription)
    app.advance(HOUR)

    assert builders.newest_invoice(api, subscription).status == "open"
    intent = api.v1.payment_intents.list({"customer": payer.id}).data[0]
    assert intent.last_payment_error.payment_method.id == card.id


def test_renewal_with_challenge_is_past_due_until_authenticated(app, api, payer):
    subscription = failed_renewal(app, api, payer, "requires_action")
    intent = api.v1.payment_intents.list({"customer": payer.id}).data[0]

    assert builders.status_of(api, subscription) == "past_due"
    assert intent.status == "requires_action"
    assert "invoice.payment_action_required" in builders.event_types(api)
    app.transact(
        lambda context: hosted_actions.authenticate(context, intent.id, passed=True)
    )
    assert builders.status_of(api, subscription) == "active"
