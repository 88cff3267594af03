"""Minimum charges, currency increments, and amounts as text."""

import pytest
import stripe

from sandbox.stripe.money import currencies
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY


def create_invoice(api, amount, currency="usd", payer=None):
    """Return a finalized one-off invoice."""
    payer = payer or builders.customer(api)
    api.v1.invoice_items.create(
        {"customer": payer.id, "amount": amount, "currency": currency}
    )
    draft = api.v1.invoices.create(
        {
            "customer": payer.id,
            "pending_invoice_items_behavior": "include",
        }
    )
    return api.v1.invoices.finalize_invoice(draft.id)


def ledger(api, customer):
    page = api.v1.customers.balance_transactions.list(customer)
    return [
        (transaction.type, transaction.amount, transaction.ending_balance)
        for transaction in reversed(page.data)
    ]


@pytest.mark.parametrize(
    ("currency", "minimum"),
    [
        ("usd", 50),
        ("eur", 50),
        ("gbp", 30),
        ("jpy", 50),
        ("krw", 50),
        ("aed", 200),
        ("czk", 1_500),
        ("dkk", 250),
        ("hkd", 400),
        ("huf", 17_500),
        ("mxn", 1_000),
        ("nok", 300),
        ("thb", 1_000),
    ],
)
def test_amount_below_minimum_charge_is_carried_to_balance(api, currency, minimum):
    small = create_invoice(api, minimum - 1, currency)
    enough = create_invoice(api, minimum, currency)

    assert (small.status, small.amount_due, small.amount_paid) == ("paid", 0, 0)
    assert (small.total, small.ending_balance) == (minimum - 1, minimum - 1)
    assert (small.attempted, small.attempt_count) == (True, 0)
    assert api.v1.customers.retrieve(small.customer).balance == minimum - 1
    assert ledger(api, small.customer) == [
        ("invoice_too_small", minimum - 1, minimum - 1)
    ]
    assert (enough.status, enough.amount_due) == ("open", minimum)
    assert api.v1.customers.retrieve(enough.customer).balance == 0


@pytest.mark.parametrize("currency", ["kwd", "clp", "isk"])
def test_currency_without_minimum_charges_any_amount(api, currency):
    smallest = currencies.charge_increment(currency)

    assert create_invoice(api, smallest, currency).amount_due == smallest


def test_carried_amount_is_added_to_next_invoice(api):
    payer = builders.customer(api)
    small = create_invoice(api, 49, payer=payer)

    following = create_invoice(api, 1_000, payer=payer)

    assert small.status == "paid"
    assert (following.starting_balance, following.amount_due) == (49, 1_049)
    assert following.ending_balance == 0
    assert ledger(api, payer.id)[1:] == [("applied_to_invoice", -49, 0)]


def test_small_amounts_add_up_until_they_can_be_charged(api):
    payer = builders.customer(api)

    invoices = [create_invoice(api, 20, payer=payer) for _ in range(3)]

    assert [invoice.amount_due for invoice in invoices] == [0, 0, 60]
    assert [invoice.ending_balance for invoice in invoices] == [20, 40, 0]
    assert ledger(api, payer.id) == [
        ("invoice_too_small", 20, 20),
        ("applied_to_invoice", -20, 0),
        ("invoice_too_small", 40, 40),
        ("applied_to_invoice", -40, 0),
    ]


def test_remainder_below_minimum_after_credit_is_carried(api):
    payer = builders.customer(api)
    api.v1.customers.balance_transactions.create(
        payer.id, {"amount": -980, "currency": "usd"}
    )

    invoice = create_invoice(api, 1_000, payer=payer)

    assert (invoice.status, invoice.amount_due) == ("paid", 0)
    assert ledger(api, payer.id)[1:] == [
        ("applied_to_invoice", 980, 0),
        ("invoice_too_small", 20, 20),
    ]


def test_draft_below_minimum_has_no_amount_due(api):
    payer = builders.customer(api)
    item = {"customer": payer.id, "amount": 49, "currency": "usd"}
    api.v1.invoice_items.create(item)

    draft = api.v1.invoices.create(
        {"customer": payer.id, "pending_invoice_items_behavior": "include"}
    )

    assert (draft.total, draft.amount_due, draft.ending_balance) == (49, 0, None)


def test_price_below_minimum_needs_no_card_until_it_adds_up(api, stripe_sandbox):
    subscription = api.v1.subscriptions.create(
        {
            "customer": builders.customer(api).id,
            "items": [{"price": builders.price(api, 30).id}],
        }
    )
    first = api.v1.invoices.retrieve(subscription.latest_invoice)

    stripe_sandbox.advance(32 * DAY)

    renewed = api.v1.subscriptions.retrieve(
        subscription.id, {"expand": ["latest_invoice"]}
    )
    assert (subscription.status, first.status) == ("active", "paid")
    assert renewed.latest_invoice.starting_balance == 30
    assert renewed.latest_invoice.amount_due == 60


def test_carried_invoice_emits_paid_events(api):
    create_invoice(api, 49)

    assert builders.event_types(api)[-6:] == [
        "invoice.updated",
        "invoice.finalized",
        "customer.updated",
        "invoice.updated",
        "invoice.paid",
        "invoice.payment_succeeded",
    ]


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        (1_200, "usd", "$12.00"),
        (-5, "usd", "-$0.05"),
        (1_050, "eur", "€10.50"),
        (30, "gbp", "£0.30"),
        (500, "jpy", "¥500"),
        (500, "krw", "500 KRW"),
        (5_000, "mga", "5000 MGA"),
        (1_230, "kwd", "1.230 KWD"),
        (-10, "bhd", "-0.010 BHD"),
        (500, "isk", "5 ISK"),
        (1_000_000, "ugx", "10000 UGX"),
        (17_500, "huf", "175.00 HUF"),
        (1_234, "chf", "12.34 CHF"),
    ],
)
def test_amount_text_has_decimals_of_currency(amount, currency, expected):
    assert currencies.text(amount, currency) == expected


def test_line_description_has_price_in_its_currency(api):
    yen = builders.price(api, 500, currency="jpy")

    subscription = builders.subscription(api, yen, quantity=2)

    line = api.v1.invoices.retrieve(subscription.latest_invoice).lines.data[0]
    assert (line.amount, line.description) == (1_000, "2 × Relay (at ¥500 / month)")


INVALID_AMOUNTS = [("isk", 150), ("ugx", 10_001), ("kwd", 1_005), ("tnd", -1)]


@pytest.mark.parametrize(("currency", "amount"), INVALID_AMOUNTS)
def test_amount_off_currency_increment_is_refused(api, currency, amount):
    payer = builders.customer(api)
    # The trailing space makes the keys distinct.
    requests = {
        "unit_amount": lambda: builders.price(api, abs(amount), currency=currency),
        "amount": lambda: api.v1.invoice_items.create(
            {"customer": payer.id, "amount": amount, "currency": currency}
        ),
        "amount ": lambda: api.v1.customers.balance_transactions.create(
            payer.id, {"amount": amount, "currency": currency}
        ),
    }

    for param, request in requests.items():
        with pytest.raises(stripe.InvalidRequestError, match="multiple of") as caught:
            request()
        assert caught.value.param == param.strip()


def test_credit_note_off_currency_increment_is_refused(api):
    invoice = create_invoice(api, 10_000, "isk")

    with pytest.raises(stripe.InvalidRequestError, match="multiple of 100"):
        api.v1.credit_notes.create({"invoice": invoice.id, "amount": 150})

    assert api.v1.credit_notes.create({"invoice": invoice.id, "amount": 200}).amount


def test_unknown_currency_is_refused(api):
    with pytest.raises(stripe.InvalidRequestError, match="Invalid currency: xxx"):
        builders.price(api, currency="xxx")


def test_currency_tables_contain_only_supported_currencies():
    assert {*currencies.MINIMUM_CHARGE, *currencies.SIGNS} <= currencies.SUPPORTED


def test_remainder_below_minimum_after_credit_note_cannot_be_charged(api):
    payer, _ = builders.paying_customer(api)
    first, second = (builders.open_invoice(api, to=payer) for _ in range(2))
    for invoice in (first, second):
        api.v1.credit_notes.create({"invoice": invoice.id, "amount": 951})
    mark = builders.latest_event(api)

    with pytest.raises(stripe.InvalidRequestError, match=r"at least \$0.50") as paid:
        api.v1.invoices.pay(first.id)

    assert paid.value.code == "amount_too_small"
    assert builders.types_since(api, mark) == []
    out_of_band = api.v1.invoices.pay(first.id, {"paid_out_of_band": True})
    api.v1.credit_notes.create({"invoice": second.id, "amount": 49})
    assert out_of_band.status == api.v1.invoices.retrieve(second.id).status == "paid"


def test_passed_challenge_is_refused_below_minimum(api, act):
    payer, _ = builders.paying_customer(api, "pm_card_authenticationRequired")
    invoice = builders.open_invoice(api, to=payer)
    builders.pay_error(api, invoice.id)
    note = api.v1.credit_notes.create({"invoice": invoice.id, "amount": 951})
    path = f"payment_intents/{builders.intent_of(api, invoice.id).id}/authenticate"

    status, result = act(path, outcome="succeeded")
    api.v1.credit_notes.void_credit_note(note.id)
    retry_status, retry_result = act(path, outcome="succeeded")

    assert (status, "at least" in result["error"]) == (400, True)
    assert (retry_status, retry_result["invoice"]["status"]) == (200, "paid")
