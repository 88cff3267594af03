"""Disputed money is owed again for served time; nothing is credited or sold for it.

The invoice of $25 was paid by card; nine of its days were served when it is disputed.
"""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.exceptions import InvoiceNotPaid
from billing.models import (
    CardAttempt,
    Credit,
    InvoiceCollection,
    Reversal,
    Settlement,
)
from billing.services.collection import settlements
from billing.services.dunning.payment_block import (
    blocked_q,
    is_blocked,
    is_suspended,
    suspended_q,
)
from billing.services.dunning.suspension import tenants_to_review
from billing.services.events.process import HANDLERS
from billing.services.invoice_views.receipts import build_receipt
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.services.reversals import debts
from billing.services.reversals.debts import write_off_dispute_debt
from billing.services.reversals.discover import discover_reversals
from billing.services.subscriptions.sync import SyncOutcome
from billing.tests.support.collection import attach, collect
from billing.tests.support.reversals import (
    charge_of,
    close_dispute,
    deliver,
    deliver_all,
    dispute,
    new_events,
    pay_on_page,
    refund,
    settle_down,
    warn_of_fraud,
)
from billing.tests.support.subscriptions import all_subscriptions, finalize_drafts, sync
from lightning.services.invoice_status import check_invoice
from relays.exceptions import PaymentOverdue
from relays.models import Relay
from relays.services.lifecycle import change_plan, create_relay, deactivate_relay
from tenants.models import Notice, Tenant

pytestmark = pytest.mark.django_db


def served_cents(sandbox, collection):
    """Return the price of the days until the subscription of $25 ended."""
    (line,) = sandbox.client().v1.invoices.retrieve(collection.pk).lines.data
    (subscription,) = [
        each for each in all_subscriptions(sandbox) if each.status == "canceled"
    ]
    served = subscription.ended_at - line.period.start
    return round(2500 * served / (line.period.end - line.period.start))


def balance(sandbox, tenant):
    return sandbox.client().v1.customers.retrieve(tenant.stripe_customer_id).balance


def debt(collection):
    collection.refresh_from_db()
    return collection.dispute_debt_cents


def relay_of(tenant):
    return Relay.objects.get(tenant=tenant)


def end_by_dispute(sandbox, clock, charge):
    """Dispute a charge nine days after it; Stripe ends the subscription for it."""
    sandbox.settings(after_dispute="cancel")
    clock.move(days=9)
    opened = dispute(sandbox, charge)
    clock.move(hours=2)
    (ended,) = all_subscriptions(sandbox)
    assert ended.cancellation_details.reason == "payment_disputed"
    return opened


@pytest.fixture
def ended(sandbox, clock, payer, paid, charge):
    """The dispute that ended the subscription; nobody was told yet."""
    return end_by_dispute(sandbox, clock, charge)


@pytest.fixture
def settled_end(sandbox, payer, ended):
    """The same, after all events and syncs."""
    deliver_all(sandbox, HANDLERS)
    settle_down(payer)
    return ended


# --- Stripe ends the subscription


def test_disputed_payment_is_neither_credited_nor_charged_again(
    sandbox, clock, payer, paid, settled_end
):
    attach(sandbox, payer, "pm_card_mastercard")
    clock.move(days=40)
    settle_down(payer)

    assert not Credit.objects.exists()
    assert balance(sandbox, payer) == 0
    assert len(all_subscriptions(sandbox)) == 1
    assert CardAttempt.objects.count() == 1
    assert debt(paid) == served_cents(sandbox, paid)
    assert paid.state == "manual"


def test_relays_go_off_at_once_when_the_dispute_ended_the_subscription(
    payer, paid, settled_end
):
    assert relay_of(payer).status == "delinquent"
    assert is_suspended(payer) and is_blocked(payer)
    paid.refresh_from_db()
    assert paid.suspend_at <= timezone.now()
    with pytest.raises(PaymentOverdue):
        create_relay(tenant_id=payer.pk, subdomain="other", plan_id="basic")


@pytest.mark.parametrize("order", [1, -1])
def test_end_by_dispute_is_the_same_in_any_order_of_events(
    sandbox, payer, paid, ended, order
):
    for event in new_events(sandbox, HANDLERS)[::order]:
        deliver(event)
        deliver(event)
        settle_down(payer)

    assert not Credit.objects.exists()
    assert debt(paid) == served_cents(sandbox, paid)
    assert relay_of(payer).status == "delinquent"
    assert len(all_subscriptions(sandbox)) == 1


def test_end_by_dispute_is_noticed_without_any_event(sandbox, payer, paid, ended):
    settle_down(payer)

    assert not Credit.objects.exists()
    assert debt(paid) == served_cents(sandbox, paid)
    assert relay_of(payer).status == "delinquent"


def test_nothing_is_credited_or_created_while_the_dispute_is_not_known(
    sandbox, payer, paid, ended, caplog, clock
):
    rows = sandbox.client().v1.charges.list({"customer": payer.stripe_customer_id})
    charge = rows.data[0].id
    flags = {"disputed": False}
    sandbox.app.transact(lambda context: context.change("charge", charge, **flags))

    row = sync(payer, SyncOutcome.FAILED)

    assert row.last_error_code == "dispute-unknown"
    assert "dispute_unknown" in caplog.text
    assert not Credit.objects.exists()
    assert len(all_subscriptions(sandbox)) == 1

    flags["disputed"] = True
    sandbox.app.transact(lambda context: context.change("charge", charge, **flags))
    clock.move(minutes=1)
    settle_down(payer)
    assert not Credit.objects.exists()
    assert debt(paid) == served_cents(sandbox, paid)
    assert relay_of(payer).status == "delinquent"


def test_repaid_subscription_that_ends_with_its_period_is_made_anew(
    sandbox, clock, payer, paid, charge, alice
):
    sandbox.settings(after_dispute="cancel_at_period_end")
    clock.move(days=9)
    dispute(sandbox, charge)
    clock.move(hours=2)
    deliver_all(sandbox, HANDLERS)
    settle_down(payer)
    assert debt(paid) == 2500
    pay_on_page(paid, alice)
    settle_down(payer)

    clock.move(days=23)
    deliver_all(sandbox, HANDLERS)
    settle_down(payer)

    statuses = sorted(each.status for each in all_subscriptions(sandbox))
    assert statuses == ["active", "canceled"]
    assert relay_of(payer).status == "active"
    assert not Credit.objects.exists()
    assert (debt(paid), is_blocked(payer)) == (0, False)


def test_payment_by_lightning_settles_the_debt_and_relays_return(
    sandbox, payer, paid, settled_end, alice
):
    cents = debt(paid)
    old = CardAttempt.objects.get().payment_method
    other = attach(sandbox, payer, "pm_card_mastercard")

    pay_on_page(paid, alice)
    settle_down(payer)

    settlement = Settlement.objects.get()
    amounts = settlement.marked_cents, settlement.repaid_cents, settlement.surplus_cents
    assert (settlement.state, amounts) == ("repaid", (0, cents, 0))
    assert Reversal.objects.get().repaid_cents == cents
    assert (debt(paid), paid.state) == (0, "closed")
    assert relay_of(payer).status == "active"
    assert len(all_subscriptions(sandbox)) == 2
    assert not Credit.objects.exists()
    second = InvoiceCollection.objects.exclude(pk=paid.pk).get()
    assert (second.stripe_status, second.paid_by) == ("paid", "card")
    charged = set(CardAttempt.objects.values_list("payment_method", flat=True))
    assert charged == {old, other}
    assert second.card_attempts.get().payment_method == other


def test_debt_is_repaid_once_when_the_booking_is_interrupted(
    payer, paid, settled_end, alice, monkeypatch
):
    cents = debt(paid)
    real = debts.repay_dispute

    def die(*args):
        real(*args)
        raise RuntimeError

    monkeypatch.setattr(settlements, "repay_dispute", die)
    with pytest.raises(RuntimeError):
        pay_on_page(paid, alice)
    assert debt(paid) == cents
    monkeypatch.setattr(settlements, "repay_dispute", real)

    for _ in range(2):
        settle_down(payer)

    assert debt(paid) == 0
    assert Reversal.objects.get().repaid_cents == cents


def test_payment_of_a_debt_that_was_written_off_meanwhile_is_credited(
    payer, paid, settled_end, alice
):
    cents = debt(paid)
    bolt11 = get_or_issue_bolt11(invoice_id=paid.pk)
    write_off_dispute_debt(invoice_id=paid.pk)
    alice.pay(bolt11.bolt11)
    check_invoice(invoice_id=bolt11.pk)

    settle_down(payer)

    credit = Credit.objects.get()
    assert (credit.reason, credit.amount_cents) == ("surplus", cents)
    assert Settlement.objects.get().state == "credited"
    assert Reversal.objects.get().repaid_cents == 0


def test_support_writes_the_debt_off_and_relays_return(
    sandbox, payer, paid, settled_end
):
    cents = debt(paid)

    assert write_off_dispute_debt(invoice_id=paid.pk) == cents
    assert write_off_dispute_debt(invoice_id=paid.pk) == 0
    settle_down(payer)

    assert Reversal.objects.get().written_off_cents == cents
    assert debt(paid) == 0
    assert relay_of(payer).status == "active"
    assert not is_blocked(payer)
    assert not Credit.objects.exists()


def test_won_dispute_undoes_the_debt_and_credits_unused_time(
    sandbox, payer, paid, settled_end
):
    served = served_cents(sandbox, paid)
    close_dispute(sandbox, settled_end, "won")

    deliver_all(sandbox)
    settle_down(payer)

    assert debt(paid) == 0
    assert relay_of(payer).status == "active"
    credits = Credit.objects.values_list("reason", "amount_cents")
    assert list(credits) == [("unserved", 2500 - served)]


def test_repaid_money_of_a_won_dispute_is_credited(
    sandbox, payer, paid, settled_end, alice
):
    served = served_cents(sandbox, paid)
    pay_on_page(paid, alice)
    close_dispute(sandbox, settled_end, "won")

    for _ in range(2):
        deliver_all(sandbox)
        settle_down(payer)

    credits = Credit.objects.values_list("reason", "amount_cents")
    assert sorted(credits) == [("surplus", served), ("unserved", 2500 - served)]
    assert debt(paid) == 0


def test_lost_dispute_changes_nothing(sandbox, payer, paid, settled_end):
    cents = debt(paid)
    close_dispute(sandbox, settled_end, "lost")

    deliver_all(sandbox)
    settle_down(payer)

    assert debt(paid) == cents
    assert relay_of(payer).status == "delinquent"
    assert not Credit.objects.exists()


def test_partial_dispute_leaves_the_rest_of_the_unused_time_to_credit(
    sandbox, clock, payer, paid, charge
):
    clock.move(days=9)
    dispute(sandbox, charge, amount=1000)
    deliver_all(sandbox)
    deactivate_relay(relay_id=relay_of(payer).pk)

    settle_down(payer)

    served = served_cents(sandbox, paid)
    assert balance(sandbox, payer) == pytest.approx(-(2500 - served - 1000), abs=1)
    assert debt(paid) == 0


# --- the subscription goes on


def test_debt_of_a_running_subscription_has_its_own_grace_period(
    sandbox, clock, payer, paid, charge, settings
):
    clock.move(days=9)
    dispute(sandbox, charge)

    deliver_all(sandbox)
    settle_down(payer)

    assert debt(paid) == 2500
    left = paid.suspend_at - timezone.now()
    assert timedelta(days=6, hours=23) < left <= timedelta(days=7)
    assert relay_of(payer).status == "active"
    assert not is_suspended(payer)
    assert tenants_to_review(timezone.now()) == []
    clock.move(days=7)
    assert tenants_to_review(timezone.now()) == [payer.pk]


def test_nothing_is_sold_while_a_dispute_debt_is_open(sandbox, payer, paid, charge):
    dispute(sandbox, charge)
    deliver_all(sandbox)
    payer.refresh_from_db()

    assert is_blocked(payer)
    blocked = Tenant.objects.filter(blocked_q(timezone.now()))
    assert list(blocked) == [payer]
    assert not Tenant.objects.filter(suspended_q(timezone.now())).exists()
    with pytest.raises(PaymentOverdue):
        create_relay(tenant_id=payer.pk, subdomain="other", plan_id="basic")


def test_suspension_for_a_dispute_leaves_the_served_days_as_debt(
    sandbox, clock, payer, paid, charge
):
    clock.move(days=9)
    dispute(sandbox, charge)
    deliver_all(sandbox)
    clock.move(days=7, minutes=1)

    settle_down(payer)

    assert relay_of(payer).status == "delinquent"
    assert debt(paid) == served_cents(sandbox, paid)
    assert balance(sandbox, payer) == 0


def test_tenant_that_changed_to_a_cheaper_plan_owes_no_more_than_it_was_served(
    sandbox, clock, payer, paid, charge
):
    """Stripe credits the rest of the first plan; that part is no debt as well."""
    clock.move(days=9)
    change_plan(relay_id=relay_of(payer).pk, plan_id="basic")
    settle_down(payer)
    dispute(sandbox, charge)
    deliver_all(sandbox)
    clock.move(days=7, minutes=1)

    settle_down(payer)

    (line,) = sandbox.client().v1.invoices.retrieve(paid.pk).lines.data
    days = (line.period.end - line.period.start) / 86_400
    served = (9 * 2500 + 7 * 500) / days
    assert debt(paid) + balance(sandbox, payer) == pytest.approx(served, abs=1)


def test_disputed_card_is_not_charged_for_the_next_month(
    sandbox, clock, payer, paid, charge
):
    dispute(sandbox, charge)
    deliver_all(sandbox)
    write_off_dispute_debt(invoice_id=paid.pk)
    # The same number, saved again.
    attach(sandbox, payer, "pm_card_visa")
    clock.move(days=32)
    finalize_drafts(sandbox)
    deliver_all(sandbox, HANDLERS)

    settle_down(payer)

    renewal = InvoiceCollection.objects.exclude(pk=paid.pk).get()
    assert (renewal.stripe_status, renewal.card_attempts.count()) == ("open", 0)
    other = attach(sandbox, payer, "pm_card_mastercard")
    deliver_all(sandbox, {"payment_method.attached"})
    settle_down(payer)
    assert renewal.card_attempts.get().payment_method == other


@pytest.mark.parametrize("outcome", ["won", "warning_closed"])
def test_card_is_charged_again_after_the_dispute_was_won(
    sandbox, clock, payer, paid, charge, outcome
):
    kind = "chargeback" if outcome == "won" else "inquiry"
    id = dispute(sandbox, charge, kind=kind)
    close_dispute(sandbox, id, outcome)
    deliver_all(sandbox)
    clock.move(days=32)
    finalize_drafts(sandbox)
    deliver_all(sandbox, HANDLERS)

    settle_down(payer)

    renewal = InvoiceCollection.objects.exclude(pk=paid.pk).get()
    assert renewal.stripe_status == "paid"


def test_card_of_a_fraud_warning_is_not_charged(sandbox, clock, payer, paid, charge):
    warn_of_fraud(sandbox, charge)
    deliver_all(sandbox)
    clock.move(days=32)
    finalize_drafts(sandbox)
    deliver_all(sandbox, HANDLERS)

    settle_down(payer)

    renewal = InvoiceCollection.objects.exclude(pk=paid.pk).get()
    assert (renewal.stripe_status, renewal.card_attempts.count()) == ("open", 0)
    assert relay_of(payer).status == "active"


def test_refund_is_given_back_once_when_the_tenant_leaves(
    sandbox, clock, payer, paid, charge
):
    clock.move(days=9)
    refund(sandbox, charge)
    deliver_all(sandbox)
    deactivate_relay(relay_id=relay_of(payer).pk)

    settle_down(payer)

    assert balance(sandbox, payer) == 0


def test_refund_whose_event_comes_after_the_end_takes_the_credit_back(
    sandbox, clock, payer, paid, charge
):
    clock.move(days=9)
    deactivate_relay(relay_id=relay_of(payer).pk)
    settle_down(payer)
    assert balance(sandbox, payer) < 0
    refund(sandbox, charge)

    deliver_all(sandbox)
    settle_down(payer)

    assert balance(sandbox, payer) == 0


@pytest.mark.parametrize("is_before", [True, False])
def test_dispute_of_what_was_given_back_already_is_owed_once(
    sandbox, clock, payer, paid, charge, is_before
):
    """Staff gave back $25, the bank another $25: it was owed, and debited as well."""
    clock.move(days=9)
    note = {"invoice": paid.pk, "amount": 2500, "out_of_band_amount": 2500}
    if is_before:
        sandbox.client().v1.credit_notes.create(note)
    deactivate_relay(relay_id=relay_of(payer).pk)
    settle_down(payer)
    if not is_before:
        sandbox.client().v1.credit_notes.create(note)
    dispute(sandbox, charge)

    deliver_all(sandbox, HANDLERS)
    settle_down(payer)

    assert (debt(paid), balance(sandbox, payer)) == (2500, 0)


def test_refund_that_becomes_part_of_a_note_after_the_end_counts_once(
    sandbox, clock, payer, paid, charge
):
    """The note of the same $5 took another $5 of the credit."""
    clock.move(days=9)
    deactivate_relay(relay_id=relay_of(payer).pk)
    settle_down(payer)
    credit = balance(sandbox, payer)
    refund_id = refund(sandbox, charge, 500)
    deliver_all(sandbox, HANDLERS)
    settle_down(payer)
    assert balance(sandbox, payer) == credit + 500
    note = {"invoice": paid.pk, "amount": 500, "refunds": [{"refund": refund_id}]}
    sandbox.client().v1.credit_notes.create(note)

    deliver_all(sandbox, HANDLERS)
    settle_down(payer)

    assert balance(sandbox, payer) == credit + 500


# --- messages


def test_tenant_is_told_what_to_pay_and_until_when(sandbox, payer, paid, charge):
    dispute(sandbox, charge)

    deliver_all(sandbox)

    notice = Notice.objects.get(kind="payment_disputed")
    assert notice.title == (
        f"Your bank took back the payment of invoice {paid.number}: $25.00 to pay"
    )
    assert "/pay/" in notice.text and "Please pay by" in notice.text


def test_unsent_notice_is_dropped_when_the_dispute_is_won(sandbox, payer, charge):
    id = dispute(sandbox, charge)
    deliver_all(sandbox)
    close_dispute(sandbox, id, "won")

    deliver_all(sandbox)

    assert Notice.objects.get(kind="payment_disputed").state == "dropped"


def test_reminders_come_before_relays_go_off_for_a_debt(sandbox, clock, payer, charge):
    clock.move(days=9)
    dispute(sandbox, charge)
    deliver_all(sandbox)
    kinds = []

    for _ in range(8):
        clock.move(days=1)
        settle_down(payer)
        kinds += [
            notice.kind
            for notice in Notice.objects.order_by("pk")
            if notice.kind not in kinds
        ]

    assert kinds == [
        "payment_disputed",
        "reminder_3",
        "reminder_1",
        "suspended",
    ]


def test_support_is_told_of_a_dispute_with_the_date_for_evidence(
    sandbox, payer, charge, caplog
):
    id = dispute(sandbox, charge, reason="fraudulent")
    due_by = sandbox.client().v1.disputes.retrieve(id).evidence_details.due_by

    deliver_all(sandbox)
    deliver_all(sandbox)

    (alert,) = [
        record.msg
        for record in caplog.records
        if isinstance(record.msg, dict) and record.msg["event"] == "payment_disputed"
    ]
    date = f"{datetime.fromtimestamp(due_by, UTC):%-d %B %Y}"
    assert "$25.00" in alert["message"]
    assert "fraudulent" in alert["message"]
    assert date in alert["message"]
    assert alert["reversal"] == id


# --- lost events


def test_discovery_finds_what_no_event_reported(sandbox, clock, payer, paid, charge):
    since = timezone.now()
    id = dispute(sandbox, charge)

    assert discover_reversals(Stripe(), since) == 1
    assert debt(paid) == 2500
    clock.move(days=2)
    assert discover_reversals(Stripe(), timezone.now()) == 0
    close_dispute(sandbox, id, "won")

    assert discover_reversals(Stripe(), timezone.now()) == 1
    assert debt(paid) == 0


def test_discovery_finds_refunds_and_warnings_and_failed_refunds(
    sandbox, clock, payer, paid, charge
):
    since = timezone.now()
    warn_of_fraud(sandbox, charge)
    refund(sandbox, charge, 1000)

    assert discover_reversals(Stripe(), since) == 1

    kinds = Reversal.objects.values_list("kind", flat=True)
    assert sorted(kinds) == ["fraud_warning", "refund"]


def test_discovery_goes_on_after_a_charge_that_stripe_does_not_show(
    sandbox, payer, paid, charge, caplog
):
    refund(sandbox, charge, 1000)
    sandbox.fault("status", method="GET", path="/v1/charges/", status=400)

    assert discover_reversals(Stripe(), timezone.now() - timedelta(days=1)) == 1
    assert "charge_not_recorded" in caplog.text
    assert not Reversal.objects.exists()


# --- receipts


def test_no_receipt_for_money_that_was_taken_back(sandbox, payer, paid, charge):
    dispute(sandbox, charge)
    deliver_all(sandbox)

    with pytest.raises(InvoiceNotPaid):
        build_receipt(paid.pk)
    write_off_dispute_debt(invoice_id=paid.pk)
    with pytest.raises(InvoiceNotPaid):
        build_receipt(paid.pk)


def test_receipt_shows_what_was_refunded(sandbox, payer, paid, charge):
    refund(sandbox, charge, 1000)
    deliver_all(sandbox)

    receipt = build_receipt(paid.pk)

    assert (receipt.paid_cents, receipt.refunded_cents) == (2500, 1000)


def test_receipt_returns_when_the_disputed_money_is_paid_again(
    sandbox, payer, paid, charge, alice
):
    dispute(sandbox, charge)
    deliver_all(sandbox)

    pay_on_page(paid, alice)

    receipt = build_receipt(paid.pk)
    assert (receipt.paid_cents, receipt.disputed_cents) == (2500, 0)
    assert receipt.paid_by == "lightning"
    assert charge_of(sandbox, paid) == charge
    assert collect(payer).state == "closed"
