"""Polling of our wallets: every invoice is polled, and only answers decide."""

from datetime import timedelta
from unittest.mock import patch

import pytest
import time_machine
from django.utils import timezone

from caravel.tests.support.celery_tasks import run_each
from caravel.tests.support.waiting import LIMIT
from lightning.clients import nwc
from lightning.clients.nwc_replies import Lookup, Status
from lightning.exceptions import NoWalletReply, UnknownOwnWallet
from lightning.models import LightningInvoice
from lightning.services import invoice_status
from lightning.services.outcomes import apply_answer
from lightning.tasks import poll_wallet, watch_invoices
from lightning.tests.factories import make_invoice, make_invoices, make_payment_request
from lightning.tests.support.payments import get_or_issue_invoice
from sandbox.wallets.behaviour import LookupBehaviour
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_wallet", "prices")]

State = LightningInvoice.State


@pytest.fixture
def tenant():
    return TenantFactory()


@pytest.fixture
def presented_bolt11(tenant):
    return get_or_issue_invoice(make_payment_request(tenant))


def at(when):
    return time_machine.travel(when, tick=True)


def seconds(number):
    return timedelta(seconds=number)


def fresh(invoice):
    invoice.refresh_from_db()
    return invoice


def tick():
    """Run the task of a beat and the tasks that it enqueues."""
    with patch.object(poll_wallet, "delay_many", side_effect=run_each(poll_wallet)):
        watch_invoices()


def test_payment_is_seen_within_a_beat(alice, presented_bolt11):
    alice.pay(presented_bolt11.bolt11)

    with at(presented_bolt11.issued_at + seconds(16)):
        tick()

    assert fresh(presented_bolt11).state == State.SETTLED
    assert presented_bolt11.received_msat == presented_bolt11.amount_msat
    assert presented_bolt11.preimage.reveal()


def test_settled_invoice_is_neither_changed_nor_polled_again(
    own_wallet, alice, presented_bolt11
):
    alice.pay(presented_bolt11.bolt11)
    invoice_status.check_invoice(invoice_id=presented_bolt11.pk)
    before = LightningInvoice.objects.values().get()
    request_count = len(own_wallet.requests("lookup_invoice"))

    invoice_status.check_invoice(invoice_id=presented_bolt11.pk)
    invoice_status.check_payment_hashes(payment_hashes=[presented_bolt11.payment_hash])
    invoice_status.poll_invoices(
        wallet_pubkey=own_wallet.pubkey, invoice_ids=[presented_bolt11.pk]
    )

    assert LightningInvoice.objects.values().get() == before
    assert len(own_wallet.requests("lookup_invoice")) == request_count


def test_late_payment_is_seen_until_final_at(alice, presented_bolt11):
    with at(presented_bolt11.expires_at + timedelta(hours=1, minutes=42)):
        tick()
        assert fresh(presented_bolt11).state == State.EXPIRED
        alice.pay(presented_bolt11.bolt11)
    with at(presented_bolt11.final_at - seconds(1)):
        tick()

    assert fresh(presented_bolt11).state == State.SETTLED


def test_invoice_is_dead_only_after_the_margin_and_an_answer(
    own_wallet, presented_bolt11
):
    with at(presented_bolt11.final_at - seconds(5)):
        invoice_status.check_invoice(invoice_id=presented_bolt11.pk)
        assert fresh(presented_bolt11).state == State.EXPIRED
    own_wallet.lookup_behaviour = LookupBehaviour(error="NOT_FOUND")
    with at(presented_bolt11.final_at + timedelta(days=2)):
        invoice_status.check_invoice(invoice_id=presented_bolt11.pk)
        assert fresh(presented_bolt11).state == State.EXPIRED
        own_wallet.lookup_behaviour = LookupBehaviour()
        invoice_status.check_invoice(invoice_id=presented_bolt11.pk)
        assert fresh(presented_bolt11).state == State.DEAD


def test_invoice_is_polled_as_soon_as_the_answer_is_final(presented_bolt11):
    """Polled just before, it is polled again once the answer is final."""
    with at(presented_bolt11.final_at - seconds(20)):
        invoice_status.check_invoice(invoice_id=presented_bolt11.pk)
        assert fresh(
            presented_bolt11
        ).next_attempt_at <= presented_bolt11.final_at + seconds(16)


def test_held_payment_is_neither_settled_nor_dead(presented_bolt11):
    held = Lookup(Status.HELD)
    for when in (presented_bolt11.issued_at, presented_bolt11.final_at + seconds(100)):
        with at(when):
            apply_answer(presented_bolt11.pk, held, timezone.now())
            assert fresh(presented_bolt11).is_watched
            assert "arriving" in presented_bolt11.last_error


def test_underpayment_settles_the_invoice(presented_bolt11, caplog):
    """The receiver's node deducted a fee: the payer has paid all the same."""
    less = Lookup(Status.SETTLED, amount_msat=presented_bolt11.amount_msat - 1)

    apply_answer(presented_bolt11.pk, less, timezone.now())

    assert fresh(presented_bolt11).state == State.SETTLED
    assert presented_bolt11.received_msat == presented_bolt11.amount_msat - 1
    assert "received_less" in caplog.text


def test_overpayment_is_recorded(presented_bolt11):
    more = Lookup(Status.SETTLED, amount_msat=presented_bolt11.amount_msat + 7_000)

    apply_answer(presented_bolt11.pk, more, timezone.now())

    assert fresh(presented_bolt11).received_msat == presented_bolt11.amount_msat + 7_000


def test_each_invoice_is_polled_at_its_own_wallet(
    settings, wallets, own_wallet, presented_bolt11
):
    second = wallets.create("second")
    settings.ROBOT_WALLETS = [second.url, own_wallet.url]
    newer = get_or_issue_invoice(make_payment_request(presented_bolt11.tenant))

    with at(timezone.now() + seconds(16)):
        tick()

    assert newer.wallet_pubkey == second.pubkey
    assert fresh(newer).answered_at
    assert fresh(presented_bolt11).answered_at
    assert len(second.requests("lookup_invoice")) == 1
    assert len(own_wallet.requests("lookup_invoice")) == 1


def test_wallet_that_is_down_does_not_delay_another(
    settings, wallets, own_wallet, presented_bolt11
):
    second = wallets.create("second")
    settings.ROBOT_WALLETS = [second.url, own_wallet.url]
    newer = get_or_issue_invoice(make_payment_request(presented_bolt11.tenant))
    own_wallet.go_offline()

    with at(timezone.now() + seconds(16)), patch.object(nwc, "TIMEOUT", 3.0):
        tick()

    assert fresh(newer).answered_at
    assert fresh(presented_bolt11).answered_at is None
    assert presented_bolt11.last_error_code == "nwc-no-reply"


def test_invoice_of_a_removed_wallet_stays_watched(
    settings, wallets, own_wallet, presented_bolt11
):
    settings.ROBOT_WALLETS = [wallets.create("second").url]

    with at(presented_bolt11.final_at + seconds(10)):
        tick()
        assert fresh(presented_bolt11).is_watched
        assert presented_bolt11.last_error_code == "robot-wallet-missing"
        with pytest.raises(UnknownOwnWallet):
            invoice_status.check_invoice(
                invoice_id=presented_bolt11.pk, must_answer=True
            )


def test_wallet_that_answers_again_is_polled_at_once_for_the_rest(
    own_wallet, tenant, alice
):
    rows = [get_or_issue_invoice(make_payment_request(tenant)) for _ in range(3)]
    own_wallet.go_offline()
    start = timezone.now()
    with patch.object(nwc, "TIMEOUT", 0.3):
        for minute in range(3):
            with at(start + timedelta(minutes=minute, seconds=20)):
                tick()
    waits = LightningInvoice.objects.filter(next_attempt_at__gt=start + seconds(200))
    assert waits.count() == 3
    own_wallet.go_online()
    alice.pay(rows[0].bolt11)
    LightningInvoice.objects.filter(pk=rows[1].pk).update(next_attempt_at=start)
    with at(start + seconds(190)):
        tick()
        assert fresh(rows[0]).state != State.SETTLED
        tick()

    assert fresh(rows[0]).state == State.SETTLED


def test_invoice_without_answers_is_polled_less_and_less_often(own_wallet, tenant):
    """Otherwise every batch would wait for it, and paid invoices with the batch."""
    silent, answered = present_new(tenant), present_new(tenant)
    start = timezone.now()
    for _ in range(5):
        silence = NoWalletReply("The wallet does not answer.")
        apply_answer(silent.pk, silence, start)
    asked_again_at = fresh(silent).next_attempt_at

    with at(start + seconds(20)):
        tick()

    assert fresh(answered).answered_at
    assert fresh(silent).next_attempt_at == asked_again_at


def present_new(tenant):
    return get_or_issue_invoice(make_payment_request(tenant))


# --- order


def test_presented_invoices_are_polled_first_and_none_starves(own_wallet, tenant):
    now = timezone.now()
    old = make_invoices(
        tenant,
        own_wallet.pubkey,
        [
            {
                "state": State.EXPIRED,
                "next_attempt_at": now - timedelta(hours=1, seconds=n),
            }
            for n in range(250)
        ],
    )
    presented = make_invoice(
        tenant, own_wallet.pubkey, shown_at=now, next_attempt_at=now - seconds(1)
    )

    first = invoice_status._claim_batch(own_wallet.pubkey)

    assert len(first) == 100
    assert first[0] == presented.pk
    newest_old = [row.pk for row in reversed(old)]
    assert first[1:50] == newest_old[:49]
    oldest = {row.pk for row in old[-50:]}
    assert not oldest - set(first)
    second, third = (
        invoice_status._claim_batch(own_wallet.pubkey),
        invoice_status._claim_batch(own_wallet.pubkey),
    )
    assert set(first + second + third) == {presented.pk, *newest_old}
    assert invoice_status._claim_batch(own_wallet.pubkey) == []


def test_oldest_invoice_is_polled_among_many_newer_ones(own_wallet, tenant):
    now = timezone.now()
    oldest = make_invoice(
        tenant,
        own_wallet.pubkey,
        state=State.EXPIRED,
        next_attempt_at=now - timedelta(hours=2),
    )
    newer = {"shown_at": now, "next_attempt_at": now}
    make_invoices(tenant, own_wallet.pubkey, [newer] * 150)

    assert oldest.pk in invoice_status._claim_batch(own_wallet.pubkey)


def test_hundreds_of_invoices_are_polled_in_one_task(own_wallet, tenant, monkeypatch):
    # A busy machine needs longer than a worker waits.
    monkeypatch.setattr(invoice_status, "_TASK_BUDGET_SECONDS", 10 * LIMIT)
    monkeypatch.setattr(nwc, "TIMEOUT", LIMIT)
    now = timezone.now()
    due = {"next_attempt_at": now - seconds(1)}
    make_invoices(tenant, own_wallet.pubkey, [due] * 230)

    tick()

    assert len(own_wallet.requests("lookup_invoice")) == 230
    assert not LightningInvoice.objects.watched().due(timezone.now()).exists()


def test_older_invoices_are_polled_less_often(presented_bolt11):
    pauses = []
    for age in (10, 300, 900 + 30, 900 + 1_800, 900 + 7_200):
        with at(presented_bolt11.issued_at + seconds(age)):
            invoice_status.check_invoice(invoice_id=presented_bolt11.pk)
            pause = (
                fresh(presented_bolt11).next_attempt_at - presented_bolt11.answered_at
            )
            pauses.append(round(pause.total_seconds()))

    assert pauses == [15, 15, 60, 300, 600]


def test_failed_poll_is_retried_within_ten_minutes(presented_bolt11):
    for _ in range(20):
        silence = NoWalletReply("The wallet does not answer.")
        asked_at = timezone.now()
        apply_answer(presented_bolt11.pk, silence, asked_at)

    assert fresh(presented_bolt11).next_attempt_at - asked_at == timedelta(minutes=10)


def test_one_task_is_enqueued_per_wallet(own_wallet, tenant):
    due = {"next_attempt_at": timezone.now()}
    make_invoices(tenant, own_wallet.pubkey, [due] * 30)

    with patch.object(poll_wallet, "delay_many") as delay_many:
        watch_invoices()

    delay_many.assert_called_once_with([own_wallet.pubkey])


def test_unknown_payment_hash_is_ignored(own_wallet):
    invoice_status.check_payment_hashes(payment_hashes=["00" * 32])

    assert own_wallet.requests("lookup_invoice") == []
