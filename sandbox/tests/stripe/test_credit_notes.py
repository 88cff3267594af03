"""Credit notes: amounts, lines, effects on invoice and balance, refusals."""

import pytest
import stripe

from sandbox.tests.support import stripe_builders as builders
from sandbox.tests.support.stripe_builders import DAY


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


def test_lines_are_credited_by_amount_or_quantity(api):
    subscription = builders.subscription(
        api, builders.price(api, 500), builders.price(api, 300), quantity=4
    )
    invoice = builders.first_invoice(api, subscription)
    newest, oldest = invoice.lines.data

    note = credit(
        api,
        invoice,
        lines=[
            {"type": "invoice_line_item", "invoice_line_item": newest.id, "amount": 7},
            {
                "type": "invoice_line_item",
                "invoice_line_item": oldest.id,
                "quantity": 3,
                "metadata": {"a": "b"},
            },
            {
                "type": "custom_line_item",
                "description": "Courtesy",
                "quantity": 2,
                "unit_amount": 50,
            },
        ],
    )

    lines = note.lines.data
    assert [line.amount for line in lines] == [7, 1_500, 100]
    assert note.amount == note.total == note.subtotal == 1_607
    assert [line.quantity for line in lines] == [None, 3, 2]
    assert [line.unit_amount for line in lines] == [None, 500, 50]
    assert lines[1].description == oldest.description
    assert lines[1].metadata["a"] == "b"
    assert [line.invoice_line_item for line in lines] == [newest.id, oldest.id, None]
    listed = api.v1.credit_notes.line_items.list(note.id, {"limit": 2})
    assert [line.id for line in listed.auto_paging_iter()] == [
        line.id for line in lines
    ]


def test_partial_quantities_add_up_to_line_amount(api, stripe_sandbox):
    subscription = builders.subscription(api, quantity=3)
    stripe_sandbox.advance(7 * DAY + 77)
    change = {"id": subscription.items.data[0].id, "quantity": 7}
    changed = api.v1.subscriptions.update(
        subscription.id, {"items": [change], "proration_behavior": "always_invoice"}
    )
    invoice = api.v1.invoices.retrieve(changed.latest_invoice)
    proration_credit, proration_debit = invoice.lines.data

    for quantity in (1, 2):
        lines = [
            {"type": "invoice_line_item", "invoice_line_item": id, "quantity": count}
            for id, count in ((proration_debit.id, 3), (proration_credit.id, quantity))
        ]
        credit(api, invoice, lines=lines)
    last = credit(
        api,
        invoice,
        lines=[
            {
                "type": "invoice_line_item",
                "invoice_line_item": proration_debit.id,
                "quantity": 1,
            }
        ],
    )

    assert last.amount == proration_debit.amount - sum(
        line.amount
        for note in api.v1.credit_notes.list({"invoice": invoice.id}).data[1:]
        for line in note.lines.data
        if line.invoice_line_item == proration_debit.id
    )
    assert amounts_of(api, invoice)[:3] == ("paid", 0, 0)


def line(invoice, **fields):
    return {
        "type": "invoice_line_item",
        "invoice_line_item": invoice.lines.data[0].id,
        **fields,
    }


BAD_LINES = [
    (lambda invoice: line(invoice), "exactly one of `amount` or `quantity`"),
    (lambda invoice: line(invoice, amount=1, quantity=1), "exactly one of `amount`"),
    (lambda invoice: line(invoice, amount=1_001), "more than what is left"),
    (lambda invoice: line(invoice, amount=-1), "more than what is left"),
    (lambda invoice: line(invoice, quantity=2), "more than what is left"),
    (lambda invoice: line(invoice, unit_amount=1), "not valid for a line of type"),
    (
        lambda invoice: {"type": "invoice_line_item", "invoice_line_item": "il_x"},
        "No such invoice line item",
    ),
    (lambda invoice: {"type": "invoice_line_item", "amount": 1}, "Missing required"),
    (lambda invoice: {"type": "custom_line_item", "quantity": 1}, "Missing required"),
    (
        lambda invoice: {"type": "custom_line_item", "unit_amount": 1, "amount": 1},
        "not valid for a line of type",
    ),
    (
        lambda invoice: {"type": "custom_line_item", "unit_amount": 0},
        "must be positive",
    ),
    (lambda invoice: {"amount": 1}, "Missing required param: lines"),
]


@pytest.mark.parametrize(("make", "message"), BAD_LINES)
def test_credit_note_with_invalid_lines_is_refused(api, make, message):
    invoice = create_invoice(api)

    error = credit_error(api, invoice, lines=[make(invoice)])

    assert message in error.user_message


def test_line_cannot_be_credited_above_its_amount_or_by_amount_and_quantity(api):
    invoice = create_invoice(api, 600, 400)
    first = invoice.lines.data[0]
    line = {"type": "invoice_line_item", "invoice_line_item": first.id}
    credit(api, invoice, lines=[{**line, "amount": 500}])

    for refused in ({**line, "amount": 101}, {**line, "quantity": 1}):
        with pytest.raises(stripe.InvalidRequestError):
            credit(api, invoice, lines=[refused])

    assert credit(api, invoice, lines=[{**line, "amount": 100}]).amount == 100


def test_negative_line_is_credited_with_negative_amount(api):
    invoice = create_invoice(api, 10_000, -5_000)
    plus, minus = invoice.lines.data

    note = credit(
        api,
        invoice,
        lines=[
            {
                "type": "invoice_line_item",
                "invoice_line_item": plus.id,
                "amount": 9_000,
            },
            {
                "type": "invoice_line_item",
                "invoice_line_item": minus.id,
                "amount": -5_000,
            },
        ],
    )

    assert (note.amount, note.pre_payment_amount) == (4_000, 4_000)
    assert amounts_of(api, invoice)[:2] == ("open", 1_000)


@pytest.mark.parametrize(
    ("paid", "amount", "params", "message"),
    [
        (False, 1_001, {}, "left to credit on this invoice: 1000"),
        (True, 1_001, {"credit_amount": 1_001}, "left to credit"),
        (True, 300, {}, "must equal the post-payment amount"),
        (True, 300, {"credit_amount": 299}, "must equal the post-payment amount"),
        (True, 300, {"out_of_band_amount": 301}, "must equal"),
        (False, 300, {"credit_amount": 300}, "300 is not 0"),
        (False, None, {}, "exactly one of `amount` or `lines`"),
        (False, 0, {}, "greater than or equal to 1"),
        (True, 300, {"refund_amount": 300}, "does not model refunds"),
        (True, 300, {"refunds": [{"refund": "re_x"}]}, "unknown parameter"),
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


def test_only_memo_and_metadata_of_credit_note_can_be_updated(api):
    note = credit(api, create_invoice(api), 300, memo="a", metadata={"k": "v"})

    changed = api.v1.credit_notes.update(
        note.id, {"memo": "b", "metadata": {"k": "", "l": "w"}}
    )

    assert (changed.memo, changed.metadata.to_dict()) == ("b", {"l": "w"})
    assert builders.event_types(api)[-1] == "credit_note.updated"
    with pytest.raises(stripe.InvalidRequestError, match="unknown parameter"):
        api.v1.credit_notes.update(note.id, {"amount": 1})
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.v1.credit_notes.update("cn_x", {"memo": "b"})
    assert caught.value.http_status == 404


def test_credit_notes_are_listed_by_invoice_and_customer(api):
    first, second = create_invoice(api), create_invoice(api)
    notes = [credit(api, invoice, 100).id for invoice in (first, first, second)]

    def listed(**params):
        return [note.id for note in api.v1.credit_notes.list(params).data]

    assert listed() == notes[::-1]
    assert listed(invoice=first.id) == [notes[1], notes[0]]
    assert listed(customer=second.customer) == [notes[2]]
    assert listed(customer=second.customer, invoice=first.id) == []
    assert listed(created={"gt": api.v1.credit_notes.retrieve(notes[2]).created}) == []


def test_preview_returns_credit_note_without_issuing_it(api):
    invoice = create_invoice(api)
    params = {"invoice": invoice.id, "amount": 300}

    preview = api.v1.credit_notes.preview(params)
    lines = api.v1.credit_notes.preview_lines.list(params)

    assert (preview.amount, preview.type) == (300, "pre_payment")
    assert [line.amount for line in lines.data] == [300]
    assert api.v1.credit_notes.list().data == []
    assert amounts_of(api, invoice)[:2] == ("open", 1_000)
    with pytest.raises(stripe.InvalidRequestError, match="left to credit"):
        api.v1.credit_notes.preview({**params, "amount": 1_001})


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
