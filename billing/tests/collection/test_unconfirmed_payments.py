"""Payments that our wallet does not show: nothing else pays, nobody is suspended."""

import itertools
from datetime import timedelta

import pytest
from django.utils import timezone

from billing.models import Credit, InvoiceCollection, Settlement
from billing.services.collection.attempts import collect_now
from billing.services.customers.closing import close_tenant
from billing.services.dunning.notices import notify_invoice_due
from billing.services.dunning.suspension import review_tenant, tenants_to_review
from billing.services.invoice_views.invoices import get_invoice
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.services.payment_page.page import WaitingFor, get_page
from billing.tests.support.collection import (
    attach,
    card_codes,
    collect,
    collection_of,
    pay_by_wallet,
)
from billing.tests.support.subscriptions import sync
from billing.tests.support.threads import in_threads
from lightning.clients.nwc_replies import Lookup, Status
from lightning.exceptions import NotResolvable, PaymentInProgress
from lightning.models import NwcPayment, Resolution
from lightning.services.invoice_status import check_decided_invoices, check_invoice
from lightning.services.outcomes import apply_answer
from lightning.services.wallets import connect_wallet
from lightning.tests.support.answers import SILENCE, UNPAID, answer_lookups
from lightning.tests.support.decisions import decide
from relays.models import Relay
from sandbox.wallets.behaviour import refuses, settles_late
from tenants.models import Notice

pytestmark = pytest.mark.django_db

State = InvoiceCollection.State
PAID = Lookup(Status.SETTLED, answer="incoming, state settled, right preimage")


@pytest.fixture
def paying(subscriber, sandbox, alice, rates, settings):
    """A tenant with a wallet, which is asked first, and a card."""
    settings.LIGHTNING_REFUSAL_PAUSE = 60
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    attach(sandbox, subscriber)
    collect(subscriber)
    return subscriber


@pytest.fixture
def contradicted(paying, clock, monkeypatch):
    """The proven payment of the only invoice; our wallet, maybe the same, denies it."""
    answer_lookups(monkeypatch, UNPAID)
    payment = pay_by_wallet()
    NwcPayment.objects.filter(pk=payment.pk).update(node_pubkey="")
    clock.move(hours=3)
    assert check_invoice(invoice_id=payment.invoice_id).contradicted_at
    collect(paying)
    return payment


def relay_status(tenant):
    return Relay.objects.get(tenant=tenant).status


# --- a refusal


def test_card_waits_until_our_wallet_confirms_the_refusal(paying, clock, alice):
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    payment = pay_by_wallet()

    first = collect(paying)
    assert (first.state, card_codes()) == (State.PENDING, [])
    assert payment.refused_at
    assert first.next_attempt_at == payment.refused_at + timedelta(seconds=60)
    clock.move(seconds=61)
    collect(paying)
    assert card_codes() == []  # our wallet has not been asked yet
    check_invoice(invoice_id=payment.invoice_id)

    assert collect(paying).paid_by == "card"


def test_card_is_not_charged_if_the_wallet_pays_after_its_refusal(
    paying, clock, wallets, alice
):
    alice.behaviour = settles_late(30, "INSUFFICIENT_BALANCE")
    payment = pay_by_wallet()
    collect(paying)

    clock.move(seconds=61)
    wallets.schedule.run_due()
    check_invoice(invoice_id=payment.invoice_id)

    assert collect(paying).paid_by == "wallet"
    assert card_codes() == []


def test_rate_limited_wallet_is_asked_again_a_minute_after_its_refusal(
    paying, clock, alice
):
    """Not a minute after our wallet has confirmed it."""
    alice.behaviour = refuses("RATE_LIMITED")
    payment = pay_by_wallet()
    clock.move(seconds=61)
    check_invoice(invoice_id=payment.invoice_id)

    collect(paying)

    assert NwcPayment.objects.pending().count() == 1
    assert card_codes() == []


# --- a contradiction


def test_no_other_payment_starts_until_support_decides(paying, clock, contradicted):
    for _ in range(4):
        clock.move(days=2)
        collect_now(invoice_id=contradicted.stripe_invoice_id)
        assert collect(paying).state == State.PENDING

    assert card_codes() == []
    assert NwcPayment.objects.count() == 1
    with pytest.raises(PaymentInProgress, match="our support") as caught:
        get_or_issue_bolt11(invoice_id=contradicted.stripe_invoice_id)
    assert caught.value.until is None


def test_payer_and_api_are_told_that_support_decides(paying, contradicted):
    page = get_page(contradicted.stripe_invoice_id)
    details = get_invoice(contradicted.stripe_invoice_id).collection

    assert details
    assert details.waiting
    assert page.waiting_for == WaitingFor.SUPPORT
    assert page.blocked_until is None
    assert details.waiting.until is None
    assert "our support" in details.waiting.reason
    assert "our support" in collection_of(paying).outcome


def test_relays_stay_on_until_support_decides(paying, clock, contradicted):
    clock.move(days=8)

    assert tenants_to_review(timezone.now()) == []
    review_tenant(tenant_id=paying.pk)
    assert relay_status(paying) == "active"

    clock.move(hours=1)
    decide(contradicted.invoice_id, Resolution.Outcome.DEAD)
    assert tenants_to_review(timezone.now()) == [paying.pk]


def test_relays_stay_on_while_a_proven_payment_is_awaited(paying, clock, monkeypatch):
    answer_lookups(monkeypatch, UNPAID)
    clock.move(minutes=10)
    pay_by_wallet()
    row = collection_of(paying)
    InvoiceCollection.objects.update(suspend_at=timezone.now())

    review_tenant(tenant_id=paying.pk)

    assert row.is_unpaid
    assert relay_status(paying) == "active"


def test_relays_stay_on_while_our_silent_wallet_keeps_the_card_from_being_charged(
    paying, clock, monkeypatch, alice
):
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    answer_lookups(monkeypatch, SILENCE)
    payment = pay_by_wallet()
    clock.move(days=8)
    check_invoice(invoice_id=payment.invoice_id)
    assert collect(paying).state == State.PENDING

    assert tenants_to_review(timezone.now()) == []
    assert relay_status(paying) == "active"

    answer_lookups(monkeypatch, UNPAID)
    check_invoice(invoice_id=payment.invoice_id)
    assert collect(paying).paid_by == "card"


def test_payment_after_the_suspension_does_not_switch_relays_on_before_it_is_decided(
    paying, contradicted
):
    """Otherwise a wallet of our own service could buy time for ever."""
    issued_at = contradicted.invoice.issued_at
    InvoiceCollection.objects.update(suspend_at=issued_at - timedelta(seconds=1))

    review_tenant(tenant_id=paying.pk)

    assert relay_status(paying) == "delinquent"


def test_nobody_is_reminded_until_support_decides(paying, clock, contradicted):
    notify_invoice_due(collection_of(paying))
    row = collection_of(paying)
    assert row.suspend_at
    clock.move(seconds=(row.suspend_at - timezone.now()).total_seconds() - 3_600)

    review_tenant(tenant_id=paying.pk)

    waiting = Notice.objects.exclude(state=Notice.State.DROPPED)
    assert not waiting.filter(subject=row.pk).exists()


def test_card_is_charged_after_support_found_no_payment(paying, contradicted):
    decide(contradicted.invoice_id, Resolution.Outcome.DEAD)

    assert collect(paying).paid_by == "card"


def test_invoice_is_paid_by_the_wallet_after_support_found_the_payment(
    paying, contradicted
):
    decide(contradicted.invoice_id, Resolution.Outcome.SETTLED)

    assert collect(paying).paid_by == "wallet"
    assert card_codes() == []


def test_invoice_is_paid_by_the_proof_of_another_node(paying, clock, monkeypatch):
    answer_lookups(monkeypatch, UNPAID)
    payment = pay_by_wallet()
    NwcPayment.objects.filter(pk=payment.pk).update(node_pubkey="02" + "ab" * 32)

    clock.move(hours=3)
    check_invoice(invoice_id=payment.invoice_id)

    assert collect(paying).paid_by == "wallet"
    assert card_codes() == []


def test_money_that_support_missed_becomes_credit_after_the_card(
    paying, clock, contradicted, monkeypatch
):
    decide(contradicted.invoice_id, Resolution.Outcome.DEAD)
    assert collect(paying).paid_by == "card"
    monkeypatch.undo()

    for _ in range(2):
        clock.move(hours=1)
        check_decided_invoices()
        collect(paying)

    credit = Credit.objects.get()
    assert credit.reason == Credit.Reason.SURPLUS
    assert credit.amount_cents == collection_of(paying).amount_paid_cents
    assert card_codes() == [""]


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
@pytest.mark.parametrize("outcome", Resolution.Outcome)
def test_decision_and_late_answer_at_once_count_the_payment_once(
    paying, contradicted, monkeypatch, outcome
):
    invoice_id, tenant_id = contradicted.stripe_invoice_id, paying.pk
    works = itertools.cycle(
        (
            lambda: decide(contradicted.invoice_id, outcome),
            lambda: apply_answer(contradicted.invoice_id, PAID, timezone.now()),
            lambda: review_tenant(tenant_id=tenant_id),
            lambda: collect_now(invoice_id=invoice_id),
        )
    )

    raised = in_threads(8, lambda: next(works)())

    assert {type(exc) for exc in raised} <= {NotResolvable}
    assert collect(paying).paid_by == "wallet"
    assert Settlement.objects.count() == 1
    assert not Credit.objects.exists()
    assert card_codes() == []


@pytest.mark.parametrize("outcome", Resolution.Outcome)
def test_closed_tenant_keeps_its_wallet_until_support_decides(
    paying, clock, contradicted, monkeypatch, outcome
):
    close_tenant(tenant_id=paying.pk)
    for _ in range(3):
        clock.move(hours=5)
        sync(paying)
        collect(paying)
    paying.refresh_from_db()
    assert paying.stripe_subscription_id is None
    assert paying.nwc_url
    assert card_codes() == []

    decide(contradicted.invoice_id, outcome)
    for _ in range(3):
        clock.move(hours=1)
        sync(paying)
        collect(paying)
        review_tenant(tenant_id=paying.pk)

    row = collection_of(paying)
    paying.refresh_from_db()
    assert row.state == State.CLOSED
    assert not paying.nwc_url
    assert card_codes() == []
