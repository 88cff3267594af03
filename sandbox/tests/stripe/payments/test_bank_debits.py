"""Bank debits: invoices whose payment is processed for days.

Sources: docs.stripe.com/payments/ach-direct-debit and /sepa-debit (test accounts and
days); docs.stripe.com/payments/paymentintents/lifecycle (`processing`).
"""

import pytest
import stripe

from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY
from sandbox.tests.support.stripe.control import control


def start_debit(api, account="pm_usBankAccount_success"):
    """Return an invoice over $10 and the intent of the bank debit that is to pay it."""
    payer = builders.customer(api)
    method = api.v1.payment_methods.attach(account, {"customer": payer.id})
    invoice = builders.open_invoice(api, payer)
    api.v1.invoices.pay(invoice.id, {"payment_method": method.id})
    return api.v1.invoices.retrieve(invoice.id), builders.intent_of(api, invoice.id)


def settle(sandbox, intent, **fields):
    path = f"payment_intents/{intent.id}/settle"
    return control(sandbox, "POST", path, fields)[0]


def payments_of(api, invoice):
    return [
        payment.status
        for payment in api.v1.invoice_payments.list({"invoice": invoice.id}).data
    ]


def test_invoice_stays_open_while_its_debit_is_processing(api):
    invoice, intent = start_debit(api)

    charge = api.v1.charges.retrieve(intent.latest_charge)
    assert (invoice.status, invoice.attempted, invoice.amount_paid) == ("open", True, 0)
    assert (intent.status, payments_of(api, invoice)) == ("processing", ["open"])
    assert (charge.status, charge.paid, charge.amount_captured) == ("pending", False, 0)
    assert charge.payment_method_details.us_bank_account.last4 == "6789"
    assert {"charge.pending", "payment_intent.processing"} <= set(
        builders.event_types(api)
    )
    assert "invoice.paid" not in builders.event_types(api)


def test_debit_pays_the_invoice_days_later(api, stripe_sandbox):
    invoice, _ = start_debit(api)
    before = builders.latest_event(api)

    stripe_sandbox.advance(4 * DAY)

    paid = api.v1.invoices.retrieve(invoice.id)
    assert (paid.status, paid.amount_paid) == ("paid", 1_000)
    assert builders.intent_of(api, invoice.id).status == "succeeded"
    assert payments_of(api, invoice) == ["paid"]
    assert [
        type for type in builders.types_since(api, before) if "updated" not in type
    ] == [
        "charge.succeeded",
        "payment_intent.succeeded",
        "invoice.paid",
        "invoice.payment_succeeded",
        "invoice_payment.paid",
    ]


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        ("pm_usBankAccount_insufficientFunds", "insufficient_funds"),
        ("pm_usBankAccount_accountClosed", "account_closed"),
        ("pm_usBankAccount_noAccount", "no_account"),
        ("pm_usBankAccount_debitNotAuthorized", "debit_not_authorized"),
    ],
)
def test_returned_debit_leaves_the_invoice_open(api, stripe_sandbox, account, reason):
    invoice, intent = start_debit(api, account)
    before = builders.latest_event(api)

    stripe_sandbox.advance(4 * DAY)

    failed, charge = (
        builders.intent_of(api, invoice.id),
        api.v1.charges.retrieve(intent.latest_charge),
    )
    types = builders.types_since(api, before)
    assert api.v1.invoices.retrieve(invoice.id).status == "open"
    assert (failed.status, charge.status) == ("requires_payment_method", "failed")
    assert failed.last_payment_error.payment_method_type == "us_bank_account"
    assert charge.failure_code == reason
    assert [type for type in types if "failed" in type] == [
        "charge.failed",
        "payment_intent.payment_failed",
        "invoice.payment_failed",
    ]


def test_invoice_can_be_paid_otherwise_after_a_returned_debit(api, stripe_sandbox):
    invoice, intent = start_debit(api, "pm_usBankAccount_processing")
    card = builders.card(api, invoice.customer)
    stripe_sandbox.advance(60 * DAY)

    assert settle(stripe_sandbox, intent, outcome="failed") == 200

    paid = api.v1.invoices.pay(invoice.id, {"payment_method": card.id})
    assert paid.status == "paid"
    assert settle(stripe_sandbox, intent, outcome="succeeded") == 400


def test_nothing_else_pays_or_changes_the_invoice_meanwhile(api, stripe_sandbox):
    invoice, intent = start_debit(api)
    card = builders.card(api, invoice.customer)
    attempts = (
        lambda: api.v1.invoices.pay(invoice.id, {"payment_method": card.id}),
        lambda: api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True}),
        lambda: api.v1.invoices.void_invoice(invoice.id),
        lambda: api.v1.credit_notes.create({"invoice": invoice.id, "amount": 1}),
        lambda: api.v1.refunds.create({"payment_intent": intent.id}),
    )

    for attempt in attempts:
        with pytest.raises(stripe.InvalidRequestError):
            attempt()

    assert settle(stripe_sandbox, intent, outcome="succeeded") == 200
    assert api.v1.invoices.retrieve(invoice.id).amount_paid == 1_000


def test_debit_pays_an_invoice_that_was_written_off_meanwhile(api, stripe_sandbox):
    invoice, intent = start_debit(api)
    api.v1.invoices.mark_uncollectible(invoice.id)

    settle(stripe_sandbox, intent, outcome="succeeded")

    assert api.v1.invoices.retrieve(invoice.id).status == "paid"


def test_days_of_a_debit_are_a_setting(api, stripe_sandbox):
    stripe_sandbox.settings(bank_debit_days=10)
    invoice, _ = start_debit(api)

    stripe_sandbox.advance(9 * DAY)
    after_nine = api.v1.invoices.retrieve(invoice.id).status
    stripe_sandbox.advance(DAY)

    assert after_nine == "open"
    assert api.v1.invoices.retrieve(invoice.id).status == "paid"


def test_automatic_subscription_is_active_until_its_debit_fails(api, stripe_sandbox):
    payer, _ = builders.paying_customer(api, "pm_usBankAccount_insufficientFunds")

    subscription = builders.automatic(api, to=payer)
    stripe_sandbox.advance(4 * DAY)

    assert subscription.status == "active"
    assert builders.status_of(api, subscription) == "past_due"


def test_refund_of_a_debit_is_pending_for_days(api, stripe_sandbox):
    _, intent = start_debit(api)
    settle(stripe_sandbox, intent, outcome="succeeded")

    refund = api.v1.refunds.create({"payment_intent": intent.id})
    stripe_sandbox.advance(4 * DAY)

    assert (refund.status, refund.id[:4]) == ("pending", "pyr_")
    assert api.v1.refunds.retrieve(refund.id).status == "succeeded"


def test_disputed_debit_is_lost_at_once(api, stripe_sandbox):
    _, intent = start_debit(api, "pm_usBankAccount_dispute")

    stripe_sandbox.advance(4 * DAY + 60)

    dispute = api.v1.disputes.list({"payment_intent": intent.id}).data[0]
    assert (dispute.status, dispute.reason) == ("lost", "debit_not_authorized")
    assert dispute.evidence_details.due_by == 0
    assert builders.event_types(api)[-3:] == [
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.closed",
    ]


def test_sepa_debit_pays_in_euros_only(api, stripe_sandbox):
    payer = builders.customer(api)
    method = api.v1.payment_methods.attach("pm_success_de", {"customer": payer.id})
    dollars = builders.open_invoice(api, payer)
    other = builders.customer(api)
    euros = builders.first_invoice(
        api,
        builders.subscription(api, builders.price(api, currency="eur"), to=other),
    )
    same = api.v1.payment_methods.attach("pm_success_de", {"customer": other.id})

    with pytest.raises(stripe.InvalidRequestError) as error:
        api.v1.invoices.pay(dollars.id, {"payment_method": method.id})
    api.v1.invoices.pay(euros.id, {"payment_method": same.id})
    stripe_sandbox.advance(4 * DAY)

    assert error.value.code == "payment_method_currency_mismatch"
    assert api.v1.invoices.retrieve(euros.id).status == "paid"


def test_bank_account_is_listed_by_its_type(api):
    payer, method = builders.paying_customer(api, "pm_usBankAccount_success")

    listed = {
        type: [item.id for item in api.v1.payment_methods.list(params).data]
        for type in ("card", "us_bank_account")
        for params in ({"customer": payer.id, "type": type},)
    }

    assert listed == {"card": [], "us_bank_account": [method.id]}
    assert method.to_dict()["us_bank_account"]["bank_name"] == "STRIPE TEST BANK"
