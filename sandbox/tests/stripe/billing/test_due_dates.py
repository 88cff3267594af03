"""Due dates of sent invoices: past due, overdue, end of collection."""

import pytest
import stripe

from sandbox.stripe.client.in_process import in_process_client
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY

MONTH = 31 * DAY


@pytest.fixture
def api(app):
    return in_process_client(app)


def status_and_delinquency(api, subscription):
    """Return the subscription's status and its customer's `delinquent` flag."""
    owner = api.v1.customers.retrieve(subscription.customer)
    return builders.status_of(api, subscription), owner.delinquent


def subscription_with_sent_invoice(api):
    """Return a subscription with an open first invoice, due in seven days."""
    subscription = builders.subscription(api)
    api.v1.invoices.finalize_invoice(
        subscription.latest_invoice, {"auto_advance": True}
    )
    return subscription


def test_subscription_is_past_due_from_due_date_of_sent_invoice(app, api):
    subscription = subscription_with_sent_invoice(api)

    app.advance(7 * DAY - 60)
    before = status_and_delinquency(api, subscription)
    mark = builders.latest_event(api)
    app.advance(120)

    assert before == ("active", False)
    assert status_and_delinquency(api, subscription) == ("past_due", True)
    assert builders.types_since(api, mark) == [
        "customer.subscription.updated",
        "customer.updated",
    ]
    api.v1.invoices.pay(subscription.latest_invoice, {"paid_out_of_band": True})
    assert status_and_delinquency(api, subscription) == ("active", False)


def test_declined_card_on_sent_invoice_keeps_subscription_active(api):
    subscription = subscription_with_sent_invoice(api)
    builders.card(api, subscription.customer, "pm_card_chargeCustomerFail")

    with pytest.raises(stripe.CardError):
        api.v1.invoices.pay(subscription.latest_invoice)

    assert status_and_delinquency(api, subscription) == ("active", False)


@pytest.mark.parametrize(("days", "count"), [(None, 0), (2, 1)])
def test_invoice_overdue_is_emitted_only_if_account_enables_it(app, api, days, count):
    app.change_settings({"overdue_after_days": days})
    subscription = subscription_with_sent_invoice(api)

    app.advance(9 * DAY - 60)
    before = builders.event_types(api).count("invoice.overdue")
    app.advance(DAY)

    assert (before, builders.event_types(api).count("invoice.overdue")) == (0, count)
    assert builders.status_of(api, subscription) == "past_due"


def test_paid_invoice_never_becomes_overdue(app, api):
    app.change_settings({"overdue_after_days": 1, "after_last_retry": "canceled"})
    subscription = subscription_with_sent_invoice(api)
    api.v1.invoices.pay(subscription.latest_invoice, {"paid_out_of_band": True})

    app.advance(20 * DAY)

    assert "invoice.overdue" not in builders.event_types(api)
    assert status_and_delinquency(api, subscription) == ("active", False)


@pytest.mark.parametrize("setting", ["past_due", "unpaid", "canceled"])
def test_account_setting_applies_thirty_days_after_due_date(app, api, setting):
    app.change_settings({"after_last_retry": setting})
    yearly = builders.price(api, recurring={"interval": "year"})
    subscription = builders.subscription(api, yearly)
    invoice = api.v1.invoices.finalize_invoice(
        subscription.latest_invoice, {"auto_advance": True}
    )

    app.advance(37 * DAY - 60)
    before = builders.status_of(api, subscription)
    app.advance(120)
    after = builders.status_of(api, subscription)
    api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    assert (before, after) == ("past_due", setting)
    # An `unpaid` subscription reactivates only if paid before the due date.
    reactivated = {"past_due": "active"}
    assert builders.status_of(api, subscription) == reactivated.get(setting, setting)


@pytest.mark.parametrize(("due", "drafted"), [(0, 3_600), (3, 5 * DAY)])
def test_deadlines_count_from_finalization_when_due_date_has_passed(
    app, api, due, drafted
):
    app.change_settings({"overdue_after_days": 2, "after_last_retry": "canceled"})
    yearly = builders.price(api, recurring={"interval": "year"})
    subscription = builders.subscription(api, yearly, days_until_due=due)
    api.v1.invoices.update(subscription.latest_invoice, {"auto_advance": False})
    app.advance(drafted)

    finalized = app.clock.now()
    api.v1.invoices.finalize_invoice(
        subscription.latest_invoice, {"auto_advance": True}
    )
    app.advance(1)
    after_due_date = status_and_delinquency(api, subscription)
    app.advance(31 * DAY)

    def seconds_until(type):
        page = api.v1.events.list({"type": type, "created": {"gte": finalized}})
        return [event.created - finalized for event in page.data]

    assert after_due_date == ("past_due", True)
    assert seconds_until("customer.subscription.deleted") == [30 * DAY]
    assert seconds_until("invoice.overdue") == [2 * DAY]
    assert app.clock.now() - finalized < 32 * DAY
