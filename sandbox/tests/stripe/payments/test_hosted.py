"""Control actions for Stripe's hosted pages: paying an invoice, saving a card."""

import pytest
import stripe

from sandbox.tests.support.stripe import builders

CHALLENGE = "pm_card_authenticationRequired"


def test_only_first_manual_attempt_is_counted(api):
    payer, _ = builders.paying_customer(api, "pm_card_chargeCustomerFail")
    invoice = builders.open_invoice(api, payer)

    for _ in range(3):
        builders.pay_error(api, invoice.id)

    assert api.v1.invoices.retrieve(invoice.id).attempt_count == 1
    assert builders.event_types(api).count("invoice.payment_failed") == 3


@pytest.mark.parametrize("card", ["pm_card_visa", "4242 4242 4242 4242"])
def test_payer_pays_on_hosted_page_by_card_name_or_number(api, act, card):
    invoice = builders.open_invoice(api)

    status, result = act(f"invoices/{invoice.id}/pay", card=card)

    assert (status, result["invoice"]["status"]) == (200, "paid")
    assert result["payment_intent"]["status"] == "succeeded"
    assert api.v1.payment_methods.list({"customer": invoice.customer}).data == []


def test_decline_on_hosted_page_is_stored(api, act):
    invoice = builders.open_invoice(api)

    status, result = act(f"invoices/{invoice.id}/pay", card="pm_card_chargeDeclined")

    error = result["payment_intent"]["last_payment_error"]
    assert (status, error["code"]) == (200, "card_declined")
    assert api.v1.invoices.retrieve(invoice.id).attempted
    assert "invoice.payment_failed" in builders.event_types(api)


@pytest.mark.parametrize(
    ("challenge", "status"),
    [
        ({}, "open"),
        ({"challenge": "failed"}, "open"),
        ({"challenge": "succeeded"}, "paid"),
    ],
)
def test_challenge_outcome_decides_payment_on_hosted_page(api, act, challenge, status):
    invoice = builders.open_invoice(api)

    _, result = act(f"invoices/{invoice.id}/pay", card=CHALLENGE, **challenge)

    assert result["invoice"]["status"] == status


def test_card_saved_in_portal_becomes_default(api, act):
    payer = builders.customer(api)

    status, result = act(f"customers/{payer.id}/cards", card="pm_card_mastercard")

    card = result["payment_method"]
    settings = api.v1.customers.retrieve(payer.id).invoice_settings
    assert (status, card["customer"]) == (200, payer.id)
    assert settings.default_payment_method == card["id"]
    assert builders.event_types(api)[-2:] == [
        "payment_method.attached",
        "customer.updated",
    ]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("invoices/in_x/pay", {"card": "pm_card_visa"}, 404),
        ("invoices/{invoice}/pay", {}, 400),
        ("invoices/{invoice}/pay", {"card": "1234"}, 402),
        (
            "invoices/{invoice}/pay",
            {"card": "pm_card_visa", "challenge": "perhaps"},
            400,
        ),
        ("customers/{customer}/cards", {"card": "pm_card_chargeDeclined"}, 402),
        ("customers/cus_x/cards", {"card": "pm_card_visa"}, 404),
        ("payment_intents/pi_x/authenticate", {"outcome": "succeeded"}, 404),
        ("payment_intents/{intent}/authenticate", {"outcome": "succeeded"}, 400),
        ("payment_intents/{intent}/authenticate", {}, 400),
    ],
)
def test_refused_customer_action_changes_nothing(api, act, path, body, status):
    invoice = builders.open_invoice(api)
    intent = builders.intent_of(api, invoice.id).id
    before = builders.event_types(api)

    actual_status, result = act(
        path.format(invoice=invoice.id, customer=invoice.customer, intent=intent),
        **body,
    )

    assert actual_status == status
    assert result["error"]
    assert builders.event_types(api) == before


def test_paid_invoice_cannot_be_paid_again(api, act):
    invoice = builders.open_invoice(api)
    act(f"invoices/{invoice.id}/pay", card="pm_card_visa")

    status, result = act(f"invoices/{invoice.id}/pay", card="pm_card_visa")

    assert (status, result["error"]) == (400, "Invoice is already paid")
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.v1.invoices.pay(invoice.id)
    assert (caught.value.code, caught.value.user_message) == (None, result["error"])
