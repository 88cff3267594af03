"""Asking our wallets how invoices ended, without starving and without guessing."""

from datetime import timedelta
from unittest.mock import patch

import pytest
import time_machine
from django.utils import timezone

from lightning.clients import nwc
from lightning.clients.nwc_replies import Lookup, Status
from lightning.exceptions import NoWalletReply, UnknownOwnWallet
from lightning.models import LightningInvoice
from lightning.services import invoice_status, invoices
from lightning.tasks import poll_wallet, watch_invoices
from lightning.tests.factories import bill_for, make_invoice
from sandbox.wallets import LookupBehaviour
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("platform", "prices")]

State = LightningInvoice.State


@pytest.fixture
def tenant():
    return TenantFactory()


@pytest.fixture
def presented_bolt11(tenant):
    return invoices.get_or_issue_invoice(bill=bill_for(tenant))


def at(when):
    return time_machine.travel(when, tick=True)


def seconds(number):
    return timedelta(seconds=number)


def fresh(invoice):
    invoice.refresh_from_db()
    return invoice


def tick(now=None):
    """What a beat does, and the tasks that it enqueues."""
    with patch.object(poll_wallet, "delay", side_effect=poll_wallet):
        watch_invoices()


def test_a_payment_is_seen_within_a_beat(alice, presented_bolt11):
    alice.pay(presented_bolt11.bolt11)

    with at(presented_bolt11.issued_at + seconds(16)):
        tick()

    assert fresh(presented_bolt11).state == State.SETTLED
    assert presented_bolt11.received_msat == presented_bolt11.amount_msat
    assert presented_bolt11.preimage.reveal()


def test_settling_twice_changes_nothing_and_asks_nobody(
    platform, alice, presented_bolt11
):
    alice.pay(presented_bolt11.bolt11)
    invoice_status.check_invoice(invoice_id=presented_bolt11.pk)
    before = LightningInvoice.objects.values().get()
    asked = len(platform.requests("lookup_invoice"))

    invoice_status.check_invoice(invoice_id=presented_bolt11.pk)
    invoice_status.check_payment_hashes(payment_hashes=[presented_bolt11.payment_hash])
    invoice_status.poll_invoices(
        wallet_pubkey=platform.pubkey, invoice_ids=[presented_bolt11.pk]
    )

    assert LightningInvoice.objects.values().get() == before
    assert len(platform.requests("lookup_invoice")) == asked


def test_a_late_payment_is_seen_until_the_end(alice, presented_bolt11):
    with at(presented_bolt11.expires_at + timedelta(hours=1, minutes=42)):
        tick()
        assert fresh(presented_bolt11).state == State.EXPIRED
        alice.pay(presented_bolt11.bolt11)
    with at(presented_bolt11.final_at - seconds(1)):
        tick()

    assert fresh(presented_bolt11).state == State.SETTLED


def test_dead_takes_the_margin_and_an_answer(platform, presented_bolt11):
    with at(presented_bolt11.final_at - seconds(5)):
        invoice_status.check_invoice(invoice_id=presented_bolt11.pk)
        assert fresh(presented_bolt11).state == State.EXPIRED
    platform.lookup_behaviour = LookupBehaviour(error="NOT_FOUND")
    with at(presented_bolt11.final_at + timedelta(days=2)):
        invoice_status.check_invoice(invoice_id=presented_bolt11.pk)
        assert fresh(presented_bolt11).state == State.EXPIRED
        platform.lookup_behaviour = LookupBehaviour()
        invoice_status.check_invoice(invoice_id=presented_bolt11.pk)
        assert fresh(presented_bolt11).state == State.DEAD


def test_the_end_is_not_slept_through(presented_bolt11):
    """Asked just before, it is asked again as soon as the answer is final."""
    with at(presented_bolt11.final_at - seconds(20)):
        invoice_status.check_invoice(invoice_id=presented_bolt11.pk)
        assert fresh(
            presented_bolt11
        ).next_attempt_at <= presented_bolt11.final_at + seconds(16)


def test_a_payment_that_is_held_is_neither(presented_bolt11):
    held = Lookup(Status.HELD)
    for when in (presented_bolt11.issued_at, presented_bolt11.final_at + seconds(100)):
        with at(when):
            invoice_status._record(presented_bolt11.pk, held, timezone.now())
            assert fresh(presented_bolt11).is_watched
            assert "arriving" in presented_bolt11.last_error


def test_less_than_was_asked_for_has_arrived_all_the_same(presented_bolt11, caplog):
    """A receiver's fee was taken off: the payer has paid, and nothing must wait."""
    less = Lookup(Status.SETTLED, amount_msat=presented_bolt11.amount_msat - 1)

    invoice_status._record(presented_bolt11.pk, less, timezone.now())

    assert fresh(presented_bolt11).state == State.SETTLED
    assert presented_bolt11.received_msat == presented_bolt11.amount_msat - 1
    assert "received_less" in caplog.text


def test_more_than_was_asked_for_is_recorded(presented_bolt11):
    more = Lookup(Status.SETTLED, amount_msat=presented_bolt11.amount_msat + 7_000)

    invoice_status._record(presented_bolt11.pk, more, timezone.now())

    assert fresh(presented_bolt11).received_msat == presented_bolt11.amount_msat + 7_000


def test_each_is_asked_of_the_wallet_that_issued_it(
    settings, wallets, platform, presented_bolt11
):
    second = wallets.create("second")
    settings.ROBOT_WALLETS = [second.url, platform.url]
    newer = invoices.get_or_issue_invoice(bill=bill_for(presented_bolt11.tenant))

    with at(timezone.now() + seconds(16)):
        tick()

    assert newer.wallet_pubkey == second.pubkey
    assert fresh(newer).answered_at
    assert fresh(presented_bolt11).answered_at
    assert len(second.requests("lookup_invoice")) == 1
    assert len(platform.requests("lookup_invoice")) == 1


def test_a_wallet_that_is_down_does_not_hold_up_another(
    settings, wallets, platform, presented_bolt11
):
    second = wallets.create("second")
    settings.ROBOT_WALLETS = [second.url, platform.url]
    newer = invoices.get_or_issue_invoice(bill=bill_for(presented_bolt11.tenant))
    platform.go_offline()

    with at(timezone.now() + seconds(16)), patch.object(nwc, "QUICK", 3.0):
        tick()

    assert fresh(newer).answered_at
    assert fresh(presented_bolt11).answered_at is None
    assert presented_bolt11.last_error_code == "nwc-no-reply"


def test_a_wallet_that_is_no_longer_ours(settings, wallets, platform, presented_bolt11):
    settings.ROBOT_WALLETS = [wallets.create("second").url]

    with at(presented_bolt11.final_at + seconds(10)):
        tick()
        assert fresh(presented_bolt11).is_watched
        assert presented_bolt11.last_error_code == "robot-wallet-missing"
        with pytest.raises(UnknownOwnWallet):
            invoice_status.check_invoice(
                invoice_id=presented_bolt11.pk, must_answer=True
            )


def test_a_wallet_that_answers_again_is_asked_at_once_about_the_rest(
    platform, tenant, alice
):
    rows = [invoices.get_or_issue_invoice(bill=bill_for(tenant)) for _ in range(3)]
    platform.go_offline()
    start = timezone.now()
    with patch.object(nwc, "QUICK", 0.3):
        for minute in range(3):
            with at(start + timedelta(minutes=minute, seconds=20)):
                tick()
    waits = LightningInvoice.objects.filter(next_attempt_at__gt=start + seconds(200))
    assert waits.count() == 3
    platform.go_online()
    alice.pay(rows[0].bolt11)
    LightningInvoice.objects.filter(pk=rows[1].pk).update(next_attempt_at=start)
    with at(start + seconds(190)):
        tick()
        assert fresh(rows[0]).state != State.SETTLED
        tick()

    assert fresh(rows[0]).state == State.SETTLED


def test_one_that_our_wallet_is_silent_about_is_asked_ever_more_seldom(
    platform, tenant
):
    """Else each batch would wait for it, while what is paid waits for the batch."""
    silent, answered = (offer_new(tenant), offer_new(tenant))
    start = timezone.now()
    for _ in range(5):
        silence = NoWalletReply("The wallet does not answer.")
        invoice_status._record(silent.pk, silence, start)
    asked_again_at = fresh(silent).next_attempt_at

    with at(start + seconds(20)):
        tick()

    assert fresh(answered).answered_at
    assert fresh(silent).next_attempt_at == asked_again_at


def offer_new(tenant):
    return invoices.get_or_issue_invoice(bill=bill_for(tenant))


# --- who comes first


def test_what_a_person_looks_at_comes_first_and_nobody_starves(platform, tenant):
    now = timezone.now()
    old = [
        make_invoice(
            tenant,
            platform.pubkey,
            state=State.EXPIRED,
            next_attempt_at=now - timedelta(hours=1, seconds=n),
        )
        for n in range(250)
    ]
    looked_at = make_invoice(
        tenant, platform.pubkey, shown_at=now, next_attempt_at=now - seconds(1)
    )

    first = invoice_status._claim(platform.pubkey)

    assert len(first) == 100
    assert first[0] == looked_at.pk
    newest_old = [row.pk for row in reversed(old)]
    assert first[1:80] == newest_old[:79]
    longest_waiting = {row.pk for row in old[-20:]}
    assert not longest_waiting - set(first)
    second, third = (
        invoice_status._claim(platform.pubkey),
        invoice_status._claim(platform.pubkey),
    )
    assert set(first + second + third) == {looked_at.pk, *newest_old}
    assert invoice_status._claim(platform.pubkey) == []


def test_the_longest_waiting_have_their_turn_however_many_newer_there_are(
    platform, tenant
):
    now = timezone.now()
    oldest = make_invoice(
        tenant,
        platform.pubkey,
        state=State.EXPIRED,
        next_attempt_at=now - timedelta(hours=2),
    )
    for _ in range(150):
        make_invoice(tenant, platform.pubkey, shown_at=now, next_attempt_at=now)

    assert oldest.pk in invoice_status._claim(platform.pubkey)


def test_hundreds_are_asked_in_one_turn(platform, tenant):
    now = timezone.now()
    for _ in range(230):
        make_invoice(tenant, platform.pubkey, next_attempt_at=now - seconds(1))

    tick()

    assert len(platform.requests("lookup_invoice")) == 230
    assert not LightningInvoice.objects.watched().due(timezone.now()).exists()


def test_the_older_the_more_seldom(presented_bolt11):
    pauses = []
    for age in (10, 300, 900 + 30, 900 + 1_800, 900 + 7_200):
        with at(presented_bolt11.issued_at + seconds(age)):
            invoice_status.check_invoice(invoice_id=presented_bolt11.pk)
            pause = (
                fresh(presented_bolt11).next_attempt_at - presented_bolt11.answered_at
            )
            pauses.append(round(pause.total_seconds()))

    assert pauses == [15, 15, 60, 300, 600]


def test_a_failure_is_tried_again_after_ten_minutes_at_the_latest(presented_bolt11):
    for _ in range(20):
        silence = NoWalletReply("The wallet does not answer.")
        asked_at = timezone.now()
        invoice_status._record(presented_bolt11.pk, silence, asked_at)

    assert fresh(presented_bolt11).next_attempt_at - asked_at == timedelta(minutes=10)


def test_a_batch_costs_one_message_a_wallet(platform, tenant):
    for _ in range(30):
        make_invoice(tenant, platform.pubkey, next_attempt_at=timezone.now())

    with patch.object(poll_wallet, "delay") as delay:
        watch_invoices()

    delay.assert_called_once_with(platform.pubkey)


def test_an_unknown_payment_hash_is_nothing_to_us(platform):
    invoice_status.check_payment_hashes(payment_hashes=["00" * 32])

    assert platform.requests("lookup_invoice") == []
