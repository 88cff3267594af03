"""Amounts of an invoice: each way to give money back counts, and counts once."""

import pytest
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.models import Credit, Reversal
from billing.services.credits.posting import post_credit
from billing.services.invoices.amounts import InvoiceAmounts, invoice_amounts
from billing.tests.support.credits import owe

pytestmark = pytest.mark.django_db


def amounts_of(invoice):
    return invoice_amounts(Stripe().invoices.get(invoice.pk))


def pay(sandbox, invoice):
    sandbox.client().v1.invoices.pay(invoice.pk, {"paid_out_of_band": True})


def note(sandbox, invoice, cents, **how):
    sandbox.client().v1.credit_notes.create(
        {"invoice": invoice.pk, "amount": cents, **how}
    )


def reverse(invoice, cents, kind="refund", state="succeeded", **fields):
    return Reversal.objects.create(
        stripe_id=f"re_{Reversal.objects.count()}",
        kind=kind,
        state=state,
        tenant=invoice.tenant,
        collection=invoice,
        amount_cents=cents,
        currency="usd",
        charge_id="ch_1",
        created_at=timezone.now(),
        **fields,
    )


def test_all_of_an_open_invoice_remains(invoice):
    assert amounts_of(invoice) == InvoiceAmounts(total_cents=500, remaining_cents=500)


def test_paid_invoice_is_kept(sandbox, invoice):
    pay(sandbox, invoice)

    assert amounts_of(invoice) == InvoiceAmounts(
        total_cents=500, paid_cents=500, kept_cents=500
    )


def test_void_invoice_has_no_amounts(sandbox, invoice):
    note(sandbox, invoice, 100)
    sandbox.client().v1.invoices.void_invoice(invoice.pk)

    assert amounts_of(invoice) == InvoiceAmounts()


def test_note_by_staff_on_an_open_invoice_is_given_back_but_was_not_paid(
    sandbox, invoice
):
    note(sandbox, invoice, 100)
    pay(sandbox, invoice)

    amounts = amounts_of(invoice)
    assert (amounts.paid_cents, amounts.given_back_cents) == (400, 100)
    assert (amounts.kept_cents, amounts.creditable_cents) == (400, 400)


@pytest.mark.parametrize("how", ["out_of_band_amount", "credit_amount"])
def test_note_by_staff_on_a_paid_invoice_is_given_back(sandbox, invoice, how):
    pay(sandbox, invoice)
    note(sandbox, invoice, 100, **{how: 100})

    amounts = amounts_of(invoice)
    assert (amounts.paid_cents, amounts.given_back_cents) == (500, 100)
    assert amounts.kept_cents == 400


def test_own_notes_are_not_given_back(sandbox, invoice):
    post_credit(credit_id=owe(invoice.tenant, 200).pk)
    unserved = owe(invoice.tenant, 250, Credit.Reason.UNSERVED, "b", invoice.pk)
    post_credit(credit_id=unserved.pk)

    amounts = amounts_of(invoice)
    assert (amounts.paid_cents, amounts.given_back_cents) == (200, 0)
    assert (amounts.remaining_cents, amounts.kept_cents) == (50, 200)


def test_own_note_that_staff_voided_is_ignored(sandbox, invoice):
    post_credit(credit_id=owe(invoice.tenant, 200).pk)
    api = sandbox.client().v1.credit_notes
    api.void_credit_note(api.list({"invoice": invoice.pk}).data[0].id)

    assert amounts_of(invoice).given_back_cents == 0


@pytest.mark.parametrize(
    ("state", "cents"), [("pending", 200), ("succeeded", 200), ("failed", 0)]
)
def test_refund_is_given_back_unless_it_failed(sandbox, invoice, state, cents):
    pay(sandbox, invoice)
    reverse(invoice, 200, state=state)

    amounts = amounts_of(invoice)
    assert (amounts.given_back_cents, amounts.kept_cents) == (cents, 500 - cents)


@pytest.mark.parametrize(("state", "cents"), [("succeeded", 200), ("failed", 0)])
def test_refund_in_a_note_counts_once(sandbox, invoice, state, cents):
    pay(sandbox, invoice)
    note(sandbox, invoice, 200, out_of_band_amount=200)
    reverse(invoice, 200, state=state, credit_note_id="cn_1")

    assert amounts_of(invoice).given_back_cents == cents


def test_refund_counts_in_full_if_a_note_includes_a_part_of_it(sandbox, invoice):
    pay(sandbox, invoice)
    note(sandbox, invoice, 100, out_of_band_amount=100)
    reverse(invoice, 300, credit_note_id="cn_1")
    reverse(invoice, 50)

    assert amounts_of(invoice).given_back_cents == 350


@pytest.mark.parametrize(
    ("state", "cents"),
    [("needs_response", 500), ("lost", 500), ("won", 0), ("warning_closed", 0)],
)
def test_dispute_takes_back_what_was_not_paid_again(sandbox, invoice, state, cents):
    pay(sandbox, invoice)
    dispute = reverse(invoice, 500, "dispute", state)
    assert amounts_of(invoice).taken_back_cents == cents

    Reversal.objects.filter(pk=dispute.pk).update(repaid_cents=200)
    assert amounts_of(invoice).taken_back_cents == max(0, cents - 200)
