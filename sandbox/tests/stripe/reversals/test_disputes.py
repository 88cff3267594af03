"""Disputes: money taken and returned, evidence, inquiries, events, refusals.

Sources: docs.stripe.com/disputes/how-disputes-work; docs.stripe.com/disputes/api;
docs.stripe.com/testing (test cards and evidence); probes of test mode by others:
refunds during a chargeback and an inquiry.
"""

import pytest
import stripe

from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY, HOUR
from sandbox.tests.support.stripe.control import control


@pytest.fixture
def charge(api):
    return builders.paid_charge(api)


@pytest.fixture
def open_dispute(stripe_sandbox, charge):
    """Function that opens a dispute of the charge and returns its id."""

    def open_dispute(**fields):
        path = f"charges/{charge.id}/dispute"
        status, dispute = control(stripe_sandbox, "POST", path, fields)
        assert status == 200
        return dispute["id"]

    return open_dispute


def close(sandbox, dispute, outcome):
    path, body = f"disputes/{dispute}/close", {"outcome": outcome}
    return control(sandbox, "POST", path, body)[0]


def moved(dispute):
    """Return the amounts that a dispute has moved on the account's balance."""
    return [item.amount for item in dispute.balance_transactions]


def test_dispute_takes_the_money_and_leaves_the_invoice_paid(api, charge, open_dispute):
    before = builders.latest_event(api)

    id = open_dispute(reason="subscription_canceled")

    dispute = api.v1.disputes.retrieve(id)
    assert (dispute.status, dispute.reason, dispute.amount) == (
        "needs_response",
        "subscription_canceled",
        1_000,
    )
    assert (moved(dispute), dispute.is_charge_refundable) == ([-1_000], False)
    assert api.v1.charges.retrieve(charge.id).disputed
    assert builders.invoice_of(api, charge).status == "paid"
    assert builders.types_since(api, before) == [
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
    ]


def test_dispute_says_until_when_to_respond(api, stripe_sandbox, open_dispute):
    dispute = api.v1.disputes.retrieve(open_dispute(days=14))

    left = dispute.evidence_details.due_by - stripe_sandbox.now()

    assert 14 * DAY <= left < 15 * DAY


@pytest.mark.parametrize(
    ("outcome", "amounts", "events"),
    [
        ("lost", [-1_000], ["closed"]),
        ("won", [-1_000, 1_000], ["closed", "funds_reinstated"]),
    ],
)
def test_closed_dispute_keeps_or_returns_the_money(
    api, stripe_sandbox, charge, open_dispute, outcome, amounts, events
):
    id = open_dispute()
    before = builders.latest_event(api)

    status = close(stripe_sandbox, id, outcome)

    dispute = api.v1.disputes.retrieve(id)
    assert (status, dispute.status, moved(dispute)) == (200, outcome, amounts)
    assert api.v1.charges.retrieve(charge.id).disputed
    assert builders.types_since(api, before) == [
        f"charge.dispute.{event}" for event in events
    ]
    assert close(stripe_sandbox, id, outcome) == 400


def test_dispute_without_a_response_is_lost(api, stripe_sandbox, open_dispute):
    id = open_dispute(days=7)

    stripe_sandbox.advance(8 * DAY)

    assert api.v1.disputes.retrieve(id).status == "lost"


def test_accepted_dispute_is_lost(api, open_dispute):
    id = open_dispute()

    assert api.v1.disputes.close(id).status == "lost"

    with pytest.raises(stripe.InvalidRequestError):
        api.v1.disputes.close(id)


@pytest.mark.parametrize(
    ("evidence", "status"),
    [
        ("winning_evidence", "won"),
        ("losing_evidence", "lost"),
        ("a receipt", "under_review"),
    ],
)
def test_evidence_is_reviewed(api, stripe_sandbox, open_dispute, evidence, status):
    id = open_dispute()
    before = builders.latest_event(api)

    submitted = api.v1.disputes.update(
        id, {"evidence": {"uncategorized_text": evidence}}
    )

    details = submitted.evidence_details
    assert (submitted.status, details.has_evidence) == ("under_review", True)
    assert (details.submission_count, details.past_due) == (1, False)
    assert builders.types_since(api, before) == ["charge.dispute.updated"]
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.disputes.update(id, {"evidence": {"customer_name": "Ann"}})
    stripe_sandbox.advance(30 * DAY)
    assert api.v1.disputes.retrieve(id).status == status


def test_staged_evidence_is_submitted_later(api, open_dispute):
    id = open_dispute()

    staged = api.v1.disputes.update(
        id, {"evidence": {"customer_name": "Ann"}, "submit": False}
    )
    submitted = api.v1.disputes.update(id, {"submit": True})

    assert (staged.status, staged.evidence_details.submission_count) == (
        "needs_response",
        0,
    )
    assert (submitted.status, submitted.evidence.customer_name) == (
        "under_review",
        "Ann",
    )


def test_disputed_charge_is_not_refunded_until_the_dispute_is_won(
    api, stripe_sandbox, charge, open_dispute
):
    id = open_dispute()

    with pytest.raises(stripe.InvalidRequestError, match="charged back") as error:
        api.v1.refunds.create({"charge": charge.id})

    close(stripe_sandbox, id, "won")
    assert error.value.code == "charge_disputed"
    assert api.v1.refunds.create({"charge": charge.id}).amount == 1_000


def test_inquiry_takes_nothing_and_allows_a_refund(
    api, stripe_sandbox, charge, open_dispute
):
    id = open_dispute(kind="inquiry")

    refund = api.v1.refunds.create({"charge": charge.id})

    dispute = api.v1.disputes.retrieve(id)
    assert (dispute.status, moved(dispute)) == ("warning_needs_response", [])
    assert refund.status == "succeeded"
    assert close(stripe_sandbox, id, "lost") == 400
    assert close(stripe_sandbox, id, "warning_closed") == 200


def test_inquiry_ends_after_120_days(api, stripe_sandbox, open_dispute):
    id = open_dispute(kind="inquiry")

    stripe_sandbox.advance(120 * DAY)

    assert api.v1.disputes.retrieve(id).status == "warning_closed"


def test_escalated_inquiry_takes_the_money_and_fails_the_refund(
    api, stripe_sandbox, charge, open_dispute
):
    id = open_dispute(kind="inquiry")
    refund = api.v1.refunds.create({"charge": charge.id})

    control(stripe_sandbox, "POST", f"disputes/{id}/escalate", {})

    dispute, failed = api.v1.disputes.retrieve(id), api.v1.refunds.retrieve(refund.id)
    assert (dispute.status, moved(dispute)) == ("needs_response", [-1_000])
    assert (failed.status, failed.failure_reason) == (
        "failed",
        "charge_for_pending_refund_disputed",
    )


def test_impossible_disputes_are_refused(api, stripe_sandbox, charge, open_dispute):
    path = f"charges/{charge.id}/dispute"
    too_much, _ = control(stripe_sandbox, "POST", path, {"amount": 1_001})
    unknown, _ = control(stripe_sandbox, "POST", "charges/ch_none/dispute", {})
    no_reason, _ = control(stripe_sandbox, "POST", path, {"reason": "mood"})
    open_dispute()

    twice, _ = control(stripe_sandbox, "POST", path, {})

    assert (too_much, unknown, no_reason, twice) == (400, 404, 400, 400)


def test_disputes_are_listed_by_charge_and_payment_intent(api, charge, open_dispute):
    id = open_dispute()

    by_charge = api.v1.disputes.list({"charge": charge.id, "expand": ["data.charge"]})
    by_intent = api.v1.disputes.list({"payment_intent": charge.payment_intent})

    assert [(item.id, item.charge.id) for item in by_charge.data] == [(id, charge.id)]
    assert [item.id for item in by_intent.data] == [id]
    assert api.v1.disputes.list({"charge": "ch_none"}).data == []


@pytest.mark.parametrize(
    ("card", "reason", "status"),
    [
        ("pm_card_createDispute", "fraudulent", "needs_response"),
        (
            "pm_card_createDisputeProductNotReceived",
            "product_not_received",
            "needs_response",
        ),
        ("pm_card_createDisputeInquiry", "general", "warning_needs_response"),
    ],
)
def test_test_card_disputes_its_charges(api, stripe_sandbox, card, reason, status):
    charge = builders.paid_charge(api, card)

    stripe_sandbox.advance(60)

    dispute = api.v1.disputes.list({"charge": charge.id}).data[0]
    assert (dispute.reason, dispute.status) == (reason, status)


def test_early_fraud_warning_is_actionable_until_the_refund(api, stripe_sandbox):
    charge = builders.paid_charge(api, "pm_card_createIssuerFraudRecord")
    before = builders.latest_event(api)
    stripe_sandbox.advance(60)

    warning = api.v1.radar.early_fraud_warnings.list({"charge": charge.id}).data[0]
    api.v1.refunds.create({"charge": charge.id})

    after = api.v1.radar.early_fraud_warnings.retrieve(warning.id)
    types = builders.types_since(api, before)
    assert (warning.actionable, after.actionable) == (True, False)
    assert [type for type in types if type.startswith("radar.")] == [
        "radar.early_fraud_warning.created",
        "radar.early_fraud_warning.updated",
    ]


def test_control_issues_an_early_fraud_warning(stripe_sandbox, charge):
    path = f"charges/{charge.id}/early_fraud_warning"

    _, warning = control(
        stripe_sandbox, "POST", path, {"fraud_type": "made_with_lost_card"}
    )

    assert warning["fraud_type"] == "made_with_lost_card"
    assert warning["payment_intent"] == charge.payment_intent


@pytest.mark.parametrize(
    ("after_dispute", "amount", "status", "reason", "scheduled"),
    [
        ("nothing", None, "active", None, False),
        ("cancel", None, "canceled", "payment_disputed", False),
        ("cancel", 999, "active", None, False),
        ("cancel_at_period_end", None, "active", "payment_disputed", True),
    ],
)
def test_subscription_of_a_disputed_payment_ends_if_the_account_wants_it(
    api,
    stripe_sandbox,
    charge,
    open_dispute,
    after_dispute,
    amount,
    status,
    reason,
    scheduled,
):
    stripe_sandbox.settings(after_dispute=after_dispute)
    parent = builders.invoice_of(api, charge).parent
    open_dispute(**({"amount": amount} if amount else {}))

    stripe_sandbox.advance(HOUR)

    subscription = api.v1.subscriptions.retrieve(
        parent.subscription_details.subscription
    )
    assert subscription.status == status
    assert subscription.cancellation_details.reason == reason
    assert subscription.cancel_at_period_end is scheduled


def test_subscription_that_ends_later_keeps_the_reason(
    api, stripe_sandbox, charge, open_dispute
):
    stripe_sandbox.settings(after_dispute="cancel_at_period_end")
    parent = builders.invoice_of(api, charge).parent
    open_dispute()

    stripe_sandbox.advance(32 * DAY)

    subscription = api.v1.subscriptions.retrieve(
        parent.subscription_details.subscription
    )
    assert (subscription.status, subscription.cancellation_details.reason) == (
        "canceled",
        "payment_disputed",
    )


def test_test_card_does_not_dispute_a_charge_twice(api, stripe_sandbox):
    charge = builders.paid_charge(api, "pm_card_createDispute")
    control(stripe_sandbox, "POST", f"charges/{charge.id}/dispute", {"amount": 1})

    stripe_sandbox.advance(60)

    amounts = [item.amount for item in api.v1.disputes.list({"charge": charge.id})]
    assert amounts == [1]
