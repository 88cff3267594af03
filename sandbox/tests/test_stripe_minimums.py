"""What is too small to charge, and how amounts of each currency are written."""

import pytest
import stripe

from sandbox.stripe import currencies
from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_builders import DAY


def billed(api, amount, currency="usd", payer=None):
    """Return a finalized one-off invoice."""
    payer = payer or story.customer(api)
    api.v1.invoice_items.create(
        {"customer": payer.id, "amount": amount, "currency": currency}
    )
    draft = api.v1.invoices.create(
        {
            "customer": payer.id,
            "currency": currency,
            "pending_invoice_items_behavior": "include",
        }
    )
    return api.v1.invoices.finalize_invoice(draft.id)


def ledger(api, customer):
    listed = api.v1.customers.balance_transactions.list(customer)
    return [(one.type, one.amount, one.ending_balance) for one in reversed(listed.data)]


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
def test_what_is_below_the_minimum_charge_is_carried(api, currency, minimum):
    small = billed(api, minimum - 1, currency)
    enough = billed(api, minimum, currency)

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
def test_a_currency_without_a_minimum_asks_for_any_amount(api, currency):
    smallest = currencies.charge_increment(currency)

    assert billed(api, smallest, currency).amount_due == smallest


def test_what_was_carried_is_asked_for_with_the_next_invoice(api):
    payer = story.customer(api)
    small = billed(api, 49, payer=payer)

    following = billed(api, 1_000, payer=payer)

    assert small.status == "paid"
    assert (following.starting_balance, following.amount_due) == (49, 1_049)
    assert following.ending_balance == 0
    assert ledger(api, payer.id)[1:] == [("applied_to_invoice", -49, 0)]


def test_small_amounts_add_up_until_they_can_be_charged(api):
    payer = story.customer(api)

    invoices = [billed(api, 20, payer=payer) for _ in range(3)]

    assert [one.amount_due for one in invoices] == [0, 0, 60]
    assert [one.ending_balance for one in invoices] == [20, 40, 0]
    assert ledger(api, payer.id) == [
        ("invoice_too_small", 20, 20),
        ("applied_to_invoice", -20, 0),
        ("invoice_too_small", 40, 40),
        ("applied_to_invoice", -40, 0),
    ]


def test_credit_may_leave_too_little_to_charge(api):
    payer = story.customer(api, balance=-980)

    invoice = billed(api, 1_000, payer=payer)

    assert (invoice.status, invoice.amount_due) == ("paid", 0)
    assert ledger(api, payer.id)[1:] == [
        ("applied_to_invoice", 980, 0),
        ("invoice_too_small", 20, 20),
    ]


def test_a_draft_shows_that_nothing_will_be_due(api):
    payer = story.customer(api)
    item = {"customer": payer.id, "amount": 49, "currency": "usd"}
    api.v1.invoice_items.create(item)

    draft = api.v1.invoices.create(
        {"customer": payer.id, "pending_invoice_items_behavior": "include"}
    )

    assert (draft.total, draft.amount_due, draft.ending_balance) == (49, 0, None)


def test_a_tiny_price_needs_no_card_until_it_has_added_up(api, stripe_sandbox):
    subscribed = api.v1.subscriptions.create(
        {
            "customer": story.customer(api).id,
            "items": [{"price": story.price(api, 30).id}],
        }
    )
    first = api.v1.invoices.retrieve(subscribed.latest_invoice)

    stripe_sandbox.advance(32 * DAY)

    renewed = api.v1.subscriptions.retrieve(
        subscribed.id, {"expand": ["latest_invoice"]}
    )
    assert (subscribed.status, first.status) == ("active", "paid")
    assert renewed.latest_invoice.starting_balance == 30
    assert renewed.latest_invoice.amount_due == 60


def test_the_events_of_an_invoice_that_is_carried(api):
    billed(api, 49)

    assert story.event_types(api)[-6:] == [
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
def test_amounts_are_written_with_the_currencys_decimals(amount, currency, expected):
    assert currencies.text(amount, currency) == expected


def test_a_line_names_the_price_in_its_currency(api):
    yen = story.price(api, 500, currency="jpy")

    subscribed = story.subscription(api, yen, quantity=2)

    line = api.v1.invoices.retrieve(subscribed.latest_invoice).lines.data[0]
    assert (line.amount, line.description) == (1_000, "2 × Relay (at ¥500 / month)")


ODD = [("isk", 150), ("ugx", 10_001), ("kwd", 1_005), ("tnd", -1)]


@pytest.mark.parametrize(("currency", "amount"), ODD)
def test_amounts_that_a_currency_has_no_coins_for_are_refused(api, currency, amount):
    payer = story.customer(api)
    attempts = {
        "unit_amount": lambda: story.price(api, abs(amount), currency=currency),
        "amount": lambda: api.v1.invoice_items.create(
            {"customer": payer.id, "amount": amount, "currency": currency}
        ),
        "amount ": lambda: api.v1.customers.balance_transactions.create(
            payer.id, {"amount": amount, "currency": currency}
        ),
    }

    for param, attempt in attempts.items():
        with pytest.raises(stripe.InvalidRequestError, match="multiple of") as caught:
            attempt()
        assert caught.value.param == param.strip()


def test_a_credit_note_is_held_to_the_same_coins(api):
    invoice = billed(api, 10_000, "isk")

    with pytest.raises(stripe.InvalidRequestError, match="multiple of 100"):
        api.v1.credit_notes.create({"invoice": invoice.id, "amount": 150})

    assert api.v1.credit_notes.create({"invoice": invoice.id, "amount": 200}).amount


def test_an_unknown_currency_is_refused(api):
    with pytest.raises(stripe.InvalidRequestError, match="Invalid currency: xxx"):
        story.price(api, currency="xxx")


def test_the_tables_name_supported_currencies_only():
    assert {*currencies.MINIMUM_CHARGE, *currencies.SIGNS} <= currencies.SUPPORTED


def test_what_credit_notes_leave_may_be_too_little_for_a_card(api):
    payer, _ = story.paying_customer(api)
    first, second = (story.open_invoice(api, to=payer) for _ in range(2))
    for invoice in (first, second):
        api.v1.credit_notes.create({"invoice": invoice.id, "amount": 951})
    mark = story.latest_event(api)

    with pytest.raises(stripe.InvalidRequestError, match=r"at least \$0.50") as paid:
        api.v1.invoices.pay(first.id)
    with pytest.raises(stripe.InvalidRequestError) as confirmed:
        api.v1.payment_intents.confirm(
            story.intent_of(api, first.id).id, {"payment_method": "pm_card_visa"}
        )

    assert paid.value.code == confirmed.value.code == "amount_too_small"
    assert story.types_since(api, mark) == []
    by_hand = api.v1.invoices.pay(first.id, {"paid_out_of_band": True})
    api.v1.credit_notes.create({"invoice": second.id, "amount": 49})
    assert by_hand.status == api.v1.invoices.retrieve(second.id).status == "paid"


def test_a_passed_challenge_charges_no_card_too_little(api, act):
    payer, _ = story.paying_customer(api, "pm_card_authenticationRequired")
    invoice = story.open_invoice(api, to=payer)
    story.pay_error(api, invoice.id)
    note = api.v1.credit_notes.create({"invoice": invoice.id, "amount": 951})
    path = f"payment_intents/{story.intent_of(api, invoice.id).id}/authenticate"

    status, answer = act(path, outcome="succeeded")
    api.v1.credit_notes.void_credit_note(note.id)
    again = act(path, outcome="succeeded")

    assert (status, "at least" in answer["error"]) == (400, True)
    assert (again[0], again[1]["invoice"]["status"]) == (200, "paid")


def test_a_retry_of_too_little_fails_and_charges_nothing(api, stripe_sandbox):
    payer, _ = story.paying_customer(api)
    subscribed = story.automatic(api, to=payer)
    start = subscribed["items"].data[0].current_period_end
    stripe_sandbox.advance(start - stripe_sandbox.now())
    story.script(api, payer, "card_declined,succeed")
    stripe_sandbox.advance(story.HOUR)
    renewal = story.newest_invoice(api, subscribed)
    api.v1.credit_notes.create({"invoice": renewal.id, "amount": 951})
    mark = story.latest_event(api)

    stripe_sandbox.advance(3 * DAY)

    after = api.v1.invoices.retrieve(renewal.id)
    assert (after.status, after.attempt_count) == ("open", 2)
    told = story.types_since(api, mark)
    assert told == ["invoice.updated", "invoice.payment_failed"]
