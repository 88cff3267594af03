"""Cards that staff, their owner or the network change in place.

Sources: docs.stripe.com/api/payment_methods/update,
docs.stripe.com/payments/cards/overview (automatic card updates).
"""

from typing import Any

import pytest
import stripe

from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.control import control


def test_reissued_card_has_another_number_and_can_be_charged(stripe_sandbox, api):
    payer, method = builders.paying_customer(api, "pm_card_chargeCustomerFail")
    invoice = builders.open_invoice(api, payer)
    builders.pay_error(api, invoice.id)

    path = f"payment_methods/{method.id}/reissue"
    control(stripe_sandbox, "POST", path, {"card": "pm_card_visa"})

    assert method.card
    reissued: Any = api.v1.payment_methods.retrieve(method.id)
    event = api.v1.events.list({"type": "payment_method.automatically_updated"}).data[0]
    previous = event.data.previous_attributes["card"]
    assert previous.to_dict() == {
        "fingerprint": method.card.fingerprint,
        "last4": "0341",
    }
    assert reissued.card.fingerprint != method.card.fingerprint
    assert api.v1.invoices.pay(invoice.id).status == "paid"


def test_expiry_of_a_card_can_be_corrected(api):
    _, method = builders.paying_customer(api)

    card = {"exp_month": 1, "exp_year": 2040}
    updated = api.v1.payment_methods.update(
        method.id, {"card": card, "billing_details": {"name": "Ann"}}
    )

    event = api.v1.events.list({"type": "payment_method.updated"}).data[0]
    assert (updated.card.exp_year, updated.billing_details.name) == (2_040, "Ann")
    assert event.data.previous_attributes["billing_details"].name is None


def test_detached_card_cannot_be_updated(api):
    _, method = builders.paying_customer(api)
    api.v1.payment_methods.detach(method.id)

    with pytest.raises(stripe.InvalidRequestError):
        api.v1.payment_methods.update(method.id, {"card": {"exp_month": 1}})


def test_changed_default_names_the_previous_one(api):
    payer, method = builders.paying_customer(api)
    builders.card(api, payer.id, "pm_card_mastercard")

    event = api.v1.events.list({"type": "customer.updated"}).data[0]

    previous = event.data.previous_attributes
    assert list(previous.to_dict()) == ["invoice_settings"]
    assert previous["invoice_settings"].default_payment_method == method.id


def test_another_card_replaces_a_pending_challenge(api):
    payer, _ = builders.paying_customer(api, "pm_card_authenticationRequired")
    invoice = builders.open_invoice(api, payer)
    builders.pay_error(api, invoice.id)
    challenged = builders.intent_of(api, invoice.id)
    other = api.v1.payment_methods.attach("pm_card_visa", {"customer": payer.id})

    paid = api.v1.invoices.pay(invoice.id, {"payment_method": other.id})

    intent = builders.intent_of(api, invoice.id)
    assert (challenged.status, paid.status) == ("requires_action", "paid")
    assert (intent.id, intent.payment_method) == (challenged.id, other.id)


def test_declined_card_ends_a_pending_challenge(api):
    payer, _ = builders.paying_customer(api, "pm_card_authenticationRequired")
    invoice = builders.open_invoice(api, payer)
    builders.pay_error(api, invoice.id)
    other = builders.card(api, payer.id, "pm_card_chargeCustomerFail")

    builders.pay_error(api, invoice.id, payment_method=other.id)

    intent = builders.intent_of(api, invoice.id)
    assert (intent.status, intent.next_action) == ("requires_payment_method", None)


def test_replaced_challenge_of_the_hosted_page_cannot_be_completed(stripe_sandbox, api):
    payer, method = builders.paying_customer(api)
    invoice = builders.open_invoice(api, payer)
    card = {"card": "pm_card_authenticationRequired"}
    control(stripe_sandbox, "POST", f"invoices/{invoice.id}/pay", card)
    challenged = builders.intent_of(api, invoice.id)
    api.v1.invoices.pay(invoice.id, {"payment_method": method.id})

    path = f"payment_intents/{challenged.id}/authenticate"
    status, _ = control(stripe_sandbox, "POST", path, {"outcome": "succeeded"})

    charges = api.v1.charges.list({"payment_intent": challenged.id}).data
    assert (challenged.status, status) == ("requires_action", 400)
    assert [charge.payment_method for charge in charges] == [method.id]
