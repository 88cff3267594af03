"""Payment intents: what an invoice asks for, and how cards pay or refuse it."""

import pytest
import stripe

from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_builders import DAY

SUCCESS = [
    "charge.succeeded",
    "payment_intent.succeeded",
    "invoice.updated",
    "invoice.paid",
    "invoice.payment_succeeded",
    "invoice_payment.paid",
]
CHALLENGE = "pm_card_authenticationRequired"


def test_an_open_invoice_has_an_open_default_payment(api):
    invoice = story.open_invoice(api)

    payment = invoice.payments.data[0]
    intent = api.v1.payment_intents.retrieve(payment.payment.payment_intent)
    assert (payment.is_default, payment.status) == (True, "open")
    assert (payment.amount_requested, payment.amount_paid) == (1_000, None)
    assert (intent.amount, intent.status) == (1_000, "requires_payment_method")
    assert intent.customer == invoice.customer
    assert intent.client_secret.startswith(f"{intent.id}_secret_")
    assert story.event_types(api)[-2:] == [
        "invoice.finalized",
        "payment_intent.created",
    ]
    secret = api.v1.invoices.retrieve(invoice.id, {"expand": ["confirmation_secret"]})
    assert secret.confirmation_secret.client_secret == intent.client_secret


def test_a_draft_and_an_invoice_over_nothing_have_no_payment(api):
    draft = story.subscription(api).latest_invoice
    nothing = story.subscription(api, story.price(api, 0))
    free = story.first_invoice(api, nothing).id

    assert api.v1.invoice_payments.list().data == []
    assert [
        api.v1.invoices.retrieve(id, {"expand": ["confirmation_secret"]}).to_dict()[
            "confirmation_secret"
        ]
        for id in (draft, free)
    ] == [None, None]


def test_the_intent_asks_for_what_the_invoice_still_does(api, stripe_sandbox):
    invoice = story.open_invoice(api)

    def reduce(context):
        with context.update("invoice", invoice.id) as draft:
            draft["amount_remaining"] = 400

    stripe_sandbox.app.transact(reduce)

    payment = api.v1.invoice_payments.list({"invoice": invoice.id}).data[0]
    assert payment.amount_requested == 400
    assert story.intent_of(api, invoice.id).amount == 400


def test_a_card_pays_an_invoice_that_was_sent(api):
    payer, card = story.paying_customer(api, "pm_card_visa")
    invoice = story.open_invoice(api, payer)
    mark = story.latest_event(api)

    paid = api.v1.invoices.pay(
        invoice.id, {"payment_method": card.id, "expand": ["payments"]}
    )

    payment, intent = paid.payments.data[0], story.intent_of(api, invoice.id)
    charge = api.v1.charges.retrieve(intent.latest_charge)
    assert (paid.status, paid.amount_paid, paid.attempt_count) == ("paid", 1_000, 1)
    assert (payment.status, payment.amount_paid) == ("paid", 1_000)
    assert payment.status_transitions.paid_at
    assert (intent.status, intent.amount_received) == ("succeeded", 1_000)
    assert (charge.status, charge.amount_captured) == ("succeeded", 1_000)
    assert charge.payment_method == intent.payment_method == card.id
    assert story.types_since(api, mark) == SUCCESS


@pytest.mark.parametrize(
    ("scripted", "code", "decline_code"),
    [
        ("", "card_declined", "generic_decline"),
        ("card_declined", "card_declined", "generic_decline"),
        ("insufficient_funds", "card_declined", "insufficient_funds"),
        ("lost_card", "card_declined", "lost_card"),
        ("expired_card", "expired_card", None),
        (
            "authentication_required",
            "authentication_required",
            "authentication_required",
        ),
    ],
)
def test_a_decline_is_told_kept_and_leaves_the_invoice_open(
    api, scripted, code, decline_code
):
    name = "pm_card_visa" if scripted else "pm_card_chargeCustomerFail"
    metadata = {"sandbox_outcome": scripted} if scripted else {}
    payer, card = story.paying_customer(api, name, metadata=metadata)
    invoice = story.open_invoice(api, payer)
    mark = story.latest_event(api)

    error = story.pay_error(api, invoice.id)

    told, intent = story.error_of(error), story.intent_of(api, invoice.id)
    assert (error.http_status, error.code) == (402, code)
    assert told.get("decline_code") == decline_code
    assert told["charge"] == intent.latest_charge
    assert told["payment_method"]["id"] == card.id
    assert told["payment_intent"]["id"] == intent.id
    assert told["payment_intent"]["status"] == "requires_payment_method"
    assert intent.last_payment_error.code == code
    assert intent.last_payment_error.payment_method.id == card.id
    assert api.v1.charges.retrieve(intent.latest_charge).failure_code == code
    after = api.v1.invoices.retrieve(invoice.id)
    assert (after.status, after.attempt_count, after.attempted) == ("open", 1, True)
    assert after.next_payment_attempt is None
    assert story.types_since(api, mark) == [
        "charge.failed",
        "payment_intent.payment_failed",
        "invoice.updated",
        "invoice.payment_failed",
    ]


def test_a_decline_is_replayed_under_its_key_and_charges_once(api):
    payer, _ = story.paying_customer(api, "pm_card_chargeCustomerFail")
    invoice = story.open_invoice(api, payer)
    key = {"idempotency_key": "pay-1"}

    answers = []
    for _ in range(2):
        with pytest.raises(stripe.CardError) as caught:
            api.v1.invoices.pay(invoice.id, {}, key)
        answers.append(caught.value)

    assert answers[0].json_body == answers[1].json_body
    assert answers[1].headers and answers[1].headers["Idempotent-Replayed"] == "true"
    assert story.event_types(api).count("charge.failed") == 1


def test_an_answer_lost_after_a_decline_is_found_again(api, stripe_sandbox):
    payer, _ = story.paying_customer(api, "pm_card_chargeCustomerFail")
    invoice = story.open_invoice(api, payer)
    stripe_sandbox.fault("reset", path="/pay$", when="after")

    with pytest.raises(stripe.APIConnectionError):
        api.v1.invoices.pay(invoice.id, {}, {"idempotency_key": "k"})
    with pytest.raises(stripe.CardError):
        api.v1.invoices.pay(invoice.id, {}, {"idempotency_key": "k"})

    assert story.event_types(api).count("charge.failed") == 1


def test_confirming_the_intent_with_a_new_card_pays(api):
    invoice = story.open_invoice(api)
    intent = story.intent_of(api, invoice.id)

    with pytest.raises(stripe.CardError) as declined:
        api.v1.payment_intents.confirm(
            intent.id, {"payment_method": "pm_card_visa_chargeDeclined"}
        )
    confirmed = api.v1.payment_intents.confirm(
        intent.id, {"payment_method": "pm_card_visa"}
    )

    assert declined.value.code == "card_declined"
    assert confirmed.status == "succeeded"
    assert confirmed.last_payment_error is None
    assert api.v1.invoices.retrieve(invoice.id).status == "paid"
    card = api.v1.payment_methods.retrieve(confirmed.payment_method)
    assert card.customer is None
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        api.v1.payment_methods.attach(card.id, {"customer": invoice.customer})


def test_what_cannot_be_done_to_an_intent_says_why(api):
    intent = story.intent_of(api, story.open_invoice(api).id)
    foreign = story.card(api, story.customer(api).id)
    intents = api.v1.payment_intents

    with pytest.raises(stripe.InvalidRequestError) as without:
        intents.confirm(intent.id)
    with pytest.raises(stripe.InvalidRequestError) as another:
        intents.confirm(intent.id, {"payment_method": foreign.id})
    with pytest.raises(stripe.InvalidRequestError, match="created by invoices"):
        intents.cancel(intent.id)
    intents.confirm(intent.id, {"payment_method": "pm_card_visa"})
    with pytest.raises(stripe.InvalidRequestError) as again:
        intents.confirm(intent.id, {"payment_method": "pm_card_visa"})
    with pytest.raises(stripe.InvalidRequestError) as late:
        intents.cancel(intent.id)

    assert without.value.code == "payment_intent_unexpected_state"
    assert another.value.code == "resource_missing"
    assert again.value.code == late.value.code == "payment_intent_unexpected_state"


@pytest.mark.parametrize(
    ("end", "intent_status", "reason", "payment_status"),
    [
        ("pay", "canceled", None, "canceled"),
        ("void_invoice", "canceled", "void_invoice", "canceled"),
        ("mark_uncollectible", "requires_payment_method", None, "open"),
    ],
)
def test_how_the_invoice_ends_decides_about_its_payment(
    api, end, intent_status, reason, payment_status
):
    invoice = story.open_invoice(api)

    given = [{"paid_out_of_band": True}] if end == "pay" else []
    getattr(api.v1.invoices, end)(invoice.id, *given)

    intent = story.intent_of(api, invoice.id)
    payment = api.v1.invoice_payments.list({"invoice": invoice.id}).data[0]
    assert (intent.status, intent.cancellation_reason) == (intent_status, reason)
    assert (intent.amount, payment.amount_requested) == (1_000, 1_000)
    assert payment.status == payment_status
    canceled = "payment_intent.canceled" in story.event_types(api)
    assert canceled is (intent_status == "canceled")


def test_an_uncollectible_invoice_can_still_be_paid_by_card(api):
    payer, _ = story.paying_customer(api, "pm_card_visa")
    invoice = story.open_invoice(api, payer)
    api.v1.invoices.mark_uncollectible(invoice.id)

    paid = api.v1.invoices.pay(invoice.id)

    assert (paid.status, story.intent_of(api, invoice.id).status) == (
        "paid",
        "succeeded",
    )


def test_out_of_band_no_card_is_charged(api):
    payer, _ = story.paying_customer(api, "pm_card_visa")
    invoice = story.open_invoice(api, payer)

    paid = api.v1.invoices.pay(
        invoice.id, {"paid_out_of_band": True, "expand": ["amount_paid_off_stripe"]}
    )

    types = story.event_types(api)
    assert paid.amount_paid_off_stripe == 1_000
    assert not {"charge.succeeded", "invoice.payment_succeeded"} & set(types)
    assert "invoice.paid" in types


def test_invoice_payments_are_listed_by_invoice_status_and_payment(api):
    first, second = story.open_invoice(api), story.open_invoice(api)
    api.v1.invoices.void_invoice(second.id)
    intent = story.intent_of(api, first.id).id
    payments = api.v1.invoice_payments

    def invoices(**params):
        return [one.invoice for one in payments.list(params).data]

    assert invoices() == [second.id, first.id]
    assert invoices(invoice=first.id) == [first.id]
    assert invoices(status="canceled") == [second.id]
    assert invoices(payment={"type": "payment_intent", "payment_intent": intent}) == [
        first.id
    ]
    one = payments.list({"invoice": first.id}).data[0]
    assert payments.retrieve(one.id).to_dict() == one.to_dict()


def test_intents_are_listed_by_customer(api):
    first, second = story.open_invoice(api), story.open_invoice(api)

    mine = api.v1.payment_intents.list({"customer": first.customer})

    assert [one.customer for one in mine.data] == [first.customer]
    everyone = api.v1.payment_intents.list()
    assert [one.customer for one in everyone.data] == [second.customer, first.customer]


def test_nothing_is_left_to_charge_with_once_the_customer_is_gone(api, stripe_sandbox):
    payer, _ = story.paying_customer(api, "pm_card_visa")
    invoice = story.open_invoice(api, payer)
    api.v1.customers.delete(payer.id)

    with pytest.raises(stripe.InvalidRequestError, match="default_payment_method"):
        api.v1.invoices.pay(invoice.id)
    stripe_sandbox.advance(10 * DAY)
    assert api.v1.customers.retrieve(payer.id).deleted
