"""Credit notes: what they take off an invoice, what they give back, and when not."""

import pytest
import stripe

from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_builders import DAY


def billed(api, *amounts, finalize=True, **params):
    """Return a one-off invoice of these amounts."""
    payer = story.customer(api)
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
    given = {"invoice": invoice.id, **params}
    if amount is not None:
        given["amount"] = amount
    return api.v1.credit_notes.create(given)


def refused(api, invoice, amount=None, **params):
    """Return why the note is refused; nothing changed."""
    before = api.v1.invoices.retrieve(invoice.id).to_dict()
    with pytest.raises(stripe.InvalidRequestError) as caught:
        credit(api, invoice, amount, **params)
    assert api.v1.invoices.retrieve(invoice.id).to_dict() == before
    assert api.v1.credit_notes.list().data == []
    return caught.value


def owed(api, invoice):
    now = api.v1.invoices.retrieve(invoice.id)
    return (
        now.status,
        now.amount_due,
        now.amount_remaining,
        now.pre_payment_credit_notes_amount,
        now.post_payment_credit_notes_amount,
    )


def test_a_note_on_an_open_invoice_reduces_what_is_owed(api):
    invoice = billed(api)

    note = credit(api, invoice, 300, reason="order_change", memo="Sorry")

    assert (note.type, note.status) == ("pre_payment", "issued")
    assert (note.pre_payment_amount, note.post_payment_amount) == (300, 0)
    assert note.number == f"{invoice.number}-CN-01"
    assert (note.reason, note.memo) == ("order_change", "Sorry")
    assert note.effective_at == note.created
    assert note.customer_balance_transaction is None
    assert owed(api, invoice) == ("open", 700, 700, 300, 0)


def test_a_note_for_all_that_is_owed_pays_the_invoice_without_a_payment(api):
    invoice = billed(api)
    before = len(story.event_types(api))

    credit(api, invoice, 400)
    second = credit(api, invoice, 600)

    assert second.number.endswith("-CN-02")
    assert owed(api, invoice) == ("paid", 0, 0, 1_000, 0)
    paid = api.v1.invoices.retrieve(invoice.id, {"expand": ["amount_paid_off_stripe"]})
    assert (paid.amount_paid, paid.amount_paid_off_stripe) == (0, 0)
    assert paid.status_transitions.paid_at
    assert story.event_types(api)[before:] == [
        "credit_note.created",
        "invoice.updated",
        "credit_note.created",
        "invoice.updated",
        "invoice.updated",
        "invoice.paid",
        "payment_intent.canceled",
    ]


def test_a_note_on_a_paid_invoice_becomes_credit(api):
    invoice = pay(api, billed(api))

    note = credit(api, invoice, 300, credit_amount=200, out_of_band_amount=100)

    assert (note.type, note.pre_payment_amount) == ("post_payment", 0)
    assert (note.post_payment_amount, note.out_of_band_amount) == (300, 100)
    assert owed(api, invoice) == ("paid", 1_000, 0, 0, 300)
    assert api.v1.customers.retrieve(invoice.customer).balance == -200
    transaction = api.v1.customers.balance_transactions.list(invoice.customer).data[0]
    assert transaction.id == note.customer_balance_transaction
    assert (transaction.type, transaction.amount) == ("credit_note", -200)
    assert (transaction.credit_note, transaction.invoice) == (note.id, invoice.id)


def test_what_a_note_exceeds_the_debt_by_is_given_back(api):
    payer = story.customer(api)
    api.v1.customers.balance_transactions.create(
        payer.id, {"amount": -400, "currency": "usd"}
    )
    subscribed = story.subscription(api, to=payer)
    invoice = story.first_invoice(api, subscribed)

    note = credit(api, invoice, 900, credit_amount=300)

    assert (note.type, note.pre_payment_amount) == ("mixed", 600)
    assert note.post_payment_amount == 300
    assert owed(api, invoice) == ("paid", 0, 0, 600, 300)
    assert api.v1.customers.retrieve(payer.id).balance == -300


def test_paying_a_subscriptions_invoice_by_notes_counts_as_paid(api):
    subscribed = api.v1.subscriptions.create(
        {
            "customer": story.customer(api).id,
            "items": [{"price": story.price(api).id}],
        }
    )
    invoice = api.v1.invoices.retrieve(subscribed.latest_invoice)

    credit(api, invoice, 1_000)

    assert subscribed.status == "incomplete"
    assert api.v1.subscriptions.retrieve(subscribed.id).status == "active"


def test_lines_are_credited_by_amount_or_quantity(api):
    subscribed = story.subscription(
        api, story.price(api, 500), story.price(api, 300), quantity=4
    )
    invoice = story.first_invoice(api, subscribed)
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
    assert [line.id for line in listed.auto_paging_iter()] == [one.id for one in lines]


def test_quantities_of_an_uneven_line_add_up_to_it(api, stripe_sandbox):
    subscribed = story.subscription(api, quantity=3)
    stripe_sandbox.advance(7 * DAY + 77)
    change = {"id": subscribed.items.data[0].id, "quantity": 7}
    changed = api.v1.subscriptions.update(
        subscribed.id, {"items": [change], "proration_behavior": "always_invoice"}
    )
    invoice = api.v1.invoices.retrieve(changed.latest_invoice)
    refund, debit = invoice.lines.data

    for quantity in (1, 2):
        notes = [
            {"type": "invoice_line_item", "invoice_line_item": id, "quantity": count}
            for id, count in ((debit.id, 3), (refund.id, quantity))
        ]
        credit(api, invoice, lines=notes)
    last = credit(
        api,
        invoice,
        lines=[
            {
                "type": "invoice_line_item",
                "invoice_line_item": debit.id,
                "quantity": 1,
            }
        ],
    )

    assert last.amount == debit.amount - sum(
        line.amount
        for note in api.v1.credit_notes.list({"invoice": invoice.id}).data[1:]
        for line in note.lines.data
        if line.invoice_line_item == debit.id
    )
    assert owed(api, invoice)[:3] == ("paid", 0, 0)


def line(invoice, **fields):
    return {
        "type": "invoice_line_item",
        "invoice_line_item": invoice.lines.data[0].id,
        **fields,
    }


BAD_LINES = [
    (lambda one: line(one), "exactly one of `amount` or `quantity`"),
    (lambda one: line(one, amount=1, quantity=1), "exactly one of `amount`"),
    (lambda one: line(one, amount=1_001), "more than what is left"),
    (lambda one: line(one, amount=-1), "more than what is left"),
    (lambda one: line(one, quantity=2), "more than what is left"),
    (lambda one: line(one, unit_amount=1), "not valid for a line of type"),
    (
        lambda one: {"type": "invoice_line_item", "invoice_line_item": "il_x"},
        "No such invoice line item",
    ),
    (lambda one: {"type": "invoice_line_item", "amount": 1}, "Missing required"),
    (lambda one: {"type": "custom_line_item", "quantity": 1}, "Missing required"),
    (
        lambda one: {"type": "custom_line_item", "unit_amount": 1, "amount": 1},
        "not valid for a line of type",
    ),
    (lambda one: {"type": "custom_line_item", "unit_amount": 0}, "must be positive"),
    (lambda one: {"amount": 1}, "Missing required param: lines"),
]


@pytest.mark.parametrize(("make", "message"), BAD_LINES)
def test_lines_that_make_no_sense_are_refused(api, make, message):
    invoice = billed(api)

    error = refused(api, invoice, lines=[make(invoice)])

    assert message in error.user_message


def test_a_line_is_not_credited_twice_over_nor_in_two_ways(api):
    invoice = billed(api, 600, 400)
    first = invoice.lines.data[0]
    whole = {"type": "invoice_line_item", "invoice_line_item": first.id}
    credit(api, invoice, lines=[{**whole, "amount": 500}])

    for again in ({**whole, "amount": 101}, {**whole, "quantity": 1}):
        with pytest.raises(stripe.InvalidRequestError):
            credit(api, invoice, lines=[again])

    assert credit(api, invoice, lines=[{**whole, "amount": 100}]).amount == 100


def test_a_negative_line_is_credited_with_a_negative_amount(api):
    invoice = billed(api, 10_000, -5_000)
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
    assert owed(api, invoice)[:2] == ("open", 1_000)


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
def test_notes_that_do_not_add_up_are_refused(api, paid, amount, params, message):
    invoice = billed(api)
    if paid:
        invoice = pay(api, invoice)

    assert message in refused(api, invoice, amount, **params).user_message


def test_only_open_and_paid_invoices_are_credited(api):
    draft, void, lost = billed(api, finalize=False), billed(api), billed(api)
    api.v1.invoices.void_invoice(void.id)
    api.v1.invoices.mark_uncollectible(lost.id)

    for invoice, status in ((draft, "draft"), (void, "void"), (lost, "uncollectible")):
        error = refused(api, invoice, 100)
        assert (error.param, status in error.user_message) == ("invoice", True)


@pytest.mark.parametrize("amounts", [(0,), (-500,)])
def test_an_invoice_that_billed_nothing_has_nothing_to_credit(api, amounts):
    invoice = billed(api, *amounts)

    assert "left to credit" in refused(api, invoice, 1, credit_amount=1).user_message


def test_an_unknown_invoice_is_named(api):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.v1.credit_notes.create({"invoice": "in_x", "amount": 1})

    assert (caught.value.code, caught.value.param) == ("resource_missing", "invoice")


def test_voiding_a_note_asks_for_the_amount_again(api):
    invoice = billed(api)
    note = credit(api, invoice, 300)

    voided = api.v1.credit_notes.void_credit_note(note.id)

    assert (voided.status, voided.voided_at is not None) == ("void", True)
    assert owed(api, invoice) == ("open", 1_000, 1_000, 0, 0)
    assert story.event_types(api)[-2:] == ["credit_note.voided", "invoice.updated"]
    assert credit(api, invoice, 1_000).number.endswith("-CN-02")


def test_a_note_is_voided_once_and_only_while_the_invoice_is_open(api):
    invoice, lost = billed(api), billed(api)
    first, late = credit(api, invoice, 300), credit(api, lost, 300)
    api.v1.credit_notes.void_credit_note(first.id)
    second = credit(api, invoice, 1_000)
    api.v1.invoices.mark_uncollectible(lost.id)

    for note, message in (
        (first, "already been voided"),
        (second, "on an open invoice"),
        (late, "on an open invoice"),
    ):
        with pytest.raises(stripe.InvalidRequestError, match=message):
            api.v1.credit_notes.void_credit_note(note.id)

    assert owed(api, invoice) == ("paid", 0, 0, 1_000, 0)


def test_memo_and_metadata_are_changed_and_nothing_else(api):
    note = credit(api, billed(api), 300, memo="a", metadata={"k": "v"})

    changed = api.v1.credit_notes.update(
        note.id, {"memo": "b", "metadata": {"k": "", "l": "w"}}
    )

    assert (changed.memo, changed.metadata.to_dict()) == ("b", {"l": "w"})
    assert story.event_types(api)[-1] == "credit_note.updated"
    with pytest.raises(stripe.InvalidRequestError, match="unknown parameter"):
        api.v1.credit_notes.update(note.id, {"amount": 1})
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.v1.credit_notes.update("cn_x", {"memo": "b"})
    assert caught.value.http_status == 404


def test_notes_are_listed_by_invoice_and_customer(api):
    first, second = billed(api), billed(api)
    notes = [credit(api, one, 100).id for one in (first, first, second)]

    def listed(**params):
        return [one.id for one in api.v1.credit_notes.list(params).data]

    assert listed() == notes[::-1]
    assert listed(invoice=first.id) == [notes[1], notes[0]]
    assert listed(customer=second.customer) == [notes[2]]
    assert listed(customer=second.customer, invoice=first.id) == []
    assert listed(created={"gt": api.v1.credit_notes.retrieve(notes[2]).created}) == []


def test_a_preview_says_what_a_note_would_be_and_makes_none(api):
    invoice = billed(api)
    given = {"invoice": invoice.id, "amount": 300}

    preview = api.v1.credit_notes.preview(given)
    lines = api.v1.credit_notes.preview_lines.list(given)

    assert (preview.amount, preview.type) == (300, "pre_payment")
    assert [one.amount for one in lines.data] == [300]
    assert api.v1.credit_notes.list().data == []
    assert owed(api, invoice)[:2] == ("open", 1_000)
    with pytest.raises(stripe.InvalidRequestError, match="left to credit"):
        api.v1.credit_notes.preview({**given, "amount": 1_001})


def test_a_note_expands_its_invoice_customer_and_transaction(api):
    invoice = pay(api, billed(api))
    note = credit(api, invoice, 300, credit_amount=300)

    whole = api.v1.credit_notes.retrieve(
        note.id, {"expand": ["invoice", "customer", "customer_balance_transaction"]}
    )

    assert whole.invoice.number == invoice.number
    assert whole.customer.balance == -300
    assert whole.customer_balance_transaction.amount == -300


def test_voiding_an_invoice_leaves_its_notes_and_gives_the_balance_back(api):
    payer = story.customer(api)
    api.v1.customers.balance_transactions.create(
        payer.id, {"amount": -400, "currency": "usd"}
    )
    invoice = story.first_invoice(api, story.subscription(api, to=payer))
    note = credit(api, invoice, 100)

    api.v1.invoices.void_invoice(invoice.id)

    assert api.v1.credit_notes.retrieve(note.id).status == "issued"
    assert owed(api, invoice) == ("void", 500, 500, 100, 0)
    assert api.v1.customers.retrieve(payer.id).balance == -400


def test_no_credit_goes_to_a_deleted_customer(api):
    invoice = pay(api, billed(api))
    api.v1.customers.delete(invoice.customer)

    error = refused(api, invoice, 100, credit_amount=100)

    assert (error.code, error.param) == ("resource_missing", "credit_amount")
    assert credit(api, invoice, 100, out_of_band_amount=100).status == "issued"
