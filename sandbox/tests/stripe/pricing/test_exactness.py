"""Billed amounts are returned exactly, with any discounts and taxes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravel.tests.support import search
from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.money.rounding import spread
from sandbox.tests.support.stripe import audit, builders

PRICES = st.lists(st.integers(0, 5_000), min_size=1, max_size=4)
PERCENTAGES = st.integers(1, 10_000).map(lambda hundredths: hundredths / 100)
COUPONS = st.lists(
    st.one_of(
        PERCENTAGES.map(lambda percent: {"percent_off": percent}),
        st.integers(1, 4_000).map(lambda off: {"amount_off": off, "currency": "usd"}),
    ),
    max_size=3,
)
TAX_RATES = st.lists(st.tuples(PERCENTAGES, st.booleans()), max_size=3)


@pytest.mark.search
@settings(max_examples=search.examples(40), deadline=None)
@given(PRICES, COUPONS, TAX_RATES)
def test_a_cancellation_at_once_returns_all_that_was_billed(amounts, coupons, rates):
    app = StripeApp(seed=1)
    api = in_process_client(app)
    prices = [builders.price(api, amount) for amount in amounts]
    options = priced(api, coupons, rates)
    subscription = builders.subscription(api, *prices, **options)
    first: Any = api.v1.invoices.retrieve(str(subscription.latest_invoice))

    canceled = api.v1.subscriptions.cancel(
        subscription.id, {"prorate": True, "invoice_now": True}
    )

    final: Any = api.v1.invoices.retrieve(str(canceled.latest_invoice))
    assert final.total == -first.total
    assert final.total_excluding_tax == -first.total_excluding_tax
    assert audit.audit(app.store) == []


@pytest.mark.search
@settings(max_examples=search.examples(40), deadline=None)
@given(PRICES, COUPONS, TAX_RATES)
def test_a_pause_at_once_returns_what_a_resumption_bills_again(amounts, coupons, rates):
    app = StripeApp(seed=1)
    api = in_process_client(app)
    payer, _ = builders.paying_customer(api)
    prices = [{"price": builders.price(api, amount).id} for amount in amounts]
    options = priced(api, coupons, rates)
    subscription = builders.automatic(api, to=payer, items=prices, **options)
    first = builders.newest_invoice(api, subscription)

    api.v1.subscriptions.pause(subscription.id, {"invoicing_behavior": "invoice"})
    credit = builders.newest_invoice(api, subscription)
    resume: Any = {
        "billing_cycle_anchor": {"type": "unchanged"},
        "proration_behavior": "always_invoice",
    }
    api.v1.subscriptions.resume(subscription.id, resume)

    assert credit.total == -first.total
    assert credit.total_excluding_tax == -first.total_excluding_tax
    assert builders.newest_invoice(api, subscription).subtotal == -credit.subtotal
    assert audit.audit(app.store) == []


def priced(api: Any, coupons: Any, rates: Any) -> dict[str, Any]:
    """Return the parameters of a subscription with new discounts and tax rates."""
    return {
        "discounts": [{"coupon": builders.coupon(api, **kind).id} for kind in coupons],
        "default_tax_rates": [
            builders.tax_rate(api, percentage, inclusive=inclusive).id
            for percentage, inclusive in rates
        ],
    }


@given(st.lists(st.integers(0, 100), min_size=1), st.data())
def test_a_spread_amount_is_exact_and_no_share_exceeds_its_weight(weights, data):
    total = data.draw(st.integers(0, sum(weights)))

    shares = spread(total, weights)

    assert sum(shares) == total
    assert all(
        0 <= share <= weight for share, weight in zip(shares, weights, strict=True)
    )
