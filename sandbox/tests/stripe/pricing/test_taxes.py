"""Tax rates and the taxes of invoices and credit notes (SDK types TaxRate, Invoice)."""

from typing import Any

import pytest
import stripe

from sandbox.tests.support.stripe import builders


def first_of(api, *prices, **params: Any) -> Any:
    subscription = builders.subscription(api, *prices, **params)
    return builders.first_invoice(api, subscription)


def summary(invoice: Any) -> dict[str, int]:
    return {
        "subtotal": invoice.subtotal,
        "subtotal_excluding_tax": invoice.subtotal_excluding_tax,
        "total": invoice.total,
        "total_excluding_tax": invoice.total_excluding_tax,
        "taxes": sum(tax.amount for tax in invoice.total_taxes),
    }


def test_a_tax_rate_is_created_listed_and_archived(api):
    rate = builders.tax_rate(api, 19)

    archived = api.v1.tax_rates.update(rate.id, {"active": False})

    assert (rate.active, rate.percentage, archived.active) == (True, 19, False)
    assert [item.id for item in api.v1.tax_rates.list({"active": False})] == [rate.id]
    assert api.v1.tax_rates.list({"active": True}).data == []
    assert builders.event_types(api) == ["tax_rate.created", "tax_rate.updated"]


def test_an_exclusive_tax_is_added(api):
    rate = builders.tax_rate(api, 20)

    invoice = first_of(api, default_tax_rates=[rate.id])

    assert summary(invoice) == {
        "subtotal": 1_000,
        "subtotal_excluding_tax": 1_000,
        "total": 1_200,
        "total_excluding_tax": 1_000,
        "taxes": 200,
    }
    assert [item.id for item in invoice.default_tax_rates] == [rate.id]
    (tax,) = invoice.lines.data[0].taxes
    assert (tax.amount, tax.taxable_amount, tax.tax_behavior) == (
        200,
        1_000,
        "exclusive",
    )
    assert tax.tax_rate_details.tax_rate == rate.id


def test_an_inclusive_tax_is_part_of_the_price(api):
    rate = builders.tax_rate(api, 20, inclusive=True)

    invoice = first_of(api, builders.price(api, 1_200), default_tax_rates=[rate.id])

    assert summary(invoice) == {
        "subtotal": 1_200,
        "subtotal_excluding_tax": 1_000,
        "total": 1_200,
        "total_excluding_tax": 1_000,
        "taxes": 200,
    }


def test_taxes_apply_after_discounts(api):
    rates = [builders.tax_rate(api, 20, inclusive=kind) for kind in (True, False)]
    coupon = builders.coupon(api)

    invoices = [
        first_of(
            api,
            builders.price(api, 1_200),
            discounts=[{"coupon": coupon.id}],
            default_tax_rates=[rate.id],
        )
        for rate in rates
    ]

    assert summary(invoices[0]) == {
        "subtotal": 1_200,
        "subtotal_excluding_tax": 1_000,
        "total": 600,
        "total_excluding_tax": 500,
        "taxes": 100,
    }
    assert summary(invoices[1]) == {
        "subtotal": 1_200,
        "subtotal_excluding_tax": 1_200,
        "total": 720,
        "total_excluding_tax": 600,
        "taxes": 120,
    }


def test_each_line_is_rounded(api):
    # The figures of Stripe's support page about rounding: 0.43 and 4.84 at 15 %.
    rate = builders.tax_rate(api, 15)
    prices = [builders.price(api, amount) for amount in (43, 484)]

    invoice = first_of(api, *prices, default_tax_rates=[rate.id])

    taxes = [line.taxes[0].amount for line in invoice.lines.data]
    assert (sorted(taxes), invoice.total) == ([6, 73], 606)


def test_the_sum_of_a_tax_can_be_rounded_instead(api, stripe_sandbox):
    stripe_sandbox.settings(tax_rounding="invoice")
    rate = builders.tax_rate(api, 10)
    prices = [builders.price(api, 104) for _ in range(3)]

    invoice = first_of(api, *prices, default_tax_rates=[rate.id])

    # 3 × 10.4 = 31.2, where each line alone has 10.
    assert sorted(line.taxes[0].amount for line in invoice.lines.data) == [10, 10, 11]
    assert (invoice.total_taxes[0].amount, invoice.total) == (31, 343)


def test_the_rates_of_an_item_replace_the_defaults(api):
    high, low = builders.tax_rate(api, 20), builders.tax_rate(api, 5)
    subscription = builders.subscription(api, default_tax_rates=[high.id])
    item = subscription.items.data[0].id
    changed = api.v1.subscriptions.update(
        subscription.id, {"items": [{"id": item, "tax_rates": [low.id]}]}
    )

    items: Any = [{"price": builders.price(api).id, "tax_rates": [low.id]}]
    invoice = first_of(api, items=items, default_tax_rates=[high.id])

    assert [rate.id for rate in changed.items.data[0].tax_rates] == [low.id]
    assert api.v1.invoice_items.list({"pending": True}).data == []
    assert invoice.total == 1_050


def test_an_archived_rate_stays_where_it_is_set(api, stripe_sandbox):
    rate = builders.tax_rate(api)
    subscription = builders.subscription(api, default_tax_rates=[rate.id])

    api.v1.tax_rates.update(rate.id, {"active": False})
    stripe_sandbox.advance(32 * builders.DAY)

    assert builders.newest_invoice(api, subscription).total == 1_200
    with pytest.raises(stripe.InvalidRequestError, match="archived"):
        builders.subscription(api, default_tax_rates=[rate.id])


@pytest.mark.parametrize("count", [2, 6])
def test_repeated_or_too_many_rates_are_refused(api, count):
    ids = [builders.tax_rate(api, 1).id for _ in range(count)]

    with pytest.raises(stripe.InvalidRequestError, match="at most"):
        builders.subscription(api, default_tax_rates=ids if count > 5 else ids[:1] * 2)


def test_a_draft_can_be_taxed(api):
    payer, rate = builders.customer(api), builders.tax_rate(api)
    low = builders.tax_rate(api, 5)
    draft = api.v1.invoices.create({"customer": payer.id})
    for params in ({}, {"tax_rates": [low.id]}):
        api.v1.invoice_items.create(
            {
                "customer": payer.id,
                "amount": 100,
                "currency": "usd",
                "invoice": draft.id,
                **params,
            }
        )

    taxed = api.v1.invoices.update(draft.id, {"default_tax_rates": [rate.id]})

    assert (taxed.total, taxed.amount_due) == (225, 225)


def credit(api, invoice: Any, amount: int) -> Any:
    return api.v1.credit_notes.create({"invoice": invoice.id, "amount": amount})


def test_the_amount_of_a_credit_note_includes_its_share_of_the_tax(api):
    rate = builders.tax_rate(api, 20)
    invoice = first_of(api, default_tax_rates=[rate.id])

    note = credit(api, invoice, 600)

    assert (note.subtotal, note.total, note.total_excluding_tax) == (500, 600, 500)
    (tax,) = note.total_taxes
    assert (tax.amount, tax.taxable_amount) == (100, 500)
    assert note.lines.data[0].amount == 500
    assert api.v1.invoices.retrieve(invoice.id).amount_remaining == 600


def test_the_taxes_of_credit_notes_add_up_to_those_of_the_invoice(api):
    rate = builders.tax_rate(api, 19)
    invoice = first_of(api, builders.price(api, 333), default_tax_rates=[rate.id])

    notes = [
        credit(api, invoice, amount) for amount in (1, 131, 132, invoice.total - 264)
    ]

    taxes = [note.total_taxes[0].amount for note in notes]
    assert sum(taxes) == invoice.total_taxes[0].amount == 63


def test_credit_notes_can_be_without_taxes(api, stripe_sandbox):
    stripe_sandbox.settings(credit_note_taxes="none")
    rate = builders.tax_rate(api, 20)

    note = credit(api, first_of(api, default_tax_rates=[rate.id]), 600)

    assert (note.subtotal, note.total, note.total_taxes) == (600, 600, [])
