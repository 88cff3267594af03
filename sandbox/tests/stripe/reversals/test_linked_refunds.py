"""Credit notes that refund, are linked to refunds, or are sent by e-mail.

Source: docstrings of stripe-python, CreditNote.create (`refund_amount`, `refunds`,
`email_type`). Whether an uncollectible invoice can be credited: a setting.
"""

from typing import Any

import pytest
import stripe

from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.control import control


@pytest.fixture
def charge(api):
    return builders.paid_charge(api)


@pytest.fixture
def invoice(api, charge):
    return builders.invoice_of(api, charge)


def credit(api, invoice, amount, **params: Any):
    return api.v1.credit_notes.create(
        {"invoice": invoice.id, "amount": amount, **params}
    )


def test_note_refunds_a_part_of_the_charge(api, charge, invoice):
    note = credit(api, invoice, 400, refund_amount=300, out_of_band_amount=100)

    refund = api.v1.refunds.list({"charge": charge.id}).data[0]
    after = api.v1.invoices.retrieve(invoice.id)
    (link,) = note.refunds
    assert (link.refund, link.amount_refunded, link.type) == (refund.id, 300, "refund")
    assert (note.type, note.post_payment_amount) == ("post_payment", 400)
    assert after.post_payment_credit_notes_amount == 400
    assert (after.status, after.amount_paid) == ("paid", 1_000)


def test_note_is_linked_to_a_refund_made_before(api, charge, invoice):
    refund = api.v1.refunds.create({"charge": charge.id, "amount": 300})

    note = credit(api, invoice, 300, refunds=[{"refund": refund.id}])

    assert note.refunds[0].refund == refund.id
    assert len(api.v1.refunds.list({"charge": charge.id}).data) == 1


def test_refund_is_linked_to_notes_up_to_its_amount(api, charge, invoice):
    refund = api.v1.refunds.create({"charge": charge.id, "amount": 300})
    link = {"refund": refund.id, "amount_refunded": 200}
    credit(api, invoice, 200, refunds=[link])

    with pytest.raises(stripe.InvalidRequestError) as error:
        credit(api, invoice, 200, refunds=[link])
    with pytest.raises(stripe.InvalidRequestError):
        credit(api, invoice, 200, refunds=[{**link, "amount_refunded": 100}] * 2)

    assert error.value.param == "refunds[0][refund]"
    assert credit(api, invoice, 100, refunds=[{**link, "amount_refunded": 100}])


def test_refund_of_another_invoice_is_not_linked(api, invoice):
    refund = api.v1.refunds.create({"charge": builders.paid_charge(api).id})

    with pytest.raises(stripe.InvalidRequestError):
        credit(api, invoice, 1_000, refunds=[{"refund": refund.id}])


def test_refused_note_refunds_nothing(api, charge, invoice):
    with pytest.raises(stripe.InvalidRequestError):
        credit(api, invoice, 400, refund_amount=300)

    assert api.v1.refunds.list({"charge": charge.id}).data == []


def test_note_is_sent_by_email_unless_email_type_is_none(api, stripe_sandbox, invoice):
    sent = credit(api, invoice, 100, credit_amount=100)
    credit(api, invoice, 100, credit_amount=100, email_type="none")

    _, emails = control(stripe_sandbox, "GET", "emails")

    assert emails["data"] == [
        {"to": "ann@example.com", "type": "credit_note", "credit_note": sent.id}
    ]


def test_uncollectible_invoice_is_credited_if_the_account_allows_it(
    api, stripe_sandbox
):
    invoice = builders.open_invoice(api)
    api.v1.invoices.mark_uncollectible(invoice.id)
    stripe_sandbox.settings(credit_uncollectible="allowed")

    credit(api, invoice, 400)
    reduced = api.v1.invoices.retrieve(invoice.id)
    credit(api, invoice, 600)

    after = api.v1.invoices.retrieve(invoice.id)
    assert (reduced.status, reduced.amount_remaining) == ("uncollectible", 600)
    assert (after.status, after.amount_remaining, after.amount_paid) == ("paid", 0, 0)
