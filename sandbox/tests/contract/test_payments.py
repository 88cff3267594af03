"""Off-session card payments of sent invoices, as Caravel makes them for tenants."""

import uuid

import pytest
import stripe

from sandbox.tests.support.stripe import contract_builders
from sandbox.tests.support.stripe.contract_account import Account


@pytest.fixture
def payer(account: Account) -> stripe.Customer:
    return account.customer()


@pytest.fixture
def invoice(
    account: Account, price: stripe.Price, payer: stripe.Customer
) -> stripe.Invoice:
    """An open invoice of $10.00 without automatic collection."""
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


def test_a_card_payment_is_listed_among_the_invoice_payments(account, payer, invoice):
    card = attach(account, payer, "pm_card_visa")
    account.api.v1.invoices.pay(invoice.id, {"payment_method": card})

    payments = account.api.v1.invoice_payments.list({"invoice": invoice.id}).data

    paid = [payment for payment in payments if payment.status == "paid"]
    assert [(payment.amount_paid, payment.payment.type) for payment in paid] == [
        (1_000, "payment_intent")
    ]


def test_the_intent_of_an_open_invoice_requires_a_payment_method(account, invoice):
    [payment] = account.api.v1.invoice_payments.list({"invoice": invoice.id}).data

    intent = account.api.v1.payment_intents.retrieve(payment.payment.payment_intent)
    assert (intent.status, intent.payment_method) == ("requires_payment_method", None)
    assert not hasattr(payment.payment, "charge")


def test_a_payment_out_of_band_leaves_no_paid_payment_intent(account, invoice):
    account.api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    payments = account.api.v1.invoice_payments.list({"invoice": invoice.id}).data

    assert not [
        payment
        for payment in payments
        if payment.status == "paid" and payment.payment.type == "payment_intent"
    ]


def test_the_answer_to_a_payment_can_include_all_payments(account, invoice):
    paid = account.api.v1.invoices.pay(
        invoice.id, {"paid_out_of_band": True, "expand": ["payments"]}
    )

    listed = account.api.v1.invoice_payments.list({"invoice": invoice.id}).data
    assert not paid.payments.has_more
    assert {each.id for each in paid.payments.data} == {each.id for each in listed}


def test_a_declined_card_is_a_402_and_the_invoice_stays_open(account, payer, invoice):
    card = attach(account, payer, "pm_card_chargeCustomerFail")

    with pytest.raises(stripe.CardError) as declined:
        account.api.v1.invoices.pay(invoice.id, {"payment_method": card})

    after = account.api.v1.invoices.retrieve(invoice.id)
    assert (declined.value.http_status, declined.value.code) == (402, "card_declined")
    assert declined.value.error is not None
    assert declined.value.error.decline_code
    assert (after.status, after.amount_remaining) == ("open", 1_000)


def test_a_decline_is_replayed_for_its_idempotency_key(account, payer, invoice):
    card = attach(account, payer, "pm_card_chargeCustomerFail")
    options: stripe.RequestOptions = {"idempotency_key": str(uuid.uuid4())}

    for is_replay in (False, True):
        with pytest.raises(stripe.CardError) as declined:
            account.api.v1.invoices.pay(invoice.id, {"payment_method": card}, options)
        assert contract_builders.is_replayed(declined.value) is is_replay

    attempts = account.api.v1.invoices.retrieve(invoice.id).attempt_count
    assert attempts == 1


def test_another_card_can_be_tried_after_a_decline(account, payer, invoice):
    declining = attach(account, payer, "pm_card_chargeCustomerFail")
    good = attach(account, payer, "pm_card_visa")
    with pytest.raises(stripe.CardError):
        account.api.v1.invoices.pay(invoice.id, {"payment_method": declining})

    paid = account.api.v1.invoices.pay(invoice.id, {"payment_method": good})

    assert paid.status == "paid"


def test_a_card_that_requires_authentication_is_a_402_and_the_invoice_stays_open(
    account, payer, invoice
):
    card = attach(account, payer, "pm_card_authenticationRequired")

    with pytest.raises(stripe.CardError) as error:
        account.api.v1.invoices.pay(
            invoice.id, {"payment_method": card, "off_session": True}
        )

    assert error.value.http_status == 402
    assert error.value.code in (
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

    page = account.api.v1.payment_methods.list({"customer": payer.id, "type": "card"})

    assert {method.id for method in page.data} == {first, second}


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

    events = account.eventually(
        lambda: (
            contract_builders.about(
                card,
                contract_builders.events(
                    account, "payment_method.detached", since=since
                ),
            )
            or None
        )
    )
    assert detached.customer is None
    assert events[0].data.object.customer is None
    assert events[0].data.previous_attributes["customer"] == payer.id
