"""Credit notes: amounts, effects on invoice and balance, refusals."""

import pytest
import stripe

from sandbox.tests.support.stripe import builders


def create_invoice(api, *amounts, finalize=True, **params):
    """Return a one-off invoice with a line per amount."""
    payer = builders.customer(api)
    for amount in reversed(amounts or (1_000,)):
        api.v1.invoice_items.create(
            {"customer": payer.id, "amount": amount, "currency": "usd"}
        )
    invoice = api.v1.invoices.create(
        {
            "customer": payer.id,
            "pending_invoice_items_behavior": "include",
            "collection_method": "send_invoice",
            "days_until_due": 7,
            **params,
        }
    )
    return api.v1.invoices.finalize_invoice(invoice.id) if finalize else invoice


def pay(api, invoice):
    return api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})


def credit(api, invoice, amount=None, **params):
    body = {"invoice": invoice.id, **params}
    if amount is not None:
        body["amount"] = amount
    return api.v1.credit_notes.create(body)


def credit_error(api, invoice, amount=None, **params):
    """Return the error for a refused note; check that nothing changed."""
    before = api.v1.invoices.retrieve(invoice.id).to_dict()
    with pytest.raises(stripe.InvalidRequestError) as caught:
        credit(api, invoice, amount, **params)
    assert api.v1.invoices.retrieve(invoice.id).to_dict() == before
    assert api.v1.credit_notes.list().data == []
    return caught.value


def amounts_of(api, invoice):
    invoice = api.v1.invoices.retrieve(invoice.id)
    return (
        invoice.status,
        invoice.amount_due,
        invoice.amount_remaining,
        invoice.pre_payment_credit_notes_amount,
        invoice.post_payment_credit_notes_amount,
    )


def test_credit_note_on_open_invoice_reduces_amount_due(api):
    invoice = create_invoice(api)

    note = credit(api, invoice, 300, reason="order_change", memo="Sorry")

    assert (note.type, note.status) == ("pre_payment", "issued")
    assert (note.pre_payment_amount, note.post_payment_amount) == (300, 0)
    assert note.number == f"{invoice.number}-CN-01"
    assert (note.reason, note.memo) == ("order_change", "Sorry")
    assert [line.amount for line in note.lines.data] == [300]
    assert note.effective_at == note.created
    assert note.customer_balance_transaction is None
    assert amounts_of(api, invoice) == ("open", 700, 700, 300, 0)


def test_credit_notes_over_full_amount_mark_invoice_paid_without_payment(api):
    invoice = create_invoice(api)
    before = len(builders.event_types(api))

    credit(api, invoice, 400)
    second = credit(api, invoice, 600)

    assert second.number.endswith("-CN-02")
    assert amounts_of(api, invoice) == ("paid", 0, 0, 1_000, 0)
    paid = api.v1.invoices.retrieve(invoice.id, {"expand": ["amount_paid_off_stripe"]})
    assert (paid.amount_paid, paid.amount_paid_off_stripe) == (0, 0)
    assert paid.status_transitions.paid_at
    assert builders.event_types(api)[before:] == [
        "credit_note.created",
        "invoice.updated",
        "credit_note.created",
        "invoice.updated",
        "invoice.updated",
        "invoice.paid",
        "payment_intent.canceled",
    ]


def test_credit_note_on_paid_invoice_credits_balance(api):
    invoice = pay(api, create_invoice(api))

    note = credit(api, invoice, 300, credit_amount=200, out_of_band_amount=100)

    assert (note.type, note.pre_payment_amount) == ("post_payment", 0)
    assert (note.post_payment_amount, note.out_of_band_amount) == (300, 100)
    assert amounts_of(api, invoice) == ("paid", 1_000, 0, 0, 300)
    assert api.v1.customers.retrieve(invoice.customer).balance == -200
    transaction = api.v1.customers.balance_transactions.list(invoice.customer).data[0]
    assert transaction.id == note.customer_balance_transaction
    assert (transaction.type, transaction.amount) == ("credit_note", -200)
    assert (transaction.credit_note, transaction.invoice) == (note.id, invoice.id)


def test_credit_note_above_amount_due_credits_the_excess(api):
    payer = builders.customer(api)
    api.v1.customers.balance_transactions.create(
        payer.id, {"amount": -400, "currency": "usd"}
    )
    subscription = builders.subscription(api, to=payer)
    invoice = builders.first_invoice(api, subscription)

    note = credit(api, invoice, 900, credit_amount=300)

    assert (note.type, note.pre_payment_amount) == ("mixed", 600)
    assert note.post_payment_amount == 300
    assert amounts_of(api, invoice) == ("paid", 0, 0, 600, 300)
    assert api.v1.customers.retrieve(payer.id).balance == -300


def test_credit_note_over_first_invoice_activates_subscription(api):
    subscription = api.v1.subscriptions.create(
        {
            "customer": builders.customer(api).id,
            "items": [{"price": builders.price(api).id}],
        }
    )
    invoice = api.v1.invoices.retrieve(subscription.latest_invoice)

    credit(api, invoice, 1_000)

    assert subscription.status == "incomplete"
    assert api.v1.subscriptions.retrieve(subscription.id).status == "active"


@pytest.mark.parametrize(
    ("paid", "amount", "params", "message"),
    [
        (False, 1_001, {}, "left to credit on this invoice: 1000"),
        (True, 1_001, {"credit_amount": 1_001}, "left to credit"),
        (True, 300, {}, "must equal the post-payment amount"),
        (True, 300, {"credit_amount": 299}, "must equal the post-payment amount"),
        (True, 300, {"out_of_band_amount": 301}, "must equal"),
        (False, 300, {"credit_amount": 300}, "300 is not 0"),
        (False, None, {}, "Missing required param: amount"),
        (False, 300, {"lines": [{"amount": 300}]}, "unknown parameter"),
        (False, 0, {}, "greater than or equal to 1"),
        (True, 300, {"refund_amount": 200}, "must equal"),
        (True, 300, {"refund_amount": 300}, "no charge that could be refunded"),
        (True, 300, {"refunds": [{"refund": "re_x"}]}, "No such refund"),
        (False, 300, {"shipping_cost": {"shipping_rate": "x"}}, "unknown parameter"),
        (False, 300, {"reason": "mood"}, "must be one of"),
    ],
)
def test_credit_note_with_inconsistent_amounts_is_refused(
    api, paid, amount, params, message
):
    invoice = create_invoice(api)
    if paid:
        invoice = pay(api, invoice)

    assert message in credit_error(api, invoice, amount, **params).user_message


def test_only_open_or_paid_invoice_can_be_credited(api):
    draft, void, uncollectible = (
        create_invoice(api, finalize=False),
        create_invoice(api),
        create_invoice(api),
    )
    api.v1.invoices.void_invoice(void.id)
    api.v1.invoices.mark_uncollectible(uncollectible.id)

    for invoice, status in (
        (draft, "draft"),
        (void, "void"),
        (uncollectible, "uncollectible"),
    ):
        error = credit_error(api, invoice, 100)
        assert (error.param, status in error.user_message) == ("invoice", True)


@pytest.mark.parametrize("amounts", [(0,), (-500,)])
def test_invoice_without_positive_total_cannot_be_credited(api, amounts):
    invoice = create_invoice(api, *amounts)

    assert (
        "left to credit" in credit_error(api, invoice, 1, credit_amount=1).user_message
    )


def test_credit_note_for_unknown_invoice_names_it_in_error(api):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.v1.credit_notes.create({"invoice": "in_x", "amount": 1})

    assert (caught.value.code, caught.value.param) == ("resource_missing", "invoice")


def test_voiding_credit_note_restores_amount_due(api):
    invoice = create_invoice(api)
    note = credit(api, invoice, 300)

    voided = api.v1.credit_notes.void_credit_note(note.id)

    assert (voided.status, voided.voided_at is not None) == ("void", True)
    assert amounts_of(api, invoice) == ("open", 1_000, 1_000, 0, 0)
    assert builders.event_types(api)[-2:] == ["credit_note.voided", "invoice.updated"]
    assert credit(api, invoice, 1_000).number.endswith("-CN-02")


def test_credit_note_can_be_voided_once_and_only_on_open_invoice(api):
    invoice, uncollectible = create_invoice(api), create_invoice(api)
    first, late = credit(api, invoice, 300), credit(api, uncollectible, 300)
    api.v1.credit_notes.void_credit_note(first.id)
    second = credit(api, invoice, 1_000)
    api.v1.invoices.mark_uncollectible(uncollectible.id)

    for note, message in (
        (first, "already been voided"),
        (second, "on an open invoice"),
        (late, "on an open invoice"),
    ):
        with pytest.raises(stripe.InvalidRequestError, match=message):
            api.v1.credit_notes.void_credit_note(note.id)

    assert amounts_of(api, invoice) == ("paid", 0, 0, 1_000, 0)


def test_credit_notes_are_listed_by_invoice_and_customer(api):
    first, second = create_invoice(api), create_invoice(api)
    notes = [credit(api, invoice, 100).id for invoice in (first, first, second)]

    def listed(**params):
        return [note.id for note in api.v1.credit_notes.list(params).data]

    assert listed() == notes[::-1]
    assert listed(invoice=first.id) == [notes[1], notes[0]]
    assert listed(customer=second.customer) == [notes[2]]
    assert listed(customer=second.customer, invoice=first.id) == []


def test_credit_note_expands_invoice_customer_and_transaction(api):
    invoice = pay(api, create_invoice(api))
    note = credit(api, invoice, 300, credit_amount=300)

    expanded = api.v1.credit_notes.retrieve(
        note.id, {"expand": ["invoice", "customer", "customer_balance_transaction"]}
    )

    assert expanded.invoice.number == invoice.number
    assert expanded.customer.balance == -300
    assert expanded.customer_balance_transaction.amount == -300


def test_voiding_invoice_keeps_credit_notes_and_restores_balance(api):
    payer = builders.customer(api)
    api.v1.customers.balance_transactions.create(
        payer.id, {"amount": -400, "currency": "usd"}
    )
    invoice = builders.first_invoice(api, builders.subscription(api, to=payer))
    note = credit(api, invoice, 100)

    api.v1.invoices.void_invoice(invoice.id)

    assert api.v1.credit_notes.retrieve(note.id).status == "issued"
    assert amounts_of(api, invoice) == ("void", 500, 500, 100, 0)
    assert api.v1.customers.retrieve(payer.id).balance == -400


def test_balance_of_deleted_customer_cannot_be_credited(api):
    invoice = pay(api, create_invoice(api))
    api.v1.customers.delete(invoice.customer)

    error = credit_error(api, invoice, 100, credit_amount=100)

    assert (error.code, error.param) == ("resource_missing", "credit_amount")
    assert credit(api, invoice, 100, out_of_band_amount=100).status == "issued"
