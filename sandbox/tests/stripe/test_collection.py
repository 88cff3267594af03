"""Automatic collection of renewals: charges, retries, end of collection."""

import pytest
import stripe

from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.objects.portal import hosted_actions
from sandbox.stripe.settings import AccountSettings
from sandbox.tests.support import stripe_builders as builders
from sandbox.tests.support.stripe_builders import DAY, HOUR

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


def failed_charges(api):
    return builders.event_types(api).count("charge.failed")


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


def test_failed_renewal_is_retried_on_account_schedule(app, api, payer):
    subscription = failed_renewal(app, api, payer)
    attempts, mark = [], ""
    at = builders.newest_invoice(api, subscription).status_transitions.finalized_at
    for _ in range(4):
        invoice = builders.newest_invoice(api, subscription)
        following = invoice.next_payment_attempt
        attempts.append((invoice.attempt_count, following and following - at))
        at, mark = following, builders.latest_event(api)
        app.advance(8 * DAY if at is None else at - app.clock.now())

    assert attempts == [(1, 3 * DAY), (2, 5 * DAY), (3, 7 * DAY), (4, None)]
    assert builders.types_since(api, mark) == []
    assert builders.status_of(api, subscription) == "past_due"
    assert delinquent(api, payer)
    assert builders.event_types(api).count("invoice.payment_failed") == 4


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
    assert invoice.next_payment_attempt == failed.created + 3 * DAY
    changed = api.v1.events.list({"type": "customer.subscription.updated"}).data[0]
    assert changed.data.previous_attributes.to_dict() == {"status": "active"}


def test_successful_retry_reactivates_subscription(app, api, payer):
    subscription = failed_renewal(app, api, payer, "card_declined,succeed")
    mark = builders.latest_event(api)

    app.advance(3 * DAY)

    paid = builders.newest_invoice(api, subscription)
    assert (paid.status, paid.attempt_count, paid.next_payment_attempt) == (
        "paid",
        2,
        None,
    )
    assert builders.status_of(api, subscription) == "active"
    assert not delinquent(api, payer)
    assert builders.types_since(api, mark) == [
        *PAID[1:],
        "customer.subscription.updated",
        "customer.updated",
    ]


def test_manual_payment_attempt_keeps_retry_schedule(app, api, payer):
    subscription = failed_renewal(app, api, payer)
    before = builders.newest_invoice(api, subscription)

    with pytest.raises(stripe.CardError):
        api.v1.invoices.pay(before.id)

    after = builders.newest_invoice(api, subscription)
    assert (after.attempt_count, after.next_payment_attempt) == (
        1,
        before.next_payment_attempt,
    )


@pytest.mark.parametrize("setting", ["past_due", "unpaid", "canceled"])
def test_after_last_retry_account_setting_applies(app, api, payer, setting):
    app.change_settings({"retry_after_days": [1], "after_last_retry": setting})
    subscription = failed_renewal(app, api, payer)
    assert builders.status_of(api, subscription) == "past_due"
    mark = builders.latest_event(api)

    app.advance(DAY)

    ended = api.v1.subscriptions.retrieve(subscription.id)
    assert ended.status == setting
    assert builders.newest_invoice(api, subscription).status == "open"
    events = {
        "past_due": [],
        "unpaid": ["customer.subscription.updated"],
        "canceled": ["customer.subscription.deleted", "invoice.updated"],
    }
    assert builders.types_since(api, mark) == [*FAILED, *events[setting]]
    reason = "payment_failed" if setting == "canceled" else None
    assert ended.cancellation_details.reason == reason


def test_without_retries_first_failure_ends_collection(app, api, payer):
    app.change_settings({"retry_after_days": [], "after_last_retry": "canceled"})

    subscription = failed_renewal(app, api, payer)

    assert builders.status_of(api, subscription) == "canceled"


def test_cancellation_by_api_has_reason_cancellation_requested(api, payer):
    subscription = builders.automatic(api, to=payer)

    ended = api.v1.subscriptions.cancel(subscription.id)

    assert ended.cancellation_details.reason == "cancellation_requested"


def test_unpaid_subscription_reactivates_when_newest_draft_is_paid(app, api, payer):
    app.change_settings({"retry_after_days": [1], "after_last_retry": "unpaid"})
    subscription = failed_renewal(app, api, payer)
    app.advance(DAY)
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


@pytest.mark.parametrize(
    ("decline_code", "charged"), [("insufficient_funds", 2), ("stolen_card", 1)]
)
def test_after_hard_decline_only_new_card_is_charged(
    app, api, payer, decline_code, charged
):
    subscription = failed_renewal(app, api, payer, decline_code)
    retry_at = builders.newest_invoice(api, subscription).next_payment_attempt

    app.advance(3 * DAY)

    invoice = builders.newest_invoice(api, subscription)
    assert failed_charges(api) == charged
    assert invoice.attempt_count == 2
    assert invoice.next_payment_attempt == retry_at + 5 * DAY
    assert builders.event_types(api).count("invoice.payment_failed") == 2
    builders.script(api, payer, "succeed")
    builders.card(api, payer.id, "pm_card_mastercard")
    assert builders.newest_invoice(api, subscription).status == "open"
    app.advance(5 * DAY)
    assert builders.newest_invoice(api, subscription).status == "paid"


def test_retries_without_card_count_until_card_is_added(app, api, payer):
    subscription = builders.automatic(api, to=payer)
    api.v1.payment_methods.detach(payer.invoice_settings.default_payment_method)
    advance_to_renewal(app, subscription)
    app.advance(HOUR)
    first = builders.newest_invoice(api, subscription)

    app.advance(3 * DAY)
    builders.card(api, payer.id)
    app.advance(5 * DAY)

    assert (first.attempt_count, first.status) == (1, "open")
    assert failed_charges(api) == 0
    paid = builders.newest_invoice(api, subscription)
    assert (paid.status, paid.attempt_count) == ("paid", 3)


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


def test_no_retry_while_auto_advance_is_off(app, api, payer):
    subscription = failed_renewal(app, api, payer)
    invoice = api.v1.invoices.update(
        builders.newest_invoice(api, subscription).id, {"auto_advance": False}
    )

    app.advance(30 * DAY)

    after = api.v1.invoices.retrieve(invoice.id)
    assert invoice.next_payment_attempt is None
    assert (after.status, after.attempt_count) == ("open", 1)


def test_settings_and_retries_survive_restart(tmp_path):
    state = tmp_path / "state.sqlite"
    app = StripeApp(state=state, seed=1)
    app.change_settings({"retry_after_days": [1], "after_last_retry": "canceled"})
    api = in_process_client(app)
    payer = builders.customer(api)
    builders.card(api, payer.id)
    subscription = failed_renewal(app, api, payer, "card_declined")
    app.close()

    app = StripeApp(state=state)
    api = in_process_client(app)
    app.advance(2 * DAY)

    assert app.change_settings({}) == AccountSettings(
        retry_after_days=(1,), after_last_retry="canceled"
    )
    assert builders.newest_invoice(api, subscription).attempt_count == 2
    assert builders.status_of(api, subscription) == "canceled"
    app.close()


def test_collection_resumes_when_auto_advance_is_turned_on_again(app, api, payer):
    subscription = failed_renewal(app, api, payer, "card_declined,succeed")
    invoice = builders.newest_invoice(api, subscription)
    stop = {"auto_advance": False}

    api.v1.invoices.update(invoice.id, stop)
    app.advance(DAY)
    waiting = api.v1.invoices.update(invoice.id, {"auto_advance": True})
    api.v1.invoices.update(invoice.id, stop)
    app.advance(10 * DAY)
    resumed = app.clock.now()
    api.v1.invoices.update(invoice.id, {"auto_advance": True})

    paid = api.v1.invoices.retrieve(invoice.id)
    assert waiting.next_payment_attempt == invoice.next_payment_attempt
    assert paid.status_transitions.paid_at in range(resumed, resumed + 5)
    assert builders.status_of(api, subscription) == "active"


@pytest.mark.parametrize(("attempted", "wait"), [(False, HOUR), (True, 3 * DAY)])
def test_collection_starts_when_auto_advance_is_turned_on_late(
    app, api, payer, attempted, wait
):
    subscription = builders.automatic(api, to=payer)
    advance_to_renewal(app, subscription)
    draft = builders.newest_invoice(api, subscription)
    api.v1.invoices.finalize_invoice(draft.id, {"auto_advance": False})
    if attempted:
        builders.script(api, payer, "card_declined,succeed")
        builders.pay_error(api, draft.id)
    app.advance(20 * DAY)

    opened = api.v1.invoices.update(draft.id, {"auto_advance": True})
    app.advance(wait - 60)
    before = api.v1.invoices.retrieve(draft.id)
    app.advance(120)

    assert opened.next_payment_attempt - app.clock.now() in range(-70, 0)
    assert before.status == "open"
    assert api.v1.invoices.retrieve(draft.id).status == "paid"
