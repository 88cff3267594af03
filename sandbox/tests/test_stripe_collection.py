"""Automatic collection of renewals: charges, retries, and giving up."""

import pytest
import stripe

from sandbox.stripe.app import StripeApp
from sandbox.stripe.objects import hosted
from sandbox.stripe.settings import AccountSettings
from sandbox.stripe.transport import in_process_client
from sandbox.tests.support import stripe_builders as story
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


def to_renewal(app, subscribed):
    """Go to the end of the first period; the renewal is a draft then."""
    app.advance(subscribed.items.data[0].current_period_end - app.clock.now())


def failing(app, api, payer, words="card_declined", **params):
    """Return a subscription whose renewal has just failed for the first time."""
    subscribed = story.automatic(api, to=payer, **params)
    to_renewal(app, subscribed)
    story.script(api, payer, words)
    app.advance(HOUR)
    return subscribed


def charges(api):
    return story.event_types(api).count("charge.failed")


def test_a_renewal_is_charged_an_hour_later(app, api, payer):
    subscribed = story.automatic(api, to=payer)
    to_renewal(app, subscribed)
    draft = story.newest_invoice(api, subscribed)
    mark = story.latest_event(api)

    app.advance(HOUR)

    paid = story.newest_invoice(api, subscribed)
    assert (draft.status, draft.next_payment_attempt) == ("draft", draft.created + HOUR)
    assert (paid.status, paid.attempt_count) == ("paid", 1)
    assert story.types_since(api, mark) == [
        "invoice.updated",
        "invoice.finalized",
        *PAID,
    ]


def test_a_renewal_that_fails_is_retried_as_the_account_is_set(app, api, payer):
    subscribed = failing(app, api, payer)
    counted, mark = [], ""
    at = story.newest_invoice(api, subscribed).status_transitions.finalized_at
    for _ in range(4):
        invoice = story.newest_invoice(api, subscribed)
        following = invoice.next_payment_attempt
        counted.append((invoice.attempt_count, following and following - at))
        at, mark = following, story.latest_event(api)
        app.advance(8 * DAY if at is None else at - app.clock.now())

    assert counted == [(1, 3 * DAY), (2, 5 * DAY), (3, 7 * DAY), (4, None)]
    assert story.types_since(api, mark) == []
    assert story.status_of(api, subscribed) == "past_due"
    assert delinquent(api, payer)
    assert story.event_types(api).count("invoice.payment_failed") == 4


def test_a_failure_is_told_in_order(app, api, payer):
    subscribed = story.automatic(api, to=payer)
    to_renewal(app, subscribed)
    story.script(api, payer, "card_declined")
    mark = story.latest_event(api)

    app.advance(HOUR)

    assert story.types_since(api, mark) == [
        "invoice.updated",
        "invoice.finalized",
        "payment_intent.created",
        *FAILED,
        "customer.subscription.updated",
        "customer.updated",
    ]
    failed = api.v1.events.list({"type": "invoice.payment_failed"}).data[0]
    told = failed.data.object
    assert told.next_payment_attempt == failed.created + 3 * DAY
    changed = api.v1.events.list({"type": "customer.subscription.updated"}).data[0]
    assert changed.data.previous_attributes.to_dict() == {"status": "active"}


def test_a_retry_that_succeeds_ends_it(app, api, payer):
    subscribed = failing(app, api, payer, "card_declined,succeed")
    mark = story.latest_event(api)

    app.advance(3 * DAY)

    paid = story.newest_invoice(api, subscribed)
    assert (paid.status, paid.attempt_count, paid.next_payment_attempt) == (
        "paid",
        2,
        None,
    )
    assert story.status_of(api, subscribed) == "active"
    assert not delinquent(api, payer)
    assert story.types_since(api, mark) == [
        *PAID[1:],
        "customer.subscription.updated",
        "customer.updated",
    ]


def test_a_person_trying_in_between_leaves_the_schedule_alone(app, api, payer):
    subscribed = failing(app, api, payer)
    before = story.newest_invoice(api, subscribed)

    with pytest.raises(stripe.CardError):
        api.v1.invoices.pay(before.id)

    after = story.newest_invoice(api, subscribed)
    assert (after.attempt_count, after.next_payment_attempt) == (
        1,
        before.next_payment_attempt,
    )


@pytest.mark.parametrize("setting", ["past_due", "unpaid", "canceled"])
def test_after_the_last_retry_the_account_decides(app, api, payer, setting):
    app.change_settings({"retry_after_days": [1], "after_last_retry": setting})
    subscribed = failing(app, api, payer)
    assert story.status_of(api, subscribed) == "past_due"
    mark = story.latest_event(api)

    app.advance(DAY)

    ended = api.v1.subscriptions.retrieve(subscribed.id)
    assert ended.status == setting
    assert story.newest_invoice(api, subscribed).status == "open"
    told = {
        "past_due": [],
        "unpaid": ["customer.subscription.updated"],
        "canceled": ["customer.subscription.deleted", "invoice.updated"],
    }
    assert story.types_since(api, mark) == [*FAILED, *told[setting]]
    reason = "payment_failed" if setting == "canceled" else None
    assert ended.cancellation_details.reason == reason


def test_without_retries_the_first_failure_is_the_last(app, api, payer):
    app.change_settings({"retry_after_days": [], "after_last_retry": "canceled"})

    subscribed = failing(app, api, payer)

    assert story.status_of(api, subscribed) == "canceled"


def test_a_cancellation_by_a_person_says_so(api, payer):
    by_api = story.automatic(api, to=payer)
    ended = api.v1.subscriptions.cancel(by_api.id)

    assert ended.cancellation_details.reason == "cancellation_requested"


def test_unpaid_renewals_stay_drafts_and_the_newest_invoice_revives(app, api, payer):
    app.change_settings({"retry_after_days": [1], "after_last_retry": "unpaid"})
    subscribed = failing(app, api, payer)
    app.advance(DAY)
    failed = story.newest_invoice(api, subscribed)
    app.advance(MONTH)
    draft = story.newest_invoice(api, subscribed)
    story.script(api, payer, "succeed")

    api.v1.invoices.pay(failed.id)
    after_the_old_one = story.status_of(api, subscribed)
    api.v1.invoices.finalize_invoice(draft.id)
    api.v1.invoices.pay(draft.id)

    assert (draft.status, draft.auto_advance) == ("draft", False)
    assert draft.automatically_finalizes_at is None
    assert after_the_old_one == "unpaid"
    assert story.status_of(api, subscribed) == "active"


def test_past_due_is_over_with_the_latest_finalized_invoice(app, api, payer):
    subscribed = failing(app, api, payer)
    old = story.newest_invoice(api, subscribed)
    app.advance(MONTH + DAY)
    latest = story.newest_invoice(api, subscribed)
    story.script(api, payer, "succeed")

    api.v1.invoices.pay(old.id)
    after_the_old_one = story.status_of(api, subscribed)
    api.v1.invoices.pay(latest.id)

    assert latest.id != old.id
    assert after_the_old_one == "past_due"
    assert story.status_of(api, subscribed) == "active"


@pytest.mark.parametrize("end", ["mark_uncollectible", "void_invoice"])
def test_an_invoice_that_is_given_up_no_longer_makes_past_due(app, api, payer, end):
    subscribed = failing(app, api, payer)

    getattr(api.v1.invoices, end)(story.newest_invoice(api, subscribed).id)

    assert story.status_of(api, subscribed) == "active"
    assert delinquent(api, payer) is (end == "void_invoice")


@pytest.mark.parametrize(
    ("word", "charged"), [("insufficient_funds", 2), ("stolen_card", 1)]
)
def test_after_a_hard_decline_only_a_new_card_is_charged(
    app, api, payer, word, charged
):
    subscribed = failing(app, api, payer, word)
    retry_at = story.newest_invoice(api, subscribed).next_payment_attempt

    app.advance(3 * DAY)

    invoice = story.newest_invoice(api, subscribed)
    assert charges(api) == charged
    assert invoice.attempt_count == 2
    assert invoice.next_payment_attempt == retry_at + 5 * DAY
    assert story.event_types(api).count("invoice.payment_failed") == 2
    story.script(api, payer, "succeed")
    story.card(api, payer.id, "pm_card_mastercard")
    assert story.newest_invoice(api, subscribed).status == "open"
    app.advance(5 * DAY)
    assert story.newest_invoice(api, subscribed).status == "paid"


def test_without_any_card_retries_pass_until_there_is_one(app, api, payer):
    subscribed = story.automatic(api, to=payer)
    api.v1.payment_methods.detach(payer.invoice_settings.default_payment_method)
    to_renewal(app, subscribed)
    app.advance(HOUR)
    first = story.newest_invoice(api, subscribed)

    app.advance(3 * DAY)
    story.card(api, payer.id)
    app.advance(5 * DAY)

    assert (first.attempt_count, first.status) == (1, "open")
    assert charges(api) == 0
    paid = story.newest_invoice(api, subscribed)
    assert (paid.status, paid.attempt_count) == ("paid", 3)


def test_the_subscriptions_card_comes_before_the_customers(app, api, payer):
    own = api.v1.payment_methods.attach(
        "pm_card_chargeCustomerFail", {"customer": payer.id}
    )
    subscribed = story.automatic(api, to=payer)
    api.v1.subscriptions.update(subscribed.id, {"default_payment_method": own.id})

    to_renewal(app, subscribed)
    app.advance(HOUR)

    assert story.newest_invoice(api, subscribed).status == "open"
    intent = api.v1.payment_intents.list({"customer": payer.id}).data[0]
    assert intent.last_payment_error.payment_method.id == own.id


def test_a_renewal_that_wants_its_holder_is_past_due_until_then(app, api, payer):
    subscribed = failing(app, api, payer, "requires_action")
    intent = api.v1.payment_intents.list({"customer": payer.id}).data[0]

    assert story.status_of(api, subscribed) == "past_due"
    assert intent.status == "requires_action"
    assert "invoice.payment_action_required" in story.event_types(api)
    app.transact(lambda context: hosted.authenticate(context, intent.id, passed=True))
    assert story.status_of(api, subscribed) == "active"


def test_without_automatic_collection_nothing_is_charged(app, api, payer):
    subscribed = failing(app, api, payer)
    invoice = api.v1.invoices.update(
        story.newest_invoice(api, subscribed).id, {"auto_advance": False}
    )

    app.advance(30 * DAY)

    first_one = api.v1.invoices.retrieve(invoice.id)
    assert invoice.next_payment_attempt is None
    assert (first_one.status, first_one.attempt_count) == ("open", 1)


def test_a_restart_keeps_what_is_due(tmp_path):
    state = tmp_path / "state.sqlite"
    app = StripeApp(state=state, seed=1)
    app.change_settings({"retry_after_days": [1], "after_last_retry": "canceled"})
    api = in_process_client(app)
    made = story.customer(api)
    story.card(api, made.id)
    subscribed = failing(app, api, made, "card_declined")
    app.close()

    app = StripeApp(state=state)
    api = in_process_client(app)
    app.advance(2 * DAY)

    assert app.change_settings({}) == AccountSettings(
        retry_after_days=(1,), after_last_retry="canceled"
    )
    assert story.newest_invoice(api, subscribed).attempt_count == 2
    assert story.status_of(api, subscribed) == "canceled"
    app.close()


def test_collection_goes_on_where_it_was_stopped(app, api, payer):
    subscribed = failing(app, api, payer, "card_declined,succeed")
    invoice = story.newest_invoice(api, subscribed)
    stopped = {"auto_advance": False}

    api.v1.invoices.update(invoice.id, stopped)
    app.advance(DAY)
    waiting = api.v1.invoices.update(invoice.id, {"auto_advance": True})
    api.v1.invoices.update(invoice.id, stopped)
    app.advance(10 * DAY)
    resumed = app.clock.now()
    api.v1.invoices.update(invoice.id, {"auto_advance": True})

    paid = api.v1.invoices.retrieve(invoice.id)
    assert waiting.next_payment_attempt == invoice.next_payment_attempt
    assert paid.status_transitions.paid_at in range(resumed, resumed + 5)
    assert story.status_of(api, subscribed) == "active"


@pytest.mark.parametrize(("tried", "wait"), [(False, HOUR), (True, 3 * DAY)])
def test_collection_begins_when_it_is_turned_on_later(app, api, payer, tried, wait):
    subscribed = story.automatic(api, to=payer)
    to_renewal(app, subscribed)
    draft = story.newest_invoice(api, subscribed)
    api.v1.invoices.finalize_invoice(draft.id, {"auto_advance": False})
    if tried:
        story.script(api, payer, "card_declined,succeed")
        story.pay_error(api, draft.id)
    app.advance(20 * DAY)

    opened = api.v1.invoices.update(draft.id, {"auto_advance": True})
    app.advance(wait - 60)
    before = api.v1.invoices.retrieve(draft.id)
    app.advance(120)

    assert opened.next_payment_attempt - app.clock.now() in range(-70, 0)
    assert before.status == "open"
    assert api.v1.invoices.retrieve(draft.id).status == "paid"
