"""Invoices: status transitions, updates, credit notes, lines."""

import pytest
import stripe

from sandbox.tests.support.stripe import contract_builders
from sandbox.tests.support.stripe.contract_account import Account
from sandbox.tests.support.stripe.contract_builders import DAY, HOUR


@pytest.fixture
def draft(account: Account, price: stripe.Price) -> stripe.Invoice:
    """The draft first invoice of a subscription, $10.00."""
    subscription = contract_builders.subscription(account, price)
    return account.api.v1.invoices.retrieve(str(subscription.latest_invoice))


@pytest.fixture
def invoice(account: Account, draft: stripe.Invoice) -> stripe.Invoice:
    """The open first invoice of a subscription, $10.00."""
    return account.api.v1.invoices.finalize_invoice(draft.id, {"auto_advance": False})


def test_a_draft_is_finalized_after_about_an_hour(account, draft):
    account.advance(2 * HOUR)

    assert account.api.v1.invoices.retrieve(draft.id).status == "open"


def test_a_draft_without_auto_advance_stays_a_draft(account, draft):
    account.api.v1.invoices.update(draft.id, {"auto_advance": False})

    account.advance(2 * HOUR)

    assert account.api.v1.invoices.retrieve(draft.id).status == "draft"


def test_a_renewal_is_a_draft_for_an_hour_and_then_open(account, price):
    subscription = contract_builders.subscription(account, price)
    contract_builders.first_invoice(account, subscription)
    end = subscription.items.data[0].current_period_end

    account.advance(end - account.now() + 60)
    renewed = account.api.v1.subscriptions.retrieve(subscription.id)
    before = account.api.v1.invoices.retrieve(str(renewed.latest_invoice))
    account.advance(2 * HOUR)
    after = account.api.v1.invoices.retrieve(before.id)

    assert (before.status, before.billing_reason) == ("draft", "subscription_cycle")
    assert (after.status, after.amount_remaining) == ("open", 1_000)


def test_a_draft_cannot_be_paid(account, draft):
    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.invoices.pay(draft.id, {"paid_out_of_band": True})


def test_an_out_of_band_payment_marks_the_invoice_paid(account, invoice):
    paid = account.api.v1.invoices.pay(
        invoice.id, {"paid_out_of_band": True, "expand": ["amount_paid_off_stripe"]}
    )

    assert (paid.status, paid.amount_remaining) == ("paid", 0)
    assert paid.amount_paid_off_stripe == 1_000


def test_fields_that_are_not_nullable_are_left_out(account, invoice):
    opened = account.api.v1.invoices.retrieve(invoice.id)

    assert not hasattr(opened, "threshold_reason")
    assert not hasattr(opened.issuer, "account")


def test_a_sent_invoice_is_attempted_with_its_first_charge_only(account, price):
    marked, charged = (
        contract_builders.first_invoice(
            account, contract_builders.subscription(account, price)
        )
        for _ in range(2)
    )
    card = account.api.v1.payment_methods.attach(
        "pm_card_visa", {"customer": str(charged.customer)}
    )

    marked = account.api.v1.invoices.pay(marked.id, {"paid_out_of_band": True})
    paid = account.api.v1.invoices.pay(charged.id, {"payment_method": card.id})

    assert (charged.attempted, marked.attempted, paid.attempted) == (False, False, True)
    assert (marked.attempt_count, marked.status) == (0, "paid")


def test_a_paid_invoice_cannot_be_paid_again(account, invoice):
    account.api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    with pytest.raises(stripe.InvalidRequestError) as refused:
        account.api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    assert refused.value.http_status == 400


def test_metadata_of_an_open_and_of_a_paid_invoice_can_be_changed(account, invoice):
    update = account.api.v1.invoices.update

    opened = update(invoice.id, {"metadata": {"lightning_payment_hash": "ab"}})
    account.api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})
    paid = update(invoice.id, {"metadata": {"marked": "yes"}})

    assert opened.metadata["lightning_payment_hash"] == "ab"
    assert paid.metadata.to_dict() == {"lightning_payment_hash": "ab", "marked": "yes"}


def test_the_collection_method_of_an_open_invoice_cannot_be_changed(account, invoice):
    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.invoices.update(
            invoice.id, {"collection_method": "charge_automatically"}
        )


def test_an_uncollectible_invoice_can_still_be_paid(account, invoice):
    account.api.v1.invoices.mark_uncollectible(invoice.id)

    paid = account.api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    assert paid.status == "paid"


def test_a_void_invoice_cannot_be_paid(account, invoice):
    account.api.v1.invoices.void_invoice(invoice.id)

    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})


def test_a_credit_note_reduces_an_open_invoice(account, invoice):
    note = account.api.v1.credit_notes.create({"invoice": invoice.id, "amount": 400})

    reduced = account.api.v1.invoices.retrieve(invoice.id)
    assert note.pre_payment_amount == 400
    assert (reduced.status, reduced.amount_remaining) == ("open", 600)
    assert reduced.pre_payment_credit_notes_amount == 400


def test_a_credit_note_over_the_full_amount_marks_the_invoice_paid(account, invoice):
    account.api.v1.credit_notes.create({"invoice": invoice.id, "amount": 1_000})

    closed = account.api.v1.invoices.retrieve(invoice.id)
    assert (closed.status, closed.amount_remaining) == ("paid", 0)


def test_a_credit_note_on_a_paid_invoice_must_allocate_the_amount(account, invoice):
    account.api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.credit_notes.create({"invoice": invoice.id, "amount": 400})


def test_a_credit_note_on_a_paid_invoice_can_go_to_the_balance(account, invoice):
    account.api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    account.api.v1.credit_notes.create(
        {"invoice": invoice.id, "amount": 400, "credit_amount": 400}
    )

    customer = account.api.v1.customers.retrieve(str(invoice.customer))
    assert customer.balance == -400


def test_an_open_invoice_stays_collectible_when_its_subscription_ends(account, price):
    subscription = contract_builders.subscription(account, price)
    invoice = contract_builders.first_invoice(account, subscription)
    account.advance(DAY)

    account.api.v1.subscriptions.cancel(subscription.id)

    after = account.api.v1.invoices.retrieve(invoice.id)
    assert (after.status, after.auto_advance) == ("open", False)


def test_a_credit_note_above_the_creditable_amount_is_refused(account, invoice):
    account.api.v1.credit_notes.create({"invoice": invoice.id, "amount": 400})

    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.credit_notes.create({"invoice": invoice.id, "amount": 601})


def test_a_credit_note_on_an_uncollectible_invoice_is_refused(account, invoice):
    account.api.v1.invoices.mark_uncollectible(invoice.id)

    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.credit_notes.create({"invoice": invoice.id, "amount": 400})


def test_a_line_has_its_period_and_price(account, price):
    subscription = contract_builders.subscription(account, price, quantity=2)
    period = subscription.items.data[0]

    (line,) = account.api.v1.invoices.retrieve(str(subscription.latest_invoice)).lines

    assert (line.amount, line.quantity) == (2_000, 2)
    assert line.period.start == period.current_period_start
    assert line.period.end == period.current_period_end
    assert line.pricing.price_details.price == price.id


def test_a_line_description_has_quantity_and_product(account, price):
    subscription = contract_builders.subscription(account, price, quantity=2)

    (line,) = account.api.v1.invoices.retrieve(str(subscription.latest_invoice)).lines

    assert "2 × Relay" in line.description


def test_an_invoice_has_its_first_ten_lines_and_has_more(account):
    payer = account.customer()
    api = account.api.v1
    created = api.invoices.create({"customer": payer.id, "auto_advance": False})
    for _ in range(12):
        api.invoice_items.create(
            {
                "customer": payer.id,
                "invoice": created.id,
                "currency": "usd",
                "amount": 100,
            }
        )

    invoice = api.invoices.retrieve(created.id)

    assert (len(invoice.lines.data), invoice.lines.has_more) == (10, True)
    assert len(api.invoices.line_items.list(created.id, {"limit": 100}).data) == 12


def test_a_paid_invoice_has_the_time_of_payment(account, invoice):
    assert invoice.status_transitions.paid_at is None

    paid = account.api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    assert paid.status_transitions.paid_at is not None
    assert abs(paid.status_transitions.paid_at - account.now()) < 600


def test_an_invoice_of_a_subscription_cannot_be_deleted(account, draft):
    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.invoices.delete(draft.id)
