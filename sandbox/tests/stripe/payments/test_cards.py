"""Cards: creating, attaching, detaching, defaults."""

import pytest
import stripe

from sandbox.tests.support.stripe import builders

DEFAULT = "invoice_settings[default_payment_method]"


def attach(api, owner, name="pm_card_visa"):
    return api.v1.payment_methods.attach(name, {"customer": owner})


def test_attaching_card_by_name_creates_payment_method(api):
    payer = builders.customer(api)

    first, second = attach(api, payer.id), attach(api, payer.id)

    assert first.id.startswith("pm_")
    assert first.id != second.id
    assert first.customer == payer.id
    assert (first.card.brand, first.card.last4) == ("visa", "4242")
    assert first.card.fingerprint == second.card.fingerprint
    assert builders.event_types(api)[-1] == "payment_method.attached"


@pytest.mark.parametrize(
    ("name", "brand", "last4", "funding"),
    [
        ("pm_card_visa_debit", "visa", "5556", "debit"),
        ("pm_card_mastercard", "mastercard", "4444", "credit"),
        ("pm_card_mastercard_prepaid", "mastercard", "5100", "prepaid"),
        ("pm_card_amex", "amex", "0005", "credit"),
        ("pm_card_discover", "discover", "1117", "credit"),
        ("pm_card_unionpay", "unionpay", "0005", "credit"),
    ],
)
def test_card_name_sets_brand_last4_and_funding(api, name, brand, last4, funding):
    card = attach(api, builders.customer(api).id, name).card

    assert (card.brand, card.last4, card.funding) == (brand, last4, funding)


@pytest.mark.parametrize(
    ("name", "code", "decline_code", "advice_code"),
    [
        (
            "pm_card_visa_chargeDeclined",
            "card_declined",
            "generic_decline",
            "try_again_later",
        ),
        (
            "pm_card_chargeDeclined",
            "card_declined",
            "generic_decline",
            "try_again_later",
        ),
        (
            "pm_card_visa_chargeDeclinedInsufficientFunds",
            "card_declined",
            "insufficient_funds",
            "try_again_later",
        ),
        (
            "pm_card_visa_chargeDeclinedLostCard",
            "card_declined",
            "lost_card",
            "do_not_try_again",
        ),
        (
            "pm_card_visa_chargeDeclinedStolenCard",
            "card_declined",
            "stolen_card",
            "do_not_try_again",
        ),
        (
            "pm_card_visa_chargeDeclinedVelocityLimitExceeded",
            "card_declined",
            "card_velocity_exceeded",
            "try_again_later",
        ),
        (
            "pm_card_chargeDeclinedExpiredCard",
            "expired_card",
            None,
            "confirm_card_data",
        ),
        (
            "pm_card_chargeDeclinedIncorrectCvc",
            "incorrect_cvc",
            None,
            "confirm_card_data",
        ),
        (
            "pm_card_chargeDeclinedProcessingError",
            "processing_error",
            None,
            "try_again_later",
        ),
    ],
)
def test_declining_card_cannot_be_attached(api, name, code, decline_code, advice_code):
    payer = builders.customer(api)

    with pytest.raises(stripe.CardError) as caught:
        attach(api, payer.id, name)

    error = builders.error_of(caught.value)
    assert caught.value.http_status == 402
    assert (error["type"], error["code"]) == ("card_error", code)
    assert error.get("decline_code") == decline_code
    assert error["advice_code"] == advice_code
    assert api.v1.payment_methods.list({"customer": payer.id}).data == []


def test_attached_card_cannot_be_attached_to_another_customer(api):
    payer, other = builders.customer(api), builders.customer(api)
    card = attach(api, payer.id)

    second = attach(api, payer.id, card.id)
    with pytest.raises(stripe.InvalidRequestError, match="already been attached"):
        attach(api, other.id, card.id)

    assert second.to_dict() == card.to_dict()
    assert builders.event_types(api).count("payment_method.attached") == 1


@pytest.mark.parametrize(
    ("id", "customer", "status", "param"),
    [("pm_x", None, 404, "id"), ("pm_card_visa", "cus_x", 400, "customer")],
)
def test_attaching_fails_for_unknown_card_or_customer(api, id, customer, status, param):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        attach(api, customer or builders.customer(api).id, id)

    assert caught.value.code == "resource_missing"
    assert (caught.value.http_status, caught.value.param) == (status, param)


def test_detached_card_cannot_be_used_again(api):
    payer = builders.customer(api)
    card = attach(api, payer.id)

    detached = api.v1.payment_methods.detach(card.id)

    event = api.v1.events.list({"type": "payment_method.detached"}).data[0]
    assert detached.customer is None
    assert event.data.object.id == card.id
    assert event.data.previous_attributes.to_dict() == {"customer": payer.id}
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        attach(api, payer.id, card.id)
    with pytest.raises(stripe.InvalidRequestError, match="not attached"):
        api.v1.payment_methods.detach(card.id)
    assert api.v1.payment_methods.retrieve(card.id).customer is None


def test_detaching_card_clears_defaults_that_use_it(api):
    payer = builders.customer(api)
    card, other = builders.card(api, payer.id), attach(api, payer.id)
    own = builders.subscription(api, to=payer, default_payment_method=card.id)
    unrelated = builders.subscription(api, to=payer, default_payment_method=other.id)

    api.v1.payment_methods.detach(card.id)

    def default_of(subscription):
        return api.v1.subscriptions.retrieve(subscription.id).default_payment_method

    settings = api.v1.customers.retrieve(payer.id).invoice_settings
    assert settings.default_payment_method is None
    assert default_of(own) is None
    assert default_of(unrelated) == other.id
    assert builders.event_types(api)[-3:] == [
        "payment_method.detached",
        "customer.updated",
        "customer.subscription.updated",
    ]


def test_deleting_customer_detaches_its_cards(api):
    payer = builders.customer(api)
    card = builders.card(api, payer.id)

    api.v1.customers.delete(payer.id)

    assert api.v1.payment_methods.retrieve(card.id).customer is None
    assert builders.event_types(api)[-2:] == [
        "customer.deleted",
        "payment_method.detached",
    ]


def test_cards_are_listed_by_customer_and_type(api):
    payer, other = builders.customer(api), builders.customer(api)
    first, second = attach(api, payer.id), attach(api, payer.id)
    other_card = attach(api, other.id)
    methods = api.v1.payment_methods

    def ids(page):
        return [method.id for method in page.data]

    assert ids(methods.list({"customer": payer.id})) == [second.id, first.id]
    assert ids(methods.list({"customer": payer.id, "type": "card", "limit": 1})) == [
        second.id
    ]
    assert ids(methods.list({"customer": payer.id, "type": "link"})) == []
    assert ids(methods.list()) == [other_card.id, second.id, first.id]


@pytest.mark.parametrize("id", ["pm_x", "of_another_customer"])
def test_default_must_be_card_attached_to_customer(api, id):
    payer = builders.customer(api)
    subscription = builders.subscription(api, to=payer)
    if id == "of_another_customer":
        id = attach(api, builders.customer(api).id).id
    default = {"default_payment_method": id}
    # The trailing space makes the keys distinct.
    requests = {
        DEFAULT: lambda: api.v1.customers.update(
            payer.id, {"invoice_settings": default}
        ),
        "default_payment_method": lambda: api.v1.subscriptions.update(
            subscription.id, default
        ),
        "default_payment_method ": lambda: builders.subscription(
            api, to=payer, **default
        ),
        "payment_method": lambda: api.v1.invoices.pay(
            builders.first_invoice(api, subscription).id, {"payment_method": id}
        ),
    }

    for param, request in requests.items():
        with pytest.raises(stripe.InvalidRequestError) as caught:
            request()
        assert caught.value.code == "resource_missing"
        assert caught.value.param == param.strip()


def test_default_card_can_be_unset(api):
    payer = builders.customer(api)
    builders.card(api, payer.id)

    without = api.v1.customers.update(
        payer.id, {"invoice_settings": {"default_payment_method": ""}}
    )

    assert without.invoice_settings.default_payment_method is None
