"""Random histories of a subscription: what is billed is price times time."""

from collections import Counter
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.stripe.app import StripeApp
from sandbox.stripe.transport import in_process_client
from sandbox.tests import stripe_story as story

STEPS = st.lists(
    st.tuples(st.integers(1, 20 * story.DAY), st.integers(1, 9)), min_size=1, max_size=6
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(1, 5_000), st.integers(0, 25 * story.DAY))
def test_lines_add_up_to_price_times_time(steps, unit, last):
    app = StripeApp(seed=1)
    api = in_process_client(app)
    subscribed = story.subscription(api, story.price(api, unit))
    item = subscribed.items.data[0].id
    exact, quantity, since = Fraction(0), 1, subscribed.start_date
    for wait, wanted in steps:
        app.advance(wait)
        api.v1.subscriptions.update(
            subscribed.id, {"items": [{"id": item, "quantity": wanted}]}
        )
        exact += owed(api, subscribed, unit * quantity, since, app.clock.now())
        quantity, since = wanted, app.clock.now()
    app.advance(last)

    ended = api.v1.subscriptions.cancel(
        subscribed.id, {"prorate": True, "invoice_now": True}
    )

    exact += owed(api, subscribed, unit * quantity, since, ended.ended_at)
    invoices = list(
        api.v1.invoices.list({"subscription": subscribed.id}).auto_paging_iter()
    )
    lines = [line for invoice in invoices for line in all_lines(api, invoice.id)]
    assert sum(invoice.total for invoice in invoices) == sum(
        line.amount for line in lines
    )
    assert abs(sum(line.amount for line in lines) - exact) <= Fraction(len(lines), 2)
    assert not api.v1.invoice_items.list({"pending": True}).data
    assert max(Counter(line.id for line in lines).values()) == 1


def all_lines(api, invoice):
    return list(api.v1.invoices.line_items.list(invoice).auto_paging_iter())


def owed(api, subscribed, amount, start, end):
    """Return the exact price of a stretch of time, over the months it touches."""
    total = Fraction(0)
    for first, last in periods(api, subscribed):
        seconds = max(0, min(end, last) - max(start, first))
        total += Fraction(amount * seconds, last - first)
    return total


def periods(api, subscribed):
    """Return every period that a renewal or the start has billed."""
    found = set()
    for invoice in api.v1.invoices.list(
        {"subscription": subscribed.id}
    ).auto_paging_iter():
        for line in all_lines(api, invoice.id):
            if not line.parent.subscription_item_details.proration:
                found.add((line.period.start, line.period.end))
    return found
