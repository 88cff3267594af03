"""Payment intents and invoice payments: amounts, charges, declines, endings."""

import pytest
import stripe

from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY

SUCCESS = [
    "charge.succeeded",
    "payment_intent.succeeded",
    "invoice.updated",
    "invoice.paid",
    "invoice.payment_succeeded",
    "invoice_payment.paid",
]
CHALLENGE = "pm_card_authenticationRequired"


def test_open_invoice_has_open_default_payment(api):
    invoice = builders.open_invoice(api)

    payment = invoice.payments.data[0]
    intent = api.v1.payment_intents.retrieve(payment.payment.payment_intent)
    assert (payment.is_default, payment.status) == (True, "open")
    assert (payment.amount_requested, payment.amount_paid) == (1_000, None)
    assert (intent.amount, intent.status) == (1_000, "requires_payment_method")
    assert intent.customer == invoice.customer
    assert intent.client_secret.startswith(f"{intent.id}_secret_")
    assert builders.event_types(api)[-2:] == [
        "invoice.finalized",
        "payment_intent.created",
    ]


def test_draft_and_free_invoice_have_no_payment(api):
    builders.subscription(api)
    builders.first_invoice(api, builders.subscription(api, builders.price(api, 0)))

    assert api.v1.invoice_payments.list().data == []


def test_intent_amount_follows_remaining_amount_of_invoice(api, stripe_sandbox):
    invoice = builders.open_invoice(api)

    def reduce(context):
        with context.update("invoice", invoice.id) as draft:
            draft["amount_remaining"] = 400

    stripe_sandbox.app.transact(reduce)

    payment = api.v1.invoice_payments.list({"invoice": invoice.id}).data[0]
    assert payment.amount_requested == 400
    assert builders.intent_of(api, invoice.id).amount == 400


def test_card_pays_sent_invoice(api):
    payer, card = builders.paying_customer(api, "pm_card_visa")
    invoice = builders.open_invoice(api, payer)
    mark = builders.latest_event(api)

    paid = api.v1.invoices.pay(
        invoice.id, {"payment_method": card.id, "expand": ["payments"]}
    )

    payment, intent = paid.payments.data[0], builders.intent_of(api, invoice.id)
    charge = api.v1.charges.retrieve(intent.latest_charge)
    assert (paid.status, paid.amount_paid, paid.attempt_count) == ("paid", 1_000, 1)
    assert (payment.status, payment.amount_paid) == ("paid", 1_000)
    assert payment.status_transitions.paid_at
    assert (intent.status, intent.amount_received) == ("succeeded", 1_000)
    assert (charge.status, charge.amount_captured) == ("succeeded", 1_000)
    assert charge.payment_method == intent.payment_method == card.id
    assert builders.types_since(api, mark) == SUCCESS


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
def test_decline_is_reported_stored_and_leaves_invoice_open(
    api, scripted, code, decline_code
):
    name = "pm_card_visa" if scripted else "pm_card_chargeCustomerFail"
    metadata = {"sandbox_outcome": scripted} if scripted else {}
    payer, card = builders.paying_customer(api, name, metadata=metadata)
    invoice = builders.open_invoice(api, payer)
    mark = builders.latest_event(api)

    error = builders.pay_error(api, invoice.id)

    body, intent = builders.error_of(error), builders.intent_of(api, invoice.id)
    assert (error.http_status, error.code) == (402, code)
    assert body.get("decline_code") == decline_code
    assert body["charge"] == intent.latest_charge
    assert body["payment_method"]["id"] == card.id
    assert body["payment_intent"]["id"] == intent.id
    assert body["payment_intent"]["status"] == "requires_payment_method"
    assert intent.last_payment_error.code == code
    assert intent.last_payment_error.payment_method.id == card.id
    assert api.v1.charges.retrieve(intent.latest_charge).failure_code == code
    after = api.v1.invoices.retrieve(invoice.id)
    assert (after.status, after.attempt_count, after.attempted) == ("open", 1, True)
    assert after.next_payment_attempt is None
    assert builders.types_since(api, mark) == [
        "charge.failed",
        "payment_intent.payment_failed",
        "invoice.updated",
        "invoice.payment_failed",
    ]


def test_decline_is_replayed_for_same_key_without_second_charge(api):
    payer, _ = builders.paying_customer(api, "pm_card_chargeCustomerFail")
    invoice = builders.open_invoice(api, payer)
    key = {"idempotency_key": "pay-1"}

    errors = []
    for _ in range(2):
        with pytest.raises(stripe.CardError) as caught:
            api.v1.invoices.pay(invoice.id, {}, key)
        errors.append(caught.value)

    assert errors[0].json_body == errors[1].json_body
    assert errors[1].headers and errors[1].headers["Idempotent-Replayed"] == "true"
    assert builders.event_types(api).count("charge.failed") == 1


def test_intent_is_only_read_over_the_api(api):
    intent = builders.intent_of(api, builders.open_invoice(api).id)

    for action in (api.v1.payment_intents.confirm, api.v1.payment_intents.cancel):
        with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request"):
            action(intent.id)


def test_decline_with_lost_response_is_replayed_on_retry(api, stripe_sandbox):
    payer, _ = builders.paying_customer(api, "pm_card_chargeCustomerFail")
    invoice = builders.open_invoice(api, payer)
    stripe_sandbox.fault("reset", path="/pay$", when="after")

    with pytest.raises(stripe.APIConnectionError):
        api.v1.invoices.pay(invoice.id, {}, {"idempotency_key": "k"})
    with pytest.raises(stripe.CardError):
        api.v1.invoices.pay(invoice.id, {}, {"idempotency_key": "k"})

    assert builders.event_types(api).count("charge.failed") == 1


@pytest.mark.parametrize(
    ("end", "intent_status", "reason", "payment_status"),
    [
        ("pay", "canceled", None, "canceled"),
        ("void_invoice", "canceled", "void_invoice", "canceled"),
        ("mark_uncollectible", "requires_payment_method", None, "open"),
    ],
)
def test_end_of_invoice_decides_status_of_its_payment(
    api, end, intent_status, reason, payment_status
):
    invoice = builders.open_invoice(api)

    params = [{"paid_out_of_band": True}] if end == "pay" else []
    getattr(api.v1.invoices, end)(invoice.id, *params)

    intent = builders.intent_of(api, invoice.id)
    payment = api.v1.invoice_payments.list({"invoice": invoice.id}).data[0]
    assert (intent.status, intent.cancellation_reason) == (intent_status, reason)
    assert (intent.amount, payment.amount_requested) == (1_000, 1_000)
    assert payment.status == payment_status
    canceled = "payment_intent.canceled" in builders.event_types(api)
    assert canceled is (intent_status == "canceled")


def test_uncollectible_invoice_can_be_paid_by_card(api):
    payer, _ = builders.paying_customer(api, "pm_card_visa")
    invoice = builders.open_invoice(api, payer)
    api.v1.invoices.mark_uncollectible(invoice.id)

    paid = api.v1.invoices.pay(invoice.id)

    assert (paid.status, builders.intent_of(api, invoice.id).status) == (
        "paid",
        "succeeded",
    )


def test_out_of_band_payment_charges_no_card(api):
    payer, _ = builders.paying_customer(api, "pm_card_visa")
    invoice = builders.open_invoice(api, payer)

    paid = api.v1.invoices.pay(
        invoice.id, {"paid_out_of_band": True, "expand": ["amount_paid_off_stripe"]}
    )

    types = builders.event_types(api)
    assert paid.amount_paid_off_stripe == 1_000
    assert not {"charge.succeeded", "invoice.payment_succeeded"} & set(types)
    assert "invoice.paid" in types


def test_invoice_payments_are_listed_by_invoice(api):
    first, second = builders.open_invoice(api), builders.open_invoice(api)
    payments = api.v1.invoice_payments

    def invoices(**params):
        return [payment.invoice for payment in payments.list(params).data]

    assert invoices() == [second.id, first.id]
    assert invoices(invoice=first.id) == [first.id]


def test_intents_are_listed_by_customer(api):
    first, second = builders.open_invoice(api), builders.open_invoice(api)

    by_customer = api.v1.payment_intents.list({"customer": first.customer})

    assert [intent.customer for intent in by_customer.data] == [first.customer]
    everything = api.v1.payment_intents.list()
    assert [intent.customer for intent in everything.data] == [
        second.customer,
        first.customer,
    ]


def test_deleted_customer_has_no_card_to_charge(api, stripe_sandbox):
    payer, _ = builders.paying_customer(api, "pm_card_visa")
    invoice = builders.open_invoice(api, payer)
    api.v1.customers.delete(payer.id)

    with pytest.raises(stripe.InvalidRequestError, match="default_payment_method"):
        api.v1.invoices.pay(invoice.id)
    stripe_sandbox.advance(10 * DAY)
    assert api.v1.customers.retrieve(payer.id).deleted
