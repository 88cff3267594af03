"""Issuing Lightning invoices to payers: one at a time, at a safe price."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
import time_machine
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from caravel.tests.support.waiting import wait_until
from lightning.clients.bolt11 import decode
from lightning.exceptions import (
    AlreadySettled,
    InvoiceMismatch,
    PaymentInProgress,
    RateUnavailable,
    WalletError,
)
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import invoice_status, invoices
from lightning.services.live_payments import live_payment
from lightning.tests.factories import make_invoice, make_payment_request, tenant_with
from lightning.tests.support.locks import has_waiting_lock
from lightning.tests.support.payments import (
    get_or_issue_invoice,
    run_payment,
    start_payment,
)
from sandbox.wallets.behaviour import (
    STAYS_SILENT,
    InvoiceBehaviour,
    LookupBehaviour,
    refuses,
)
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_wallet", "prices")]

State = LightningInvoice.State


@pytest.fixture
def payment_request():
    return make_payment_request(TenantFactory())


def after(invoice, seconds):
    when = invoice.expires_at + timedelta(seconds=seconds)
    return time_machine.travel(when, tick=True)


def test_payer_gets_an_invoice_for_the_amount(own_wallet, prices, payment_request):
    invoice = get_or_issue_invoice(payment_request)

    assert invoice.state == State.OPEN
    assert invoice.shown_at is not None
    assert invoice.wallet_pubkey == own_wallet.pubkey
    decoded = decode(invoice.bolt11)
    assert decoded.payment_hash == invoice.payment_hash
    assert decoded.amount_msat == invoice.amount_msat
    assert invoice.amount_msat % 1_000 == 0
    # Rounded up to a sat from the stored rate.
    exact = payment_request.amount_cents * 10**8 / (100 * invoice.rate)
    assert 0 <= invoice.amount_msat / 1_000 - float(exact) < 1
    assert len(invoice.rate_sources) >= 2
    assert decoded.expires_at == invoice.expires_at
    assert invoice.expires_at - invoice.issued_at <= timedelta(seconds=901)


def test_second_request_returns_the_same_invoice(own_wallet, payment_request):
    first, second = (get_or_issue_invoice(payment_request) for _ in range(2))

    assert first == second
    assert first.shown_at == second.shown_at
    assert len(own_wallet.requests("make_invoice")) == 1


def test_open_invoice_is_returned_although_the_amount_has_changed(payment_request):
    first = get_or_issue_invoice(payment_request)

    changed = make_payment_request(
        first.tenant,
        amount_cents=5,
        stripe_invoice_id=payment_request.stripe_invoice_id,
    )

    assert get_or_issue_invoice(changed) == first


def test_new_invoice_is_issued_a_minute_after_the_expiry_and_one_lookup(
    own_wallet, payment_request
):
    first = get_or_issue_invoice(payment_request)

    with after(first, 30):
        with pytest.raises(PaymentInProgress) as caught:
            get_or_issue_invoice(payment_request)
        assert caught.value.until == first.expires_at + timedelta(seconds=60)
        assert own_wallet.requests("lookup_invoice") == []
    with after(first, 61):
        second = get_or_issue_invoice(payment_request)
        assert second.payment_hash != first.payment_hash
        assert len(own_wallet.requests("lookup_invoice")) == 1
    first.refresh_from_db()
    assert first.state == State.EXPIRED
    assert LightningInvoice.objects.open().get() == second


def test_no_new_invoice_without_our_wallets_answer(own_wallet, payment_request):
    first = get_or_issue_invoice(payment_request)
    own_wallet.lookup_behaviour = LookupBehaviour(error="INTERNAL")

    with after(first, 61), pytest.raises(WalletError):
        get_or_issue_invoice(payment_request)
    assert LightningInvoice.objects.count() == 1


def test_no_new_invoice_if_the_old_was_paid_after_its_expiry(
    wallets, alice, payment_request
):
    first = get_or_issue_invoice(payment_request)
    with after(first, 20):
        alice.pay(first.bolt11)

    with after(first, 61), pytest.raises(AlreadySettled):
        get_or_issue_invoice(payment_request)
    first.refresh_from_db()
    assert first.state == State.SETTLED


def live_until(payment_request):
    live = live_payment(payment_request.stripe_invoice_id)
    assert live
    return live.until


def test_expired_invoice_that_was_presented_is_live_until_dead(payment_request):
    first = get_or_issue_invoice(payment_request)
    with after(first, 61):
        invoice_status.check_invoice(invoice_id=first.pk)
        assert live_until(payment_request) == first.final_at
    with time_machine.travel(first.final_at + timedelta(seconds=1), tick=True):
        assert live_until(payment_request) is None  # nobody knows: no answer yet
        invoice_status.check_invoice(invoice_id=first.pk)
        assert live_payment(payment_request.stripe_invoice_id) is None
    first.refresh_from_db()
    assert first.state == State.DEAD


def test_payer_gets_another_invoice_after_the_wallet_refused(alice):
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    payment_request = make_payment_request(tenant_with(alice))
    payment = start_payment(payment_request)
    run_payment(payment_id=payment.pk)

    presented = get_or_issue_invoice(payment_request)

    assert presented.payment_hash != payment.invoice.payment_hash


def test_error_has_the_latest_end_of_a_pending_wallet_payment(settings, alice):
    settings.NWC_TIMEOUT = 1
    alice.behaviour = STAYS_SILENT
    payment_request = make_payment_request(tenant_with(alice))
    payment = start_payment(payment_request)
    run_payment(payment_id=payment.pk)

    with pytest.raises(PaymentInProgress) as caught:
        get_or_issue_invoice(payment_request)
    assert caught.value.until == payment.invoice.final_at
    with after(payment.invoice, 120), pytest.raises(PaymentInProgress):
        get_or_issue_invoice(payment_request)


@pytest.mark.parametrize(
    "behaviour",
    [
        InvoiceBehaviour(amount_msat=1_000),
        InvoiceBehaviour(expiry=86_400),
        InvoiceBehaviour(expiry=60),
        InvoiceBehaviour(wrong_hash=True),
    ],
    ids=["amount", "longer", "shorter", "hash"],
)
def test_invoice_that_differs_from_the_request_is_discarded(
    own_wallet, payment_request, behaviour
):
    own_wallet.invoice_behaviour = behaviour

    with pytest.raises(InvoiceMismatch):
        get_or_issue_invoice(payment_request)
    assert not LightningInvoice.objects.exists()


@pytest.mark.parametrize("seconds", [-120, 120])
def test_our_wallets_clock_may_differ_by_two_minutes(
    own_wallet, payment_request, seconds
):
    own_wallet.protocol = replace(own_wallet.protocol, clock_skew=seconds)

    invoice = get_or_issue_invoice(payment_request)

    skew = invoice.expires_at - invoice.issued_at - timedelta(seconds=900 + seconds)
    assert abs(skew) < timedelta(seconds=5)


@pytest.mark.parametrize("seconds", [-125, 125])
def test_invoice_is_discarded_if_our_wallets_clock_is_off(
    own_wallet, payment_request, seconds
):
    own_wallet.protocol = replace(own_wallet.protocol, clock_skew=seconds)

    with pytest.raises(InvoiceMismatch, match="clock"):
        get_or_issue_invoice(payment_request)


def test_no_invoice_without_a_price(prices, own_wallet, payment_request):
    prices.fault("reset")

    with pytest.raises(RateUnavailable):
        get_or_issue_invoice(payment_request)
    assert own_wallet.requests("make_invoice") == []


def test_database_allows_one_open_invoice_per_stripe_invoice(own_wallet):
    tenant = TenantFactory()
    make_invoice(tenant, own_wallet.pubkey, stripe_invoice_id="in_same")

    with pytest.raises(IntegrityError), transaction.atomic():
        make_invoice(tenant, own_wallet.pubkey, stripe_invoice_id="in_same")
    with pytest.raises(IntegrityError), transaction.atomic():
        make_invoice(tenant, own_wallet.pubkey, amount_msat=0)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_invoice(tenant, own_wallet.pubkey, settled_at=timezone.now())


def test_live_invoices_are_open_or_presented(own_wallet, alice):
    tenant = tenant_with(alice)
    now = timezone.now()
    for state, shown, live in (
        (State.OPEN, now, True),
        (State.EXPIRED, now, True),
        (State.EXPIRED, None, False),
        (State.DEAD, now, False),
    ):
        invoice = make_invoice(tenant, own_wallet.pubkey, state=state, shown_at=shown)
        assert LightningInvoice.objects.live().filter(pk=invoice.pk).exists() is live


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
@pytest.mark.parametrize("first", ["payer", "wallet"])
def test_database_rejects_a_second_payer_even_concurrently(own_wallet, first):
    tenant = TenantFactory()
    invoice = make_invoice(tenant, own_wallet.pubkey)

    def present():
        LightningInvoice.objects.filter(pk=invoice.pk).update(shown_at=timezone.now())

    def start_attempt():
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
                start_attempt() if first == "payer" else present()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            present() if first == "payer" else start_attempt()
            outcome = pool.submit(second)
            wait_until(lambda: has_waiting_lock() or outcome.done())
        outcome.result()


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_ten_concurrent_requests_present_one_invoice(own_wallet):
    payment_request = make_payment_request(TenantFactory())

    def click(_):
        try:
            return get_or_issue_invoice(payment_request).pk
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        presented = set(pool.map(click, range(10)))

    assert len(presented) == 1
    assert LightningInvoice.objects.count() == 1


def test_click_gets_the_invoice_that_another_click_presents_meanwhile(own_wallet):
    payment_request = make_payment_request(TenantFactory())
    assert invoices.current_invoice(payment_request=payment_request) is None

    other = get_or_issue_invoice(payment_request)
    invoices.issue_for_payer(payment_request=payment_request)

    assert invoices.current_invoice(payment_request=payment_request) == other


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
@pytest.mark.parametrize("round", range(5))
def test_concurrent_payer_and_wallet_get_one_invoice(alice, round):
    payment_request = make_payment_request(tenant_with(alice))

    def click():
        try:
            return get_or_issue_invoice(payment_request)
        except PaymentInProgress:
            return None
        finally:
            connection.close()

    def start():
        try:
            return start_payment(payment_request)
        except PaymentInProgress:
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        outcomes = [pool.submit(click), pool.submit(start)]
        results = [outcome.result() for outcome in outcomes if outcome.result()]

    assert len(results) == 1
    assert LightningInvoice.objects.count() == 1
