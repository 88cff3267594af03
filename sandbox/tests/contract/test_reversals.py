"""Money given back and taken back: refunds, credit notes, disputes, bank debits."""

from typing import Any

import pytest
import stripe

from sandbox.tests.support.stripe import contract_builders
from sandbox.tests.support.stripe.contract_account import Account


@pytest.fixture
def pay(account: Account, price: stripe.Price) -> Any:
    """Function that pays an invoice of $10.00 and returns it with its intent."""

    def pay(method: str = "pm_card_visa") -> Any:
        payer = account.customer()
        subscription = contract_builders.subscription(account, price, to=payer)
        invoice = contract_builders.first_invoice(account, subscription)
        attached = account.api.v1.payment_methods.attach(method, {"customer": payer.id})
        account.api.v1.invoices.pay(invoice.id, {"payment_method": attached.id})
        params: Any = {"expand": ["payments.data.payment.payment_intent"]}
        paid: Any = account.api.v1.invoices.retrieve(invoice.id, params)
        return paid, paid.payments.data[0].payment.payment_intent

    return pay


def dispute_of(account: Account, intent: stripe.PaymentIntent) -> stripe.Dispute:
    """Wait for the dispute that a test card causes, and return it."""
    account.advance(60)
    params: Any = {"payment_intent": intent.id}
    return account.eventually(
        lambda: next(iter(account.api.v1.disputes.list(params).data), None)
    )


def test_a_refund_is_counted_in_its_charge(account, pay):
    _, intent = pay()

    refund = account.api.v1.refunds.create({"payment_intent": intent.id, "amount": 400})

    charge = account.api.v1.charges.retrieve(intent.latest_charge)
    listed = account.api.v1.refunds.list({"charge": charge.id}).data
    assert (charge.amount_refunded, charge.refunded) == (400, False)
    assert [(item.id, item.amount) for item in listed] == [(refund.id, 400)]


def test_a_refund_leaves_the_invoice_as_it_is(account, pay):
    invoice, intent = pay()

    account.api.v1.refunds.create({"payment_intent": intent.id})

    after = account.api.v1.invoices.retrieve(invoice.id)
    assert (after.status, after.amount_paid, after.amount_remaining) == (
        "paid",
        1_000,
        0,
    )
    assert after.post_payment_credit_notes_amount == 0


def test_a_refund_above_what_is_left_is_refused(account, pay):
    _, intent = pay()
    account.api.v1.refunds.create({"payment_intent": intent.id, "amount": 400})

    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.refunds.create({"payment_intent": intent.id, "amount": 601})


def test_a_refund_emits_refund_created_and_charge_refunded(account, pay):
    _, intent = pay()
    since = account.now() - 5

    refund = account.api.v1.refunds.create({"payment_intent": intent.id})

    for type, id in (
        ("refund.created", refund.id),
        ("charge.refunded", intent.latest_charge),
    ):
        assert account.eventually(
            lambda type=type, id=id: (
                contract_builders.about(
                    id, contract_builders.events(account, type, since=since)
                )
                or None
            )
        )


def test_a_credit_note_can_refund_the_charge(account, pay):
    invoice, intent = pay()

    note = account.api.v1.credit_notes.create(
        {
            "invoice": invoice.id,
            "amount": 400,
            "refund_amount": 400,
            "email_type": "none",
        }
    )

    (refund,) = account.api.v1.refunds.list({"payment_intent": intent.id}).data
    after = account.api.v1.invoices.retrieve(invoice.id)
    assert [(link.refund, link.amount_refunded) for link in note.refunds] == [
        (refund.id, 400)
    ]
    assert after.post_payment_credit_notes_amount == 400
    assert (after.status, after.amount_paid) == ("paid", 1_000)


def test_a_credit_note_can_be_linked_to_a_refund(account, pay):
    invoice, intent = pay()
    refund = account.api.v1.refunds.create({"payment_intent": intent.id, "amount": 400})

    note = account.api.v1.credit_notes.create(
        {"invoice": invoice.id, "amount": 400, "refunds": [{"refund": refund.id}]}
    )

    assert [link.refund for link in note.refunds] == [refund.id]
    assert len(account.api.v1.refunds.list({"payment_intent": intent.id}).data) == 1


def test_a_dispute_takes_the_money_and_leaves_the_invoice_paid(account, pay):
    invoice, intent = pay("pm_card_createDispute")

    dispute = dispute_of(account, intent)

    moved = [item.amount for item in dispute.balance_transactions]
    assert (dispute.status, dispute.amount) == ("needs_response", 1_000)
    assert (moved, dispute.is_charge_refundable) == ([-1_000], False)
    assert dispute.evidence_details.due_by > account.now()
    assert account.api.v1.charges.retrieve(intent.latest_charge).disputed
    assert account.api.v1.invoices.retrieve(invoice.id).status == "paid"


def test_a_disputed_charge_cannot_be_refunded(account, pay):
    _, intent = pay("pm_card_createDispute")
    dispute_of(account, intent)

    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.refunds.create({"payment_intent": intent.id})


def test_an_accepted_dispute_is_lost(account, pay):
    _, intent = pay("pm_card_createDispute")

    closed = account.api.v1.disputes.close(dispute_of(account, intent).id)

    assert closed.status == "lost"


def test_an_inquiry_takes_nothing(account, pay):
    _, intent = pay("pm_card_createDisputeInquiry")

    inquiry = dispute_of(account, intent)

    assert (inquiry.status, inquiry.balance_transactions) == (
        "warning_needs_response",
        [],
    )
    assert inquiry.is_charge_refundable


def test_an_early_fraud_warning_is_listed_by_payment_intent(account, pay):
    _, intent = pay("pm_card_createIssuerFraudRecord")
    account.advance(60)

    warnings = account.api.v1.radar.early_fraud_warnings
    warning = account.eventually(
        lambda: next(iter(warnings.list({"payment_intent": intent.id}).data), None)
    )

    assert warning.actionable
    assert warning.charge == intent.latest_charge


def test_an_invoice_stays_open_while_its_bank_debit_is_processing(account, pay):
    invoice, intent = pay("pm_usBankAccount_processing")

    assert (invoice.status, invoice.amount_paid) == ("open", 0)
    assert (intent.status, invoice.payments.data[0].status) == ("processing", "open")
