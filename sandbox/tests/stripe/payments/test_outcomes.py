"""Outcomes of charges: scripts and 3D Secure challenges."""

import pytest

from sandbox.tests.support.stripe import builders

SUCCESS = [
    "charge.succeeded",
    "payment_intent.succeeded",
    "invoice.updated",
    "invoice.paid",
    "invoice.payment_succeeded",
    "invoice_payment.paid",
]
CHALLENGE = "pm_card_authenticationRequired"


@pytest.mark.parametrize("off_session", [True, False])
def test_challenge_leaves_intent_in_requires_action(api, off_session):
    payer, card = builders.paying_customer(api, CHALLENGE)
    invoice = builders.open_invoice(api, payer)
    mark = builders.latest_event(api)

    error = builders.pay_error(api, invoice.id, off_session=off_session)

    intent = builders.intent_of(api, invoice.id)
    assert error.code == "invoice_payment_intent_requires_action"
    assert builders.error_of(error)["payment_intent"]["status"] == "requires_action"
    assert (intent.status, intent.payment_method) == ("requires_action", card.id)
    assert intent.next_action.type == "use_stripe_sdk"
    assert intent.latest_charge is None
    assert builders.types_since(api, mark) == [
        "payment_intent.requires_action",
        "invoice.updated",
        "invoice.payment_action_required",
        "invoice.payment_failed",
    ]


def test_passed_challenge_pays_invoice(api, act):
    payer, _ = builders.paying_customer(api, CHALLENGE)
    invoice = builders.open_invoice(api, payer)
    builders.pay_error(api, invoice.id)
    intent = builders.intent_of(api, invoice.id).id
    mark = builders.latest_event(api)

    status, result = act(f"payment_intents/{intent}/authenticate", outcome="succeeded")

    assert (status, result["invoice"]["status"]) == (200, "paid")
    assert result["payment_intent"]["status"] == "succeeded"
    charge = api.v1.charges.retrieve(result["payment_intent"]["latest_charge"])
    details = charge.payment_method_details.card.three_d_secure
    assert details.result == "authenticated"
    assert builders.types_since(api, mark) == SUCCESS
    assert act(f"payment_intents/{intent}/authenticate", outcome="failed")[0] == 400


def test_failed_challenge_leaves_invoice_open(api, act):
    payer, _ = builders.paying_customer(api, CHALLENGE)
    invoice = builders.open_invoice(api, payer)
    builders.pay_error(api, invoice.id)
    intent = builders.intent_of(api, invoice.id).id

    _, result = act(f"payment_intents/{intent}/authenticate", outcome="failed")

    failed = result["payment_intent"]
    assert failed["status"] == "requires_payment_method"
    assert failed["last_payment_error"]["code"] == (
        "payment_intent_authentication_failure"
    )
    assert result["invoice"]["status"] == "open"
    assert builders.event_types(api)[-1] == "invoice.payment_failed"


def test_charge_can_be_declined_after_passed_challenge(api, act):
    name = "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds"
    payer, _ = builders.paying_customer(api, name)
    invoice = builders.open_invoice(api, payer)
    builders.pay_error(api, invoice.id)
    intent = builders.intent_of(api, invoice.id).id

    _, result = act(f"payment_intents/{intent}/authenticate", outcome="succeeded")

    error = result["payment_intent"]["last_payment_error"]
    assert (result["invoice"]["status"], error["decline_code"]) == (
        "open",
        "insufficient_funds",
    )


@pytest.mark.parametrize(
    ("name", "set_up", "off_session", "challenged"),
    [
        ("pm_card_authenticationRequiredOnSetup", False, True, True),
        ("pm_card_authenticationRequiredOnSetup", False, False, True),
        ("pm_card_authenticationRequiredOnSetup", True, True, False),
        ("pm_card_authenticationRequiredOnSetup", True, False, True),
        ("pm_card_authenticationRequiredSetupForOffSession", False, True, False),
        ("pm_card_authenticationRequiredSetupForOffSession", False, False, True),
        (CHALLENGE, True, True, True),
    ],
)
def test_card_and_session_decide_whether_challenge_is_required(
    api, act, name, set_up, off_session, challenged
):
    payer = builders.customer(api)
    if set_up:
        act(f"customers/{payer.id}/cards", card=name)
    else:
        builders.card(api, payer.id, name)
    invoice = builders.open_invoice(api, payer)

    if challenged:
        error = builders.pay_error(api, invoice.id, off_session=off_session)
        assert error.code == "invoice_payment_intent_requires_action"
    else:
        paid = api.v1.invoices.pay(invoice.id, {"off_session": off_session})
        assert paid.status == "paid"


def test_challenge_is_refused_after_out_of_band_payment(api, act):
    payer, _ = builders.paying_customer(api, CHALLENGE)
    invoice = builders.open_invoice(api, payer)
    builders.pay_error(api, invoice.id)
    api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    status, result = act(
        f"payment_intents/{builders.intent_of(api, invoice.id).id}/authenticate",
        outcome="succeeded",
    )

    assert status == 400
    assert "canceled" in result["error"]


def test_script_of_invoice_precedes_subscription_and_customer(api):
    payer, _ = builders.paying_customer(
        api, "pm_card_chargeCustomerFail", metadata={"sandbox_outcome": "lost_card"}
    )

    def decline_code(invoice):
        return builders.error_of(builders.pay_error(api, invoice))["decline_code"]

    by_customer = builders.open_invoice(api, payer)
    by_subscription = builders.open_invoice(
        api, payer, metadata={"sandbox_outcome": "insufficient_funds"}
    )
    by_invoice = builders.open_invoice(
        api, payer, metadata={"sandbox_outcome": "insufficient_funds"}
    )
    api.v1.invoices.update(by_invoice.id, {"metadata": {"sandbox_outcome": "succeed"}})

    assert decline_code(by_customer.id) == "lost_card"
    assert decline_code(by_subscription.id) == "insufficient_funds"
    assert api.v1.invoices.pay(by_invoice.id).status == "paid"


def test_script_advances_one_step_per_attempt(api):
    script = "card_declined, requires_action,succeed"
    payer, _ = builders.paying_customer(api, metadata={"sandbox_outcome": script})
    first, second = builders.open_invoice(api, payer), builders.open_invoice(api, payer)

    codes = [builders.pay_error(api, first.id).code for _ in range(2)]

    assert codes == ["card_declined", "invoice_payment_intent_requires_action"]
    assert api.v1.invoices.pay(first.id).status == "paid"
    assert api.v1.invoices.pay(second.id).status == "paid"


def test_changed_script_starts_at_first_step(api):
    payer, _ = builders.paying_customer(
        api, "pm_card_visa", metadata={"sandbox_outcome": "card_declined,succeed"}
    )
    invoice = builders.open_invoice(api, payer)
    builders.pay_error(api, invoice.id)

    api.v1.customers.update(
        payer.id, {"metadata": {"sandbox_outcome": "lost_card,succeed"}}
    )

    assert (
        builders.error_of(builders.pay_error(api, invoice.id))["decline_code"]
        == "lost_card"
    )
