"""Paying a sent invoice with a card, off session: what Caravel does for its tenants."""

import uuid

import pytest
import stripe

from sandbox.tests.support import contract_builders
from sandbox.tests.support.contract_account import Account


@pytest.fixture
def payer(account: Account) -> stripe.Customer:
    return account.customer()


@pytest.fixture
def invoice(
    account: Account, price: stripe.Price, payer: stripe.Customer
) -> stripe.Invoice:
    """An open invoice of $10.00 that Stripe does not collect by itself."""
    return contract_builders.first_invoice(
        account, contract_builders.subscription(account, price, to=payer)
    )


def attach(account: Account, customer: stripe.Customer, card: str) -> str:
    methods = account.api.v1.payment_methods
    return methods.attach(card, {"customer": customer.id}).id


def test_a_sent_invoice_can_be_paid_with_a_card(account, payer, invoice):
    card = attach(account, payer, "pm_card_visa")

    paid = account.api.v1.invoices.pay(
        invoice.id, {"payment_method": card, "off_session": True}
    )

    assert (paid.status, paid.amount_paid, paid.amount_remaining) == ("paid", 1_000, 0)


def test_a_card_payment_is_seen_among_the_invoices_payments(account, payer, invoice):
    card = attach(account, payer, "pm_card_visa")
    account.api.v1.invoices.pay(invoice.id, {"payment_method": card})

    found = account.api.v1.invoice_payments.list({"invoice": invoice.id}).data

    paid = [one for one in found if one.status == "paid"]
    assert [(one.amount_paid, one.payment.type) for one in paid] == [
        (1_000, "payment_intent")
    ]


def test_a_payment_out_of_band_leaves_no_paid_payment_intent(account, invoice):
    account.api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    found = account.api.v1.invoice_payments.list({"invoice": invoice.id}).data

    assert not [
        one
        for one in found
        if one.status == "paid" and one.payment.type == "payment_intent"
    ]


def test_a_declined_card_is_a_402_and_the_invoice_stays_open(account, payer, invoice):
    card = attach(account, payer, "pm_card_chargeCustomerFail")

    with pytest.raises(stripe.CardError) as declined:
        account.api.v1.invoices.pay(invoice.id, {"payment_method": card})

    left = account.api.v1.invoices.retrieve(invoice.id)
    assert (declined.value.http_status, declined.value.code) == (402, "card_declined")
    assert declined.value.error is not None
    assert declined.value.error.decline_code
    assert (left.status, left.amount_remaining) == ("open", 1_000)


def test_a_decline_is_what_its_key_brings_back(account, payer, invoice):
    card = attach(account, payer, "pm_card_chargeCustomerFail")
    options: stripe.RequestOptions = {"idempotency_key": str(uuid.uuid4())}

    for again in (False, True):
        with pytest.raises(stripe.CardError) as declined:
            account.api.v1.invoices.pay(invoice.id, {"payment_method": card}, options)
        assert contract_builders.replayed(declined.value) is again

    attempts = account.api.v1.invoices.retrieve(invoice.id).attempt_count
    assert attempts == 1


def test_another_card_can_be_tried_after_a_decline(account, payer, invoice):
    bad = attach(account, payer, "pm_card_chargeCustomerFail")
    good = attach(account, payer, "pm_card_visa")
    with pytest.raises(stripe.CardError):
        account.api.v1.invoices.pay(invoice.id, {"payment_method": bad})

    paid = account.api.v1.invoices.pay(invoice.id, {"payment_method": good})

    assert paid.status == "paid"


def test_a_card_that_needs_the_person_is_a_402_and_the_invoice_stays_open(
    account, payer, invoice
):
    card = attach(account, payer, "pm_card_authenticationRequired")

    with pytest.raises(stripe.CardError) as needed:
        account.api.v1.invoices.pay(
            invoice.id, {"payment_method": card, "off_session": True}
        )

    assert needed.value.http_status == 402
    assert needed.value.code in (
        "authentication_required",
        "invoice_payment_intent_requires_action",
    )
    assert account.api.v1.invoices.retrieve(invoice.id).status == "open"


def test_another_customers_card_is_refused(account, invoice):
    card = attach(account, account.customer(), "pm_card_visa")

    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.invoices.pay(invoice.id, {"payment_method": card})


def test_all_cards_of_a_customer_are_listed(account, payer):
    first = attach(account, payer, "pm_card_visa")
    second = attach(account, payer, "pm_card_mastercard")

    found = account.api.v1.payment_methods.list({"customer": payer.id, "type": "card"})

    assert {one.id for one in found.data} == {first, second}


def test_a_card_can_be_made_the_default(account, payer):
    card = attach(account, payer, "pm_card_visa")

    changed = account.api.v1.customers.update(
        payer.id, {"invoice_settings": {"default_payment_method": card}}
    )

    assert changed.invoice_settings.default_payment_method == card


def test_a_detached_card_names_its_customer_only_in_previous_attributes(account, payer):
    since = account.now() - 5
    card = attach(account, payer, "pm_card_visa")

    detached = account.api.v1.payment_methods.detach(card)

    found = account.eventually(
        lambda: (
            contract_builders.of(
                card,
                contract_builders.events(
                    account, "payment_method.detached", since=since
                ),
            )
            or None
        )
    )
    assert detached.customer is None
    assert found[0].data.object.customer is None
    assert found[0].data.previous_attributes["customer"] == payer.id
