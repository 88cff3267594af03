"""Discounts and taxes on the dashboard and on the hosted invoice page."""

import pytest
import requests

from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.control import control
from sandbox.tests.support.stripe.web import fetch, part, words


@pytest.fixture
def subscription(api):
    """A subscription to $10.00 with half off and 20 % tax."""
    coupon = builders.coupon(api, name="Friends")
    return builders.subscription(
        api,
        discounts=[{"coupon": coupon.id}],
        default_tax_rates=[builders.tax_rate(api, 20).id],
    )


def section(sandbox, name):
    return words(part(requests.get(sandbox.url, timeout=60).text, name))


def test_hosted_invoice_shows_discounts_and_taxes(api, subscription):
    invoice = builders.first_invoice(api, subscription)

    page = words(fetch(str(invoice.hosted_invoice_url)).text)

    assert (
        "Subtotal $10.00 Friends (50 % off) -$5.00 VAT 20 % $1.00 Total $6.00" in page
    )


def test_hosted_invoice_says_that_a_tax_is_included(api):
    rate = builders.tax_rate(api, 25, inclusive=True)
    subscription = builders.subscription(api, default_tax_rates=[rate.id])
    invoice = builders.first_invoice(api, subscription)

    page = words(fetch(str(invoice.hosted_invoice_url)).text)

    assert "Subtotal $10.00 VAT 25 % (included) $2.00 Total $10.00" in page


def test_dashboard_shows_discounts_and_taxes(api, stripe_sandbox, subscription):
    assert "Friends (50 % off) VAT 20 %" in section(stripe_sandbox, "subscriptions")
    assert "Friends (50 % off) -$5.00 VAT 20 % $1.00" in section(
        stripe_sandbox, "invoices"
    )


def test_discount_is_removed_on_its_page(api, stripe_sandbox, subscription):
    (discount,) = subscription.discounts
    page = requests.get(f"{stripe_sandbox.url}/?id={discount}", timeout=60).text

    statuses = [
        requests.post(
            f"{stripe_sandbox.url}/_pages/end-discount",
            data={"id": discount},
            headers={"Origin": stripe_sandbox.url},
            allow_redirects=False,
            timeout=60,
        ).status_code
        for _ in range(2)
    ]

    assert "Remove the discount" in page
    assert statuses == [303, 400]
    assert api.v1.subscriptions.retrieve(subscription.id).discounts == []


def test_dashboard_shows_the_discount_of_a_customer(api, stripe_sandbox):
    payer = builders.customer(api)
    coupon = builders.coupon(api, amount_off=100, currency="usd", name="Voucher")

    path = f"customers/{payer.id}/discount"
    control(stripe_sandbox, "POST", path, {"coupon": coupon.id})

    assert "Voucher" in section(stripe_sandbox, "customers")
