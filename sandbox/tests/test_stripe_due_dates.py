"""Invoices that are sent: what their due date brings."""

import pytest
import stripe

from sandbox.stripe.transport import in_process_client
from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_builders import DAY

MONTH = 31 * DAY


@pytest.fixture
def api(app):
    return in_process_client(app)


def standing(api, subscribed):
    """Return the subscription's status, and whether its customer is delinquent."""
    owner = api.v1.customers.retrieve(subscribed.customer)
    return story.status_of(api, subscribed), owner.delinquent


def sent(api):
    """Return a subscription whose first invoice was sent, due in seven days."""
    subscribed = story.subscription(api)
    api.v1.invoices.finalize_invoice(subscribed.latest_invoice, {"auto_advance": True})
    return subscribed


def test_an_invoice_that_was_sent_makes_past_due_when_it_is_due(app, api):
    subscribed = sent(api)

    app.advance(7 * DAY - 10)
    before = standing(api, subscribed)
    mark = story.latest_event(api)
    app.advance(20)

    assert before == ("active", False)
    assert standing(api, subscribed) == ("past_due", True)
    assert story.types_since(api, mark) == [
        "customer.subscription.updated",
        "customer.updated",
    ]
    api.v1.invoices.pay(subscribed.latest_invoice, {"paid_out_of_band": True})
    assert standing(api, subscribed) == ("active", False)


def test_a_declined_card_does_not_make_a_sent_invoice_past_due(api):
    subscribed = sent(api)
    story.card(api, subscribed.customer, "pm_card_chargeCustomerFail")

    with pytest.raises(stripe.CardError):
        api.v1.invoices.pay(subscribed.latest_invoice)

    assert standing(api, subscribed) == ("active", False)


@pytest.mark.parametrize(("days", "told"), [(None, 0), (2, 1)])
def test_overdue_is_only_said_where_the_account_says_when(app, api, days, told):
    app.change_settings({"overdue_after_days": days})
    subscribed = sent(api)

    app.advance(9 * DAY - 10)
    before = story.event_types(api).count("invoice.overdue")
    app.advance(DAY)

    assert (before, story.event_types(api).count("invoice.overdue")) == (0, told)
    assert story.status_of(api, subscribed) == "past_due"


def test_a_paid_invoice_is_never_overdue(app, api):
    app.change_settings({"overdue_after_days": 1, "after_last_retry": "canceled"})
    subscribed = sent(api)
    api.v1.invoices.pay(subscribed.latest_invoice, {"paid_out_of_band": True})

    app.advance(20 * DAY)

    assert "invoice.overdue" not in story.event_types(api)
    assert standing(api, subscribed) == ("active", False)


@pytest.mark.parametrize("setting", ["past_due", "unpaid", "canceled"])
def test_thirty_days_past_due_the_account_decides(app, api, setting):
    app.change_settings({"after_last_retry": setting})
    yearly = story.price(api, recurring={"interval": "year"})
    subscribed = story.subscription(api, yearly)
    invoice = api.v1.invoices.finalize_invoice(
        subscribed.latest_invoice, {"auto_advance": True}
    )

    app.advance(37 * DAY - 10)
    before = story.status_of(api, subscribed)
    app.advance(20)
    after = story.status_of(api, subscribed)
    api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    assert (before, after) == ("past_due", setting)
    # An unpaid one would have had to be paid before the due date.
    revived = {"past_due": "active"}
    assert story.status_of(api, subscribed) == revived.get(setting, setting)


@pytest.mark.parametrize(("due", "drafted"), [(0, 3_600), (3, 5 * DAY)])
def test_time_does_not_run_backwards_for_a_draft_that_is_finalized_late(
    app, api, due, drafted
):
    app.change_settings({"overdue_after_days": 2, "after_last_retry": "canceled"})
    yearly = story.price(api, recurring={"interval": "year"})
    subscribed = story.subscription(api, yearly, days_until_due=due)
    api.v1.invoices.update(subscribed.latest_invoice, {"auto_advance": False})
    app.advance(drafted)

    finalized = app.clock.now()
    api.v1.invoices.finalize_invoice(subscribed.latest_invoice, {"auto_advance": True})
    app.advance(1)
    fallen_due = standing(api, subscribed)
    app.advance(31 * DAY)

    def told(type):
        listed = api.v1.events.list({"type": type, "created": {"gte": finalized}})
        return [event.created - finalized for event in listed.data]

    assert fallen_due == ("past_due", True)
    assert told("customer.subscription.deleted") == [30 * DAY]
    assert told("invoice.overdue") == [2 * DAY]
    assert app.clock.now() - finalized < 32 * DAY
