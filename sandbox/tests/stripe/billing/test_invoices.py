"""Invoices: finalization, payment, balance, updates allowed in each status."""

import pytest
import stripe

from sandbox.stripe.objects import page_urls
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY, HOUR


def test_draft_is_finalized_after_an_hour(api, stripe_sandbox):
    subscription = builders.subscription(api)

    stripe_sandbox.advance(HOUR - 60)
    before = api.v1.invoices.retrieve(subscription.latest_invoice)
    stripe_sandbox.advance(120)
    after = api.v1.invoices.retrieve(subscription.latest_invoice)

    assert before.status == "draft"
    assert before.number is None
    assert (after.status, after.amount_remaining) == ("open", 1_000)
    assert after.status_transitions.finalized_at == after.created + HOUR
    assert before.due_date == after.due_date == after.created + 7 * DAY
    assert after.number.endswith("-0001")
    assert after.hosted_invoice_url.startswith(f"{stripe_sandbox.url}/i/")
    assert after.automatically_finalizes_at is None


def test_draft_without_auto_advance_stays_draft(api, stripe_sandbox):
    subscription = builders.subscription(api)
    api.v1.invoices.update(subscription.latest_invoice, {"auto_advance": False})

    stripe_sandbox.advance(2 * DAY)

    invoice = api.v1.invoices.retrieve(subscription.latest_invoice)
    assert invoice.status == "draft"
    assert invoice.automatically_finalizes_at is None


def test_finalizing_can_turn_automatic_collection_off(api):
    subscription = builders.subscription(api)

    invoice = api.v1.invoices.finalize_invoice(
        subscription.latest_invoice, {"auto_advance": False}
    )

    assert (invoice.status, invoice.auto_advance) == ("open", False)


def test_finalized_invoice_cannot_be_finalized_again(api):
    invoice = builders.first_invoice(api, builders.subscription(api))

    with pytest.raises(stripe.InvalidRequestError, match="already finalized"):
        api.v1.invoices.finalize_invoice(invoice.id)


def test_out_of_band_payment_marks_invoice_paid(api):
    invoice = builders.first_invoice(api, builders.subscription(api))

    paid = api.v1.invoices.pay(
        invoice.id, {"paid_out_of_band": True, "expand": ["amount_paid_off_stripe"]}
    )

    assert paid.status == "paid"
    assert (paid.amount_paid, paid.amount_remaining) == (1_000, 0)
    assert paid.amount_paid_off_stripe == 1_000
    assert paid.status_transitions.paid_at
    types = builders.event_types(api)
    assert "invoice.paid" in types
    assert "invoice.payment_succeeded" not in types


def invoice_in_status(api, status):
    """Return the id of an invoice in this status."""
    id = builders.subscription(api).latest_invoice
    steps = {
        "draft": [],
        "open": ["finalize_invoice"],
        "paid": ["finalize_invoice", "pay"],
        "void": ["finalize_invoice", "void_invoice"],
        "uncollectible": ["finalize_invoice", "mark_uncollectible"],
    }
    for step in steps[status]:
        params = [{"paid_out_of_band": True}] if step == "pay" else []
        getattr(api.v1.invoices, step)(id, *params)
    return id


ALLOWED = {
    "finalize_invoice": {"draft"},
    "pay": {"open", "uncollectible"},
    "void_invoice": {"open", "uncollectible"},
    "mark_uncollectible": {"open"},
}


@pytest.mark.parametrize("status", ["draft", "open", "paid", "uncollectible", "void"])
@pytest.mark.parametrize("action", list(ALLOWED))
def test_allowed_transitions_depend_on_invoice_status(api, status, action):
    id = invoice_in_status(api, status)
    params = [{"paid_out_of_band": True}] if action == "pay" else []
    request = getattr(api.v1.invoices, action)

    if status in ALLOWED[action]:
        assert request(id, *params).status != status
        return

    with pytest.raises(stripe.InvalidRequestError):
        request(id, *params)
    assert api.v1.invoices.retrieve(id).status == status


def test_paying_paid_invoice_says_it_is_already_paid(api):
    id = invoice_in_status(api, "paid")

    with pytest.raises(stripe.InvalidRequestError, match="already paid"):
        api.v1.invoices.pay(id, {"paid_out_of_band": True})


def test_paying_needs_a_payment_method(api):
    id = invoice_in_status(api, "open")

    with pytest.raises(stripe.InvalidRequestError, match="default_payment_method"):
        api.v1.invoices.pay(id)
    owner = api.v1.invoices.retrieve(id).customer
    card = api.v1.payment_methods.attach("pm_card_visa", {"customer": owner})
    assert api.v1.invoices.pay(id, {"payment_method": card.id}).status == "paid"


def test_only_metadata_of_finalized_invoice_can_be_updated(api):
    id = invoice_in_status(api, "open")

    changed = api.v1.invoices.update(id, {"metadata": {"hash": "00"}})

    assert changed.metadata["hash"] == "00"
    for params in (
        {"collection_method": "charge_automatically"},
        {"days_until_due": 3},
        {"description": "x"},
        {"footer": "x"},
    ):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            api.v1.invoices.update(id, params)
        assert caught.value.code == "invoice_not_editable"


def credit(api, customer, amount):
    api.v1.customers.balance_transactions.create(
        customer, {"amount": amount, "currency": "usd"}
    )


@pytest.mark.parametrize(
    ("balance", "due", "ending", "status"),
    [
        (-300, 700, 0, "open"),
        (-1_000, 0, 0, "paid"),
        (-1_500, 0, -500, "paid"),
        (250, 1_250, 0, "open"),
    ],
)
def test_customer_balance_is_applied_at_finalization(api, balance, due, ending, status):
    subscription = builders.subscription(api)
    credit(api, subscription.customer, balance)

    invoice = builders.first_invoice(api, subscription)

    assert (invoice.total, invoice.amount_due) == (1_000, due)
    assert (invoice.starting_balance, invoice.ending_balance) == (balance, ending)
    assert invoice.status == status
    assert api.v1.customers.retrieve(subscription.customer).balance == ending
    applied = api.v1.customers.balance_transactions.list(subscription.customer).data[0]
    assert (applied.type, applied.amount) == ("applied_to_invoice", ending - balance)
    assert applied.invoice == invoice.id


def test_draft_amounts_follow_current_balance(api):
    subscription = builders.subscription(api)

    credit(api, subscription.customer, -300)

    draft = api.v1.invoices.retrieve(subscription.latest_invoice)
    assert (draft.status, draft.amount_due) == ("draft", 700)
    assert (draft.starting_balance, draft.ending_balance) == (-300, None)


def test_credit_after_finalization_does_not_change_invoice(api):
    subscription = builders.subscription(api)
    invoice = builders.first_invoice(api, subscription)

    credit(api, subscription.customer, -300)

    assert api.v1.invoices.retrieve(invoice.id).amount_due == 1_000


def test_voiding_invoice_restores_applied_credit(api):
    subscription = builders.subscription(api)
    credit(api, subscription.customer, -300)
    invoice = builders.first_invoice(api, subscription)

    api.v1.invoices.void_invoice(invoice.id)

    assert api.v1.customers.retrieve(subscription.customer).balance == -300
    last = api.v1.customers.balance_transactions.list(subscription.customer).data[0]
    assert last.type == "unapplied_from_invoice"


def one_off(api, **params):
    body = {"customer": builders.customer(api).id, **params}
    return api.v1.invoices.create(body)


SENT = {"collection_method": "send_invoice"}


def test_days_until_due_count_from_creation(api):
    draft = one_off(api, **SENT, days_until_due=3)
    by_days = api.v1.invoices.update(draft.id, {"days_until_due": 5})
    charged = api.v1.invoices.update(
        draft.id, {"collection_method": "charge_automatically"}
    )

    dates = [invoice.due_date for invoice in (draft, by_days, charged)]
    assert dates == [
        draft.created + 3 * DAY,
        draft.created + 5 * DAY,
        None,
    ]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (SENT, "you must specify 'due_date' or 'days_until_due'"),
        ({"days_until_due": 3}, "if invoice collection method is 'send_invoice'"),
        ({"due_date": 2_000_000_000}, "unknown parameter"),
        ({"statement_descriptor": "RELAY"}, "unknown parameter"),
    ],
)
def test_due_date_is_required_for_send_invoice_and_refused_otherwise(
    api, params, message
):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        one_off(api, **params)
    charged = one_off(api)
    with pytest.raises(stripe.InvalidRequestError) as changed:
        api.v1.invoices.update(charged.id, params)

    assert message in caught.value.user_message
    assert message in changed.value.user_message


@pytest.mark.parametrize(
    ("action", "status", "message"),
    [
        ("void_invoice", "paid", "`paid` payments cannot be voided"),
        ("void_invoice", "void", "isn't open"),
        ("mark_uncollectible", "uncollectible", "already been marked"),
        ("mark_uncollectible", "void", "isn't open"),
    ],
)
def test_refused_void_or_write_off_gives_the_reason(api, action, status, message):
    id = invoice_in_status(api, status)

    with pytest.raises(stripe.InvalidRequestError, match=message):
        getattr(api.v1.invoices, action)(id)


def test_uncollectible_invoice_can_be_paid_out_of_band(api):
    id = invoice_in_status(api, "uncollectible")
    uncollectible = api.v1.invoices.retrieve(id)

    paid = api.v1.invoices.pay(id, {"paid_out_of_band": True})

    assert uncollectible.status_details.uncollectible.reason == "user_forgiven"
    assert (uncollectible.amount_remaining, paid.status) == (1_000, "paid")
    assert not hasattr(paid, "status_details")
    assert paid.status_transitions.marked_uncollectible_at


def test_item_can_be_added_only_to_draft_of_same_customer(api):
    draft, other = one_off(api), one_off(api)
    opened = api.v1.invoices.retrieve(invoice_in_status(api, "open"))

    def add(invoice, customer):
        return api.v1.invoice_items.create(
            {
                "customer": customer,
                "invoice": invoice.id,
                "amount": 500,
                "currency": "usd",
            }
        )

    add(draft, draft.customer)
    with pytest.raises(stripe.InvalidRequestError, match="already finalized") as late:
        add(opened, opened.customer)
    with pytest.raises(stripe.InvalidRequestError) as wrong:
        add(other, draft.customer)

    assert api.v1.invoices.retrieve(draft.id).amount_due == 500
    assert late.value.code == "invoice_not_editable"
    assert wrong.value.code == "resource_missing"
    assert api.v1.invoices.retrieve(other.id).total == 0


def test_items_of_deleted_draft_become_pending(api):
    payer = builders.customer(api)
    item = api.v1.invoice_items.create(
        {"customer": payer.id, "amount": 500, "currency": "usd"}
    )
    including = {"customer": payer.id, "pending_invoice_items_behavior": "include"}
    draft = api.v1.invoices.create(including)

    api.v1.invoices.delete(draft.id)

    [pending] = api.v1.invoice_items.list({"pending": True}).data
    assert (pending.id, pending.invoice) == (item.id, None)
    assert api.v1.invoices.create(including).total == 500
    assert api.v1.invoice_items.list({"pending": True}).data == []


def test_invoice_is_found_by_page_token(api, stripe_sandbox):
    invoice = api.v1.invoices.retrieve(invoice_in_status(api, "open"))
    base, token = invoice.hosted_invoice_url.rsplit("/", 1)
    store = stripe_sandbox.app.store

    assert base == f"{stripe_sandbox.url}/i"
    record = page_urls.find_invoice(store, token)
    assert record and record["id"] == invoice.id
    assert page_urls.find_invoice(store, "test_x") is None


def test_invoices_are_listed_by_filter(api):
    first, second = builders.subscription(api), builders.subscription(api)
    opened = builders.first_invoice(api, second)

    def listed(**params):
        return [invoice.id for invoice in api.v1.invoices.list(params).data]

    assert listed() == [opened.id, first.latest_invoice]
    assert listed(customer=first.customer) == [first.latest_invoice]
    assert listed(subscription=second.id) == [opened.id]
    assert listed(status="open") == [opened.id]
    assert listed(status="draft", subscription=second.id) == []
    assert listed(status="draft") == [first.latest_invoice]


def test_invoice_has_ten_lines_and_list_has_all(api):
    subscription = builders.subscription(api, *(builders.price(api) for _ in range(12)))

    invoice = api.v1.invoices.retrieve(subscription.latest_invoice)
    lines = api.v1.invoices.line_items.list(invoice.id, {"limit": 5})

    assert (len(invoice.lines.data), invoice.lines.has_more) == (10, True)
    assert len(list(lines.auto_paging_iter())) == 12
    assert invoice.total == 12_000


def test_one_off_invoice_has_no_parent_and_does_not_advance(api, stripe_sandbox):
    payer = builders.customer(api)
    api.v1.invoice_items.create(
        {"customer": payer.id, "amount": 900, "currency": "usd", "description": "Help"}
    )

    invoice = api.v1.invoices.create(
        {"customer": payer.id, "pending_invoice_items_behavior": "include"}
    )
    stripe_sandbox.advance(2 * HOUR)

    after = api.v1.invoices.retrieve(invoice.id)
    assert (after.status, after.total, after.parent) == ("draft", 900, None)
    assert after.lines.data[0].description == "Help"


def test_only_one_off_draft_can_be_deleted(api):
    one_off = api.v1.invoices.create({"customer": builders.customer(api).id})

    assert api.v1.invoices.delete(one_off.id).deleted
    for id in (invoice_in_status(api, "draft"), invoice_in_status(api, "open")):
        with pytest.raises(stripe.InvalidRequestError, match="can"):
            api.v1.invoices.delete(id)
