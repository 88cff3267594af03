"""Issuing Lightning invoices to people: one at a time, at a safe price."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from lightning.clients.bolt11 import decode
from lightning.exceptions import (
    AlreadySettled,
    InvoiceMismatch,
    PaymentInProgress,
    RateUnavailable,
    WalletError,
)
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import invoice_status, invoices, payments
from lightning.services.invoices import get_or_issue_invoice, payable_until
from lightning.tests.factories import bill_for, make_invoice, tenant_with
from lightning.tests.support.polling import until
from sandbox.wallets import STAYS_SILENT, InvoiceBehaviour, LookupBehaviour, refuses
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("platform", "prices")]

State = LightningInvoice.State


@pytest.fixture
def bill():
    return bill_for(TenantFactory())


def after(invoice, seconds):
    when = invoice.expires_at + timedelta(seconds=seconds)
    return time_machine.travel(when, tick=True)


def test_a_person_gets_an_invoice_for_what_is_owed(platform, prices, bill):
    invoice = get_or_issue_invoice(bill=bill)

    assert invoice.state == State.OPEN
    assert invoice.shown_at is not None
    assert invoice.wallet_pubkey == platform.pubkey
    decoded = decode(invoice.bolt11)
    assert decoded.payment_hash == invoice.payment_hash
    assert decoded.amount_msat == invoice.amount_msat
    assert invoice.amount_msat % 1_000 == 0
    # To the sat what the rate that was stored makes of it, rounded up.
    exact = bill.amount_cents * 10**8 / (100 * invoice.rate)
    assert 0 <= invoice.amount_msat / 1_000 - float(exact) < 1
    assert len(invoice.rate_sources) >= 2
    assert decoded.expires_at == invoice.expires_at
    assert invoice.expires_at - invoice.issued_at <= timedelta(seconds=901)


def test_asking_again_shows_the_same_one(platform, bill):
    first, second = (get_or_issue_invoice(bill=bill) for _ in range(2))

    assert first == second
    assert first.shown_at == second.shown_at
    assert len(platform.requests("make_invoice")) == 1


def test_the_same_even_when_the_amount_has_changed_meanwhile(bill):
    first = get_or_issue_invoice(bill=bill)

    changed = bill_for(
        first.tenant, amount_cents=5, stripe_invoice_id=bill.stripe_invoice_id
    )

    assert get_or_issue_invoice(bill=changed) == first


def test_a_fresh_one_comes_a_minute_after_the_old_and_one_look(platform, bill):
    first = get_or_issue_invoice(bill=bill)

    with after(first, 30):
        with pytest.raises(PaymentInProgress) as caught:
            get_or_issue_invoice(bill=bill)
        assert caught.value.until == first.expires_at + timedelta(seconds=60)
        assert platform.requests("lookup_invoice") == []
    with after(first, 61):
        second = get_or_issue_invoice(bill=bill)
        assert second.payment_hash != first.payment_hash
        assert len(platform.requests("lookup_invoice")) == 1
    first.refresh_from_db()
    assert first.state == State.EXPIRED
    assert LightningInvoice.objects.open().get() == second


def test_a_fresh_one_waits_for_our_wallets_answer(platform, bill):
    first = get_or_issue_invoice(bill=bill)
    platform.lookup_behaviour = LookupBehaviour(error="INTERNAL")

    with after(first, 61), pytest.raises(WalletError):
        get_or_issue_invoice(bill=bill)
    assert LightningInvoice.objects.count() == 1


def test_no_fresh_one_for_what_was_paid_in_the_last_moment(wallets, alice, bill):
    first = get_or_issue_invoice(bill=bill)
    with after(first, 20):
        alice.pay(first.bolt11)

    with after(first, 61), pytest.raises(AlreadySettled):
        get_or_issue_invoice(bill=bill)
    first.refresh_from_db()
    assert first.state == State.SETTLED


def test_an_expired_one_that_was_shown_stays_live_until_it_is_dead(bill):
    first = get_or_issue_invoice(bill=bill)
    with after(first, 61):
        invoice_status.check_invoice(invoice_id=first.pk)
        assert payable_until(bill.stripe_invoice_id) == first.final_at
    with time_machine.travel(first.final_at + timedelta(seconds=1), tick=True):
        assert payable_until(bill.stripe_invoice_id) == first.final_at
        invoice_status.check_invoice(invoice_id=first.pk)
        assert payable_until(bill.stripe_invoice_id) is None
    first.refresh_from_db()
    assert first.state == State.DEAD


def test_after_a_refusal_a_person_gets_an_invoice_of_its_own(alice):
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    bill = bill_for(tenant_with(alice))
    payment = payments.start_payment(bill=bill)
    payments.run_payment(payment_id=payment.pk)

    shown = get_or_issue_invoice(bill=bill)

    assert shown.payment_hash != payment.invoice.payment_hash


def test_while_a_wallet_is_asked_a_person_gets_none_and_a_time(settings, alice):
    settings.NWC_TIMEOUT = 1
    alice.behaviour = STAYS_SILENT
    bill = bill_for(tenant_with(alice))
    payment = payments.start_payment(bill=bill)
    payments.run_payment(payment_id=payment.pk)

    with pytest.raises(PaymentInProgress) as caught:
        get_or_issue_invoice(bill=bill)
    assert caught.value.until == payment.invoice.final_at
    with after(payment.invoice, 120), pytest.raises(PaymentInProgress):
        get_or_issue_invoice(bill=bill)


@pytest.mark.parametrize(
    "lie",
    [
        InvoiceBehaviour(amount_msat=1_000),
        InvoiceBehaviour(expiry=86_400),
        InvoiceBehaviour(expiry=60),
        InvoiceBehaviour(wrong_hash=True),
    ],
    ids=["amount", "longer", "shorter", "hash"],
)
def test_what_our_wallet_did_not_make_as_asked_is_shown_to_nobody(platform, bill, lie):
    platform.invoice_behaviour = lie

    with pytest.raises(InvoiceMismatch):
        get_or_issue_invoice(bill=bill)
    assert not LightningInvoice.objects.exists()


def test_our_wallets_clock_must_not_be_far_off(platform, bill, monkeypatch):
    true = decode

    def an_hour_early(text):
        found = true(text)
        hour = timedelta(hours=1)
        return type(found)(
            **{
                **vars(found),
                "created_at": found.created_at - hour,
                "expires_at": found.expires_at - hour,
            }
        )

    monkeypatch.setattr(invoices, "decode", an_hour_early)

    with pytest.raises(InvoiceMismatch, match="clock"):
        get_or_issue_invoice(bill=bill)


def test_without_a_price_nothing_is_issued(prices, platform, bill):
    prices.fault("reset")

    with pytest.raises(RateUnavailable):
        get_or_issue_invoice(bill=bill)
    assert platform.requests("make_invoice") == []


def test_only_one_is_open_per_stripe_invoice(platform):
    tenant = TenantFactory()
    make_invoice(tenant, platform.pubkey, stripe_invoice_id="in_same")

    with pytest.raises(IntegrityError), transaction.atomic():
        make_invoice(tenant, platform.pubkey, stripe_invoice_id="in_same")
    with pytest.raises(IntegrityError), transaction.atomic():
        make_invoice(tenant, platform.pubkey, amount_msat=0)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_invoice(tenant, platform.pubkey, settled_at=timezone.now())


def test_what_is_live(platform, alice):
    tenant = tenant_with(alice)
    now = timezone.now()
    for state, shown, live in (
        (State.OPEN, now, True),
        (State.EXPIRED, now, True),
        (State.EXPIRED, None, False),
        (State.DEAD, now, False),
    ):
        invoice = make_invoice(tenant, platform.pubkey, state=state, shown_at=shown)
        assert LightningInvoice.objects.live().filter(pk=invoice.pk).exists() is live


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
@pytest.mark.parametrize("first", ["shown", "given"])
def test_the_database_sees_both_payers_even_at_once(platform, first):
    tenant = TenantFactory()
    invoice = make_invoice(tenant, platform.pubkey)

    def show():
        LightningInvoice.objects.filter(pk=invoice.pk).update(shown_at=timezone.now())

    def give():
        NwcPayment.objects.create(
            invoice=invoice,
            tenant=tenant,
            stripe_invoice_id=invoice.stripe_invoice_id,
            wallet_pubkey="",
            client_pubkey="",
        )

    def second():
        try:
            with pytest.raises(IntegrityError), transaction.atomic():
                give() if first == "shown" else show()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            show() if first == "shown" else give()
            outcome = pool.submit(second)
            until(lambda: _waits_for_a_lock() or outcome.done())
        outcome.result()


def _waits_for_a_lock():
    with connection.cursor() as cursor:
        # Inside a transaction the view stays as it was first seen.
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        )
        return cursor.fetchone()


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_ten_clicks_at_once_show_one_invoice(platform):
    bill = bill_for(TenantFactory())

    def click(_):
        try:
            return get_or_issue_invoice(bill=bill).pk
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        shown = set(pool.map(click, range(10)))

    assert len(shown) == 1
    assert LightningInvoice.objects.count() == 1


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
@pytest.mark.parametrize("round", range(5))
def test_a_click_and_a_wallet_at_once_never_both(alice, round):
    bill = bill_for(tenant_with(alice))

    def click():
        try:
            return get_or_issue_invoice(bill=bill)
        except PaymentInProgress:
            return None
        finally:
            connection.close()

    def begin():
        try:
            return payments.start_payment(bill=bill)
        except PaymentInProgress:
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        outcomes = [pool.submit(click), pool.submit(begin)]
        won = [outcome.result() for outcome in outcomes if outcome.result()]

    assert len(won) == 1
    assert LightningInvoice.objects.count() == 1
