"""Invoices: finalization, payment, balance, what may be changed when."""

import pytest
import stripe

from sandbox.stripe.objects import addresses
from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_builders import DAY, HOUR


def test_a_draft_finalizes_itself_after_an_hour(api, stripe_sandbox):
    subscribed = story.subscription(api)

    stripe_sandbox.advance(HOUR - 10)
    before = api.v1.invoices.retrieve(subscribed.latest_invoice)
    stripe_sandbox.advance(20)
    after = api.v1.invoices.retrieve(subscribed.latest_invoice)

    assert before.status == "draft"
    assert before.number is None
    assert (after.status, after.amount_remaining) == ("open", 1_000)
    assert after.status_transitions.finalized_at == after.created + HOUR
    assert before.due_date == after.due_date == after.created + 7 * DAY
    assert after.number.endswith("-0001")
    assert after.hosted_invoice_url.startswith(f"{stripe_sandbox.url}/i/")
    assert after.automatically_finalizes_at is None


def test_a_draft_without_auto_advance_stays(api, stripe_sandbox):
    subscribed = story.subscription(api)
    api.v1.invoices.update(subscribed.latest_invoice, {"auto_advance": False})

    stripe_sandbox.advance(2 * DAY)

    invoice = api.v1.invoices.retrieve(subscribed.latest_invoice)
    assert invoice.status == "draft"
    assert invoice.automatically_finalizes_at is None


def test_finalizing_can_turn_automatic_collection_off(api):
    subscribed = story.subscription(api)

    invoice = api.v1.invoices.finalize_invoice(
        subscribed.latest_invoice, {"auto_advance": False}
    )

    assert (invoice.status, invoice.auto_advance) == ("open", False)


def test_an_invoice_is_finalized_once(api):
    invoice = story.first_invoice(api, story.subscription(api))

    with pytest.raises(stripe.InvalidRequestError, match="already finalized"):
        api.v1.invoices.finalize_invoice(invoice.id)


def test_paying_out_of_band(api):
    invoice = story.first_invoice(api, story.subscription(api))

    paid = api.v1.invoices.pay(
        invoice.id, {"paid_out_of_band": True, "expand": ["amount_paid_off_stripe"]}
    )

    assert paid.status == "paid"
    assert (paid.amount_paid, paid.amount_remaining) == (1_000, 0)
    assert paid.amount_paid_off_stripe == 1_000
    assert paid.status_transitions.paid_at
    types = story.event_types(api)
    assert "invoice.paid" in types
    assert "invoice.payment_succeeded" not in types


def in_status(api, status):
    """Return the id of an invoice in the status."""
    id = story.subscription(api).latest_invoice
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
def test_what_can_happen_to_an_invoice_depends_on_its_status(api, status, action):
    id = in_status(api, status)
    params = [{"paid_out_of_band": True}] if action == "pay" else []
    act = getattr(api.v1.invoices, action)

    if status in ALLOWED[action]:
        assert act(id, *params).status != status
        return

    with pytest.raises(stripe.InvalidRequestError):
        act(id, *params)
    assert api.v1.invoices.retrieve(id).status == status


def test_a_paid_invoice_says_so(api):
    id = in_status(api, "paid")

    with pytest.raises(stripe.InvalidRequestError, match="already paid"):
        api.v1.invoices.pay(id, {"paid_out_of_band": True})


def test_paying_needs_a_payment_method(api):
    id = in_status(api, "open")

    with pytest.raises(stripe.InvalidRequestError, match="default_payment_method"):
        api.v1.invoices.pay(id)
    owner = api.v1.invoices.retrieve(id).customer
    card = api.v1.payment_methods.attach("pm_card_visa", {"customer": owner})
    assert api.v1.invoices.pay(id, {"payment_method": card.id}).status == "paid"


def test_metadata_stays_editable_and_amounts_do_not(api):
    id = in_status(api, "open")

    changed = api.v1.invoices.update(id, {"metadata": {"hash": "00"}})

    assert changed.metadata["hash"] == "00"
    for params in (
        {"collection_method": "charge_automatically"},
        {"days_until_due": 3},
        {"due_date": 2_000_000_000},
        {"description": "x"},
        {"footer": "x"},
        {"statement_descriptor": "x"},
    ):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            api.v1.invoices.update(id, params)
        assert caught.value.code == "invoice_not_editable"


def credit(api, customer, amount):
    api.v1.customers.balance_transactions.create(
        customer, {"amount": amount, "currency": "usd"}
    )


@pytest.mark.parametrize(
    ("balance", "due", "left", "status"),
    [
        (-300, 700, 0, "open"),
        (-1_000, 0, 0, "paid"),
        (-1_500, 0, -500, "paid"),
        (250, 1_250, 0, "open"),
    ],
)
def test_the_balance_is_applied_at_finalization(api, balance, due, left, status):
    subscribed = story.subscription(api)
    credit(api, subscribed.customer, balance)

    invoice = story.first_invoice(api, subscribed)

    assert (invoice.total, invoice.amount_due) == (1_000, due)
    assert (invoice.starting_balance, invoice.ending_balance) == (balance, left)
    assert invoice.status == status
    assert api.v1.customers.retrieve(subscribed.customer).balance == left
    applied = api.v1.customers.balance_transactions.list(subscribed.customer).data[0]
    assert (applied.type, applied.amount) == ("applied_to_invoice", left - balance)
    assert applied.invoice == invoice.id


def test_a_draft_shows_the_balance_of_now(api):
    subscribed = story.subscription(api)

    credit(api, subscribed.customer, -300)

    draft = api.v1.invoices.retrieve(subscribed.latest_invoice)
    assert (draft.status, draft.amount_due) == ("draft", 700)
    assert (draft.starting_balance, draft.ending_balance) == (-300, None)


def test_credit_after_finalization_changes_nothing(api):
    subscribed = story.subscription(api)
    invoice = story.first_invoice(api, subscribed)

    credit(api, subscribed.customer, -300)

    assert api.v1.invoices.retrieve(invoice.id).amount_due == 1_000


def test_voiding_gives_applied_credit_back(api):
    subscribed = story.subscription(api)
    credit(api, subscribed.customer, -300)
    invoice = story.first_invoice(api, subscribed)

    api.v1.invoices.void_invoice(invoice.id)

    assert api.v1.customers.retrieve(subscribed.customer).balance == -300
    last = api.v1.customers.balance_transactions.list(subscribed.customer).data[0]
    assert last.type == "unapplied_from_invoice"


def one_off(api, **params):
    given = {"customer": story.customer(api).id, **params}
    return api.v1.invoices.create(given)


SENT = {"collection_method": "send_invoice"}


def test_days_until_due_count_from_the_creation(api):
    draft = one_off(api, **SENT, days_until_due=3)
    later = api.v1.invoices.update(draft.id, {"days_until_due": 5})
    fixed = api.v1.invoices.update(draft.id, {"due_date": draft.created + 99})
    charged = api.v1.invoices.update(
        draft.id, {"collection_method": "charge_automatically"}
    )

    dates = [one.due_date for one in (draft, later, fixed, charged)]
    assert dates == [
        draft.created + 3 * DAY,
        draft.created + 5 * DAY,
        draft.created + 99,
        None,
    ]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (SENT, "you must specify 'due_date' or 'days_until_due'"),
        ({"days_until_due": 3}, "if invoice collection method is 'send_invoice'"),
        ({"due_date": 2_000_000_000}, "if invoice collection method is"),
        (
            {**SENT, "days_until_due": 3, "due_date": 2_000_000_000},
            "only specify one of",
        ),
        ({"statement_descriptor": "x" * 23}, "at most 22 characters"),
    ],
)
def test_a_due_date_goes_with_invoices_that_are_sent(api, params, message):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        one_off(api, **params)
    charged = one_off(api)
    with pytest.raises(stripe.InvalidRequestError) as changed:
        api.v1.invoices.update(charged.id, params)

    assert message in caught.value.user_message
    assert message in changed.value.user_message


def test_a_statement_descriptor_is_kept(api):
    assert one_off(api, statement_descriptor="RELAY").statement_descriptor == "RELAY"


def test_sending_finalizes_a_draft_and_says_so(api):
    id = in_status(api, "draft")

    sent = api.v1.invoices.send_invoice(id)
    again = api.v1.invoices.send_invoice(id)

    assert (sent.status, again.status) == ("open", "open")
    types = [one for one in story.event_types(api) if one.startswith("invoice.")]
    assert types[-4:] == [
        "invoice.updated",
        "invoice.finalized",
        "invoice.sent",
        "invoice.sent",
    ]


@pytest.mark.parametrize("status", ["void", "uncollectible"])
def test_an_invoice_that_is_closed_is_not_sent(api, status):
    id = in_status(api, status)

    with pytest.raises(stripe.InvalidRequestError, match="cannot be sent right now"):
        api.v1.invoices.send_invoice(id)
    assert "invoice.sent" not in story.event_types(api)


def test_only_invoices_that_are_to_be_sent_can_be(api):
    draft = one_off(api)

    with pytest.raises(stripe.InvalidRequestError, match="'send_invoice'"):
        api.v1.invoices.send_invoice(draft.id)
    assert api.v1.invoices.retrieve(draft.id).status == "draft"


@pytest.mark.parametrize(
    ("action", "status", "message"),
    [
        ("void_invoice", "paid", "`paid` payments cannot be voided"),
        ("void_invoice", "void", "isn't open"),
        ("mark_uncollectible", "uncollectible", "already been marked"),
        ("mark_uncollectible", "void", "isn't open"),
    ],
)
def test_why_an_invoice_cannot_be_closed(api, action, status, message):
    id = in_status(api, status)

    with pytest.raises(stripe.InvalidRequestError, match=message):
        getattr(api.v1.invoices, action)(id)


def test_what_was_written_off_can_still_be_paid(api):
    id = in_status(api, "uncollectible")
    lost = api.v1.invoices.retrieve(id)

    paid = api.v1.invoices.pay(id, {"paid_out_of_band": True})

    assert lost.status_details.uncollectible.reason == "user_forgiven"
    assert (lost.amount_remaining, paid.status) == (1_000, "paid")
    assert paid.status_details is None
    assert paid.status_transitions.marked_uncollectible_at


def test_an_item_goes_on_a_draft_of_its_customer_only(api):
    draft, foreign = one_off(api), one_off(api)
    opened = api.v1.invoices.retrieve(in_status(api, "open"))

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
        add(foreign, draft.customer)

    assert api.v1.invoices.retrieve(draft.id).amount_due == 500
    assert late.value.code == "invoice_not_editable"
    assert wrong.value.code == "resource_missing"
    assert api.v1.invoices.retrieve(foreign.id).total == 0


def test_the_items_of_a_deleted_draft_are_pending_again(api):
    payer = story.customer(api)
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


def test_an_item_is_deleted_from_a_draft_but_from_no_other_invoice(api):
    draft = one_off(api)

    def add(amount):
        return api.v1.invoice_items.create(
            {
                "customer": draft.customer,
                "invoice": draft.id,
                "amount": amount,
                "currency": "usd",
            }
        )

    first, second = add(500), add(700)
    mark = story.latest_event(api)
    api.v1.invoice_items.delete(first.id)

    left = api.v1.invoices.retrieve(draft.id)
    assert (left.total, left.amount_due) == (700, 700)
    assert [line.amount for line in left.lines.data] == [700]
    told = story.types_since(api, mark)
    assert told == ["invoice.updated", "invoiceitem.deleted"]
    api.v1.invoices.finalize_invoice(draft.id)
    with pytest.raises(stripe.InvalidRequestError, match="attached"):
        api.v1.invoice_items.delete(second.id)


def test_an_item_goes_to_a_live_subscription_of_its_customer_only(api):
    mine, foreign, ended = (story.subscription(api) for _ in range(3))
    api.v1.subscriptions.cancel(ended.id)

    def add(subscription, customer):
        given = {"amount": 500, "currency": "usd"}
        return api.v1.invoice_items.create(
            {**given, "subscription": subscription, "customer": customer}
        )

    def refused(*given):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            add(*given)
        return caught.value.code, caught.value.param

    missing = ("resource_missing", "subscription")
    assert refused("sub_nobody", mine.customer) == missing
    assert refused(foreign.id, mine.customer) == missing
    assert refused(ended.id, ended.customer) == (None, "subscription")
    added = add(mine.id, mine.customer)
    assert [one.id for one in api.v1.invoice_items.list({"pending": True}).data] == [
        added.id
    ]


def test_an_invoices_page_is_found_by_its_token(api, stripe_sandbox):
    invoice = api.v1.invoices.retrieve(in_status(api, "open"))
    base, token = invoice.hosted_invoice_url.rsplit("/", 1)
    store = stripe_sandbox.app.store

    assert base == f"{stripe_sandbox.url}/i"
    found = addresses.find_invoice(store, token)
    assert found and found["id"] == invoice.id
    assert addresses.find_invoice(store, "test_x") is None


def test_lists_are_filtered(api):
    first, second = story.subscription(api), story.subscription(api)
    opened = story.first_invoice(api, second)

    def listed(**params):
        return [one.id for one in api.v1.invoices.list(params).data]

    assert listed() == [opened.id, first.latest_invoice]
    assert listed(customer=first.customer) == [first.latest_invoice]
    assert listed(subscription=second.id) == [opened.id]
    assert listed(status="open") == [opened.id]
    assert listed(status="draft", subscription=second.id) == []
    assert listed(collection_method="send_invoice", status="draft") == [
        first.latest_invoice
    ]


def test_an_invoice_carries_ten_lines_and_lists_the_rest(api):
    subscribed = story.subscription(api, *(story.price(api) for _ in range(12)))

    invoice = api.v1.invoices.retrieve(subscribed.latest_invoice)
    everything = api.v1.invoices.line_items.list(invoice.id, {"limit": 5})

    assert (len(invoice.lines.data), invoice.lines.has_more) == (10, True)
    assert len(list(everything.auto_paging_iter())) == 12
    assert invoice.total == 12_000


def test_a_one_off_invoice_has_no_parent_and_does_not_advance(api, stripe_sandbox):
    payer = story.customer(api)
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


def test_only_a_one_off_draft_is_deleted(api):
    one_off = api.v1.invoices.create({"customer": story.customer(api).id})

    assert api.v1.invoices.delete(one_off.id).deleted
    for id in (in_status(api, "draft"), in_status(api, "open")):
        with pytest.raises(stripe.InvalidRequestError, match="can"):
            api.v1.invoices.delete(id)


def test_a_draft_is_finalized_when_it_was_created_for(api, stripe_sandbox):
    at = stripe_sandbox.now() + 5 * DAY
    draft = one_off(api, auto_advance=True, automatically_finalizes_at=at)

    stripe_sandbox.advance(5 * DAY - 60)
    before = api.v1.invoices.retrieve(draft.id)
    stripe_sandbox.advance(120)
    after = api.v1.invoices.retrieve(draft.id)

    assert (draft.automatically_finalizes_at, before.status) == (at, "draft")
    assert after.status_transitions.finalized_at == at


@pytest.mark.parametrize(
    ("auto_advance", "seconds", "message"),
    [
        (True, -1, "must be in the future"),
        (True, 6 * 366 * DAY, "at most 5 years"),
        (False, DAY, "needs `auto_advance`"),
    ],
)
def test_when_a_draft_cannot_be_finalized(
    api, stripe_sandbox, auto_advance, seconds, message
):
    given = {
        "auto_advance": auto_advance,
        "automatically_finalizes_at": stripe_sandbox.now() + seconds,
    }
    draft = one_off(api)

    with pytest.raises(stripe.InvalidRequestError, match=message) as created:
        one_off(api, **given)
    with pytest.raises(stripe.InvalidRequestError, match=message):
        api.v1.invoices.update(draft.id, given)

    assert created.value.param == "automatically_finalizes_at"
    assert api.v1.invoices.retrieve(draft.id).automatically_finalizes_at is None
