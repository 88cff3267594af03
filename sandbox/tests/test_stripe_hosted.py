"""What people do on Stripe's own pages: paying an invoice, saving a card."""

import pytest
import stripe

from sandbox.tests.support import stripe_builders as story

CHALLENGE = "pm_card_authenticationRequired"


def test_only_the_first_attempt_of_a_person_counts(api):
    payer, _ = story.paying_customer(api, "pm_card_chargeCustomerFail")
    invoice = story.open_invoice(api, payer)

    for _ in range(3):
        story.pay_error(api, invoice.id)

    assert api.v1.invoices.retrieve(invoice.id).attempt_count == 1
    assert story.event_types(api).count("invoice.payment_failed") == 3


@pytest.mark.parametrize("card", ["pm_card_visa", "4242 4242 4242 4242"])
def test_a_person_pays_on_the_hosted_page(api, act, card):
    invoice = story.open_invoice(api)

    status, answer = act(f"invoices/{invoice.id}/pay", card=card)

    assert (status, answer["invoice"]["status"]) == (200, "paid")
    assert answer["payment_intent"]["status"] == "succeeded"
    assert api.v1.payment_methods.list({"customer": invoice.customer}).data == []


def test_a_decline_on_the_hosted_page_is_kept(api, act):
    invoice = story.open_invoice(api)

    status, answer = act(f"invoices/{invoice.id}/pay", card="pm_card_chargeDeclined")

    error = answer["payment_intent"]["last_payment_error"]
    assert (status, error["code"]) == (200, "card_declined")
    assert api.v1.invoices.retrieve(invoice.id).attempted
    assert "invoice.payment_failed" in story.event_types(api)


@pytest.mark.parametrize(
    ("challenge", "status"),
    [
        ({}, "open"),
        ({"challenge": "failed"}, "open"),
        ({"challenge": "succeeded"}, "paid"),
    ],
)
def test_a_challenge_on_the_hosted_page(api, act, challenge, status):
    invoice = story.open_invoice(api)

    _, answer = act(f"invoices/{invoice.id}/pay", card=CHALLENGE, **challenge)

    assert answer["invoice"]["status"] == status


def test_a_person_saves_a_card_in_the_portal(api, act):
    payer = story.customer(api)

    status, answer = act(f"customers/{payer.id}/cards", card="pm_card_mastercard")

    card = answer["payment_method"]
    settings = api.v1.customers.retrieve(payer.id).invoice_settings
    assert (status, card["customer"]) == (200, payer.id)
    assert settings.default_payment_method == card["id"]
    assert story.event_types(api)[-2:] == [
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
def test_what_a_person_cannot_do_changes_nothing(api, act, path, body, status):
    invoice = story.open_invoice(api)
    intent = story.intent_of(api, invoice.id).id
    before = story.event_types(api)

    answered, answer = act(
        path.format(invoice=invoice.id, customer=invoice.customer, intent=intent),
        **body,
    )

    assert answered == status
    assert answer["error"]
    assert story.event_types(api) == before


def test_a_paid_invoice_is_not_paid_again(api, act):
    invoice = story.open_invoice(api)
    act(f"invoices/{invoice.id}/pay", card="pm_card_visa")

    status, answer = act(f"invoices/{invoice.id}/pay", card="pm_card_visa")

    assert (status, answer["error"]) == (400, "Invoice is already paid")
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.v1.invoices.pay(invoice.id)
    assert (caught.value.code, caught.value.user_message) == (None, answer["error"])
