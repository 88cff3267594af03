"""Refunds: amounts, events, refusals, and refunds that are pending or fail later.

Sources: docs.stripe.com/refunds; docs.stripe.com/testing (test cards for refunds).
"""

import pytest
import stripe

from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import HOUR
from sandbox.tests.support.stripe.control import control


def test_refund_gives_back_all_that_is_left_of_a_charge(api):
    charge = builders.paid_charge(api)
    first = api.v1.refunds.create({"charge": charge.id, "amount": 300})

    rest = api.v1.refunds.create({"payment_intent": charge.payment_intent})

    after = api.v1.charges.retrieve(charge.id)
    assert (first.amount, rest.amount) == (300, 700)
    assert (rest.status, rest.charge) == ("succeeded", charge.id)
    assert (after.amount_refunded, after.refunded) == (1_000, True)


def test_refund_emits_its_creation_and_a_change_of_the_charge(api):
    charge = builders.paid_charge(api)
    before = builders.latest_event(api)

    api.v1.refunds.create({"charge": charge.id, "amount": 300})

    assert builders.types_since(api, before) == ["refund.created", "charge.refunded"]
    refunded = api.v1.events.list({"type": "charge.refunded"}).data[0].data
    assert refunded.object.amount_refunded == 300
    assert refunded.previous_attributes.to_dict() == {"amount_refunded": 0}


def test_refund_leaves_the_invoice_as_it_is(api):
    charge = builders.paid_charge(api)
    before = builders.invoice_of(api, charge)

    api.v1.refunds.create({"charge": charge.id})

    after = api.v1.invoices.retrieve(before.id)
    assert after.to_dict() == before.to_dict()


def test_refunds_are_listed_by_charge_and_by_payment_intent(api):
    charge, other = builders.paid_charge(api), builders.paid_charge(api)
    refund = api.v1.refunds.create({"charge": charge.id, "amount": 1})
    api.v1.refunds.create({"charge": other.id})

    by_charge = api.v1.refunds.list({"charge": charge.id}).data
    by_intent = api.v1.refunds.list({"payment_intent": charge.payment_intent}).data
    expanded = api.v1.charges.retrieve(charge.id, {"expand": ["refunds"]}).refunds

    assert [item.id for item in by_charge] == [refund.id]
    assert [item.id for item in by_intent] == [refund.id]
    assert [item.id for item in expanded.data] == [refund.id]


@pytest.mark.parametrize(
    ("amounts", "code", "param"),
    [
        ([1_001], None, "amount"),
        ([600, 500], None, "amount"),
        ([1_000, 1], "charge_already_refunded", None),
    ],
)
def test_refund_of_more_than_is_left_is_refused(api, amounts, code, param):
    charge = builders.paid_charge(api)
    *possible, last = amounts
    for amount in possible:
        api.v1.refunds.create({"charge": charge.id, "amount": amount})

    with pytest.raises(stripe.InvalidRequestError) as error:
        api.v1.refunds.create({"charge": charge.id, "amount": last})

    assert (error.value.code, error.value.param) == (code, param)


def test_refund_without_a_successful_charge_is_refused(api):
    open_intent = builders.intent_of(api, builders.open_invoice(api).id)

    for params in ({}, {"payment_intent": open_intent.id}, {"charge": "ch_none"}):
        with pytest.raises(stripe.InvalidRequestError):
            api.v1.refunds.create(params)


def test_pending_refund_succeeds_later(api, stripe_sandbox):
    charge = builders.paid_charge(api, "pm_card_pendingRefund")
    refund = api.v1.refunds.create({"charge": charge.id})
    before = builders.latest_event(api)

    stripe_sandbox.advance(HOUR)

    after = api.v1.refunds.retrieve(refund.id)
    assert (refund.status, refund.pending_reason) == ("pending", "processing")
    assert (after.status, "pending_reason" in after) == ("succeeded", False)
    assert builders.types_since(api, before) == [
        "refund.updated",
        "charge.refund.updated",
    ]


def test_refund_that_seemed_to_succeed_fails_later(api, stripe_sandbox):
    charge = builders.paid_charge(api, "pm_card_refundFail")
    refund = api.v1.refunds.create({"charge": charge.id})
    before = builders.latest_event(api)

    stripe_sandbox.advance(HOUR)

    after = api.v1.refunds.retrieve(refund.id)
    assert refund.status == "succeeded"
    assert (after.status, after.failure_reason) == (
        "failed",
        "expired_or_canceled_card",
    )
    assert api.v1.charges.retrieve(charge.id).amount_refunded == 0
    assert builders.types_since(api, before) == [
        "refund.updated",
        "charge.refund.updated",
        "refund.failed",
    ]


def test_control_settles_a_refund_once(api, stripe_sandbox):
    charge = builders.paid_charge(api)
    refund = api.v1.refunds.create({"charge": charge.id})
    path, body = f"refunds/{refund.id}/settle", {"outcome": "failed"}

    status, failed = control(stripe_sandbox, "POST", path, body)
    again, _ = control(stripe_sandbox, "POST", path, body)

    assert (status, failed["status"], failed["failure_reason"]) == (
        200,
        "failed",
        "unknown",
    )
    assert again == 400
    assert api.v1.refunds.create({"charge": charge.id}).amount == 1_000


def test_changed_metadata_of_a_refund_is_an_event(api):
    refund = api.v1.refunds.create({"charge": builders.paid_charge(api).id})
    before = builders.latest_event(api)

    changed = api.v1.refunds.update(refund.id, {"metadata": {"ticket": "7"}})

    assert changed.metadata["ticket"] == "7"
    assert "refund.updated" in builders.types_since(api, before)
