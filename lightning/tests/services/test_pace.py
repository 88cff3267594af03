"""The pace of requests to our own wallets: people come before background work."""

from dataclasses import replace
from datetime import timedelta
from unittest.mock import patch

import pytest
import time_machine
from django.utils import timezone

from caravel.tests.support.celery_tasks import run_each
from lightning.clients.nwc import Wallet
from lightning.clients.nwc_replies import Lookup
from lightning.clients.nwc_uri import parse_nwc_url
from lightning.clients.pace import Pace, Share
from lightning.exceptions import WalletBusy, WalletRefused
from lightning.models import LightningInvoice
from lightning.services import invoice_status, own_wallets, payments
from lightning.tasks import poll_wallet, watch_invoices
from lightning.tests.factories import (
    make_invoice,
    make_payment_request,
    tenant_with,
)
from lightning.tests.support.answers import OUTGOING
from lightning.tests.support.payments import get_or_issue_invoice
from sandbox.wallets.behaviour import LookupBehaviour, Protocol
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock():
    with time_machine.travel(timezone.now(), tick=False) as clock:
        yield clock


@pytest.fixture
def pace_of(settings):
    """Return the pace of a share of a wallet that takes 60 requests a minute."""
    settings.ROBOT_WALLET_REQUESTS_PER_MINUTE = 60
    return lambda share, pubkey="ab" * 32: Pace(pubkey, share)


# --- shares


@pytest.mark.parametrize(
    ("share", "expected"),
    [(Share.PAGE, 20), (Share.POLL, 30), (Share.BACKGROUND, 40), (Share.PERSON, 60)],
)
def test_each_share_allows_its_part_of_the_requests(clock, pace_of, share, expected):
    pace = pace_of(share)

    assert pace.allowed(100) == expected
    assert pace.take(100) == expected
    assert pace.allowed(100) == pace.take(100) == 0
    clock.shift(61)
    assert pace.take(100) == expected


def test_people_have_a_third_that_background_work_cannot_use(clock, pace_of):
    taken = [
        pace_of(share).take(100) for share in (Share.PAGE, Share.POLL, Share.BACKGROUND)
    ]

    assert sum(taken) == 40
    assert pace_of(Share.PERSON).take(100) == 20


def test_new_invoices_have_requests_that_polls_cannot_use(clock, pace_of):
    assert pace_of(Share.POLL).take(100) == 30

    assert pace_of(Share.BACKGROUND).take(100) == 10


def test_requests_of_people_leave_fewer_to_background_work(clock, pace_of):
    pace_of(Share.PERSON).take(55)

    assert pace_of(Share.POLL).take(100) == 5


def test_wallets_are_counted_separately(clock, pace_of):
    pace_of(Share.PERSON).take(100)

    assert pace_of(Share.PERSON, "cd" * 32).take(1) == 1


@pytest.mark.parametrize("share", list(Share))
def test_lowest_setting_leaves_a_request_for_each_share(
    clock, settings, pace_of, share
):
    settings.ROBOT_WALLET_REQUESTS_PER_MINUTE = 3

    assert pace_of(share).take(1) == 1


def test_requests_pass_while_redis_is_down(settings, pace_of):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    assert pace_of(Share.POLL).take(100) == 100
    pace_of(Share.POLL).pause()
    assert pace_of(Share.POLL).allowed(1) == 1


# --- polls and people


@pytest.fixture
def coinos(settings, own_wallet, prices):
    """Our wallet at a service that allows 60 requests a minute."""
    settings.ROBOT_WALLET_REQUESTS_PER_MINUTE = 60
    own_wallet.protocol = replace(own_wallet.protocol, requests_per_minute=60)
    return own_wallet


@pytest.fixture
def hundred_open(coinos):
    """A hundred open invoices, all due for a poll."""
    tenant, past = TenantFactory(), timezone.now() - timedelta(seconds=1)
    for _ in range(100):
        issued = coinos.issue(21_000_000, expiry=3_600)
        make_invoice(
            tenant,
            coinos.pubkey,
            bolt11=issued.bolt11,
            payment_hash=issued.payment_hash,
            expires_at=timezone.now() + timedelta(seconds=3_600),
            next_attempt_at=past,
        )
    return LightningInvoice.objects.all()


def tick():
    """Run the task of a beat and the tasks that it enqueues."""
    with patch.object(poll_wallet, "delay_many", side_effect=run_each(poll_wallet)):
        watch_invoices()


def test_person_gets_an_invoice_while_a_hundred_are_polled(clock, coinos, hundred_open):
    tick()

    issued = get_or_issue_invoice(make_payment_request(TenantFactory()))

    assert issued.bolt11
    assert len(coinos.requests("lookup_invoice")) == 30
    assert hundred_open.filter(answered_at__isnull=False).count() == 30


def test_invoices_beyond_the_pace_stay_due_and_are_polled_later(
    clock, coinos, hundred_open
):
    tick()
    waiting = hundred_open.filter(answered_at=None)
    assert waiting.due(timezone.now()).count() == waiting.count() == 70
    assert set(waiting.values_list("failures", flat=True)) == {0}

    for _ in range(12):
        clock.shift(31)
        tick()

    assert not waiting.exists()
    assert not any("RATE_LIMITED" in row.last_error for row in hundred_open)


def test_oldest_are_polled_beside_those_of_higher_priority(clock, coinos, hundred_open):
    hundred_open.update(shown_at=timezone.now())
    oldest = hundred_open.order_by("pk").first()
    long_ago = timezone.now() - timedelta(hours=1)
    hundred_open.filter(pk=oldest.pk).update(shown_at=None, next_attempt_at=long_ago)

    tick()

    oldest.refresh_from_db()
    assert oldest.answered_at


def test_notified_payment_is_looked_up_while_a_hundred_are_polled(
    clock, coinos, hundred_open, alice
):
    tick()
    row = hundred_open.filter(answered_at=None).first()
    alice.pay(row.bolt11)

    invoice_status.check_payment_hashes(payment_hashes=[row.payment_hash])

    row.refresh_from_db()
    assert row.state == LightningInvoice.State.SETTLED


def test_invoice_for_a_tenants_wallet_waits_for_the_pace(
    clock, coinos, alice, settings
):
    request = make_payment_request(tenant_with(alice))
    Pace(coinos.pubkey, Share.BACKGROUND).take(100)

    with pytest.raises(WalletBusy) as caught:
        payments.issue_for_wallet(payment_request=request)

    assert (caught.value.code, caught.value.status) == ("robot-wallet-busy", 503)
    assert caught.value.headers == {"Retry-After": "15"}
    assert not coinos.requests("make_invoice")
    clock.shift(61)
    assert payments.issue_for_wallet(payment_request=request).bolt11


def test_batch_sends_only_the_look_ups_that_the_pace_allows(coinos):
    hashes = [coinos.issue(1_000).payment_hash for _ in range(25)]
    wallet = own_wallets.wallet_of(coinos.pubkey, Share.PAGE)

    answers = wallet.lookup_invoices(hashes)

    assert [isinstance(answers[each], Lookup) for each in hashes] == (
        [True] * 20 + [False] * 5
    )
    assert {type(answers[each]) for each in hashes[20:]} == {WalletBusy}
    assert len(coinos.requests("lookup_invoice")) == 20


@pytest.fixture
def contradicted_by(coinos, hundred_open, monkeypatch):
    """Return an invoice past its end, for which the wallet returns a payment."""

    def change(past_final_at):
        expired_at = timezone.now() - past_final_at
        row = hundred_open.order_by("pk").first()
        expires_at = row.expires_at - (row.final_at - expired_at)
        hundred_open.filter(pk=row.pk).update(
            expires_at=expires_at, state="expired", next_attempt_at=expires_at
        )
        look_up = Wallet.lookup_invoices

        def lookup_invoices(wallet, hashes, *, timeout=None):
            found = look_up(wallet, hashes, timeout=timeout)
            if isinstance(found.get(row.payment_hash), Lookup):
                found[row.payment_hash] = OUTGOING
            return found

        monkeypatch.setattr(Wallet, "lookup_invoices", lookup_invoices)
        return row

    return change


def test_contradiction_is_searched_although_polls_use_up_their_share(
    clock, coinos, contradicted_by
):
    row = contradicted_by(timedelta(minutes=1))

    tick()

    row.refresh_from_db()
    assert row.state == LightningInvoice.State.DEAD
    assert coinos.requests("list_transactions")


@pytest.mark.parametrize(
    ("hours", "is_left_to_person"), [(0, False), (2, True)], ids=["soon", "late"]
)
def test_contradiction_that_is_never_searched_is_left_to_a_person_in_the_end(
    clock, coinos, contradicted_by, hours, is_left_to_person
):
    row = contradicted_by(timedelta(hours=hours))
    Pace(coinos.pubkey, Share.BACKGROUND).take(10)

    tick()

    row.refresh_from_db()
    assert bool(row.contradicted_at) is is_left_to_person
    assert row.is_watched
    assert not coinos.requests("list_transactions")


# --- a wallet that allows less than the setting


def test_background_work_pauses_after_rate_limited(clock, coinos, hundred_open):
    coinos.protocol = Protocol(requests_per_minute=20)

    tick()
    assert hundred_open.filter(answered_at__isnull=False).count() == 20
    refused = hundred_open.filter(last_error_code="robot-wallet-busy")
    assert refused.due(timezone.now()).count() == 10
    clock.shift(45)
    before = len(coinos.requests())
    tick()

    assert len(coinos.requests()) == before
    clock.shift(16)
    tick()
    assert len(coinos.requests()) > before


def test_person_may_ask_while_background_work_pauses(clock, coinos, hundred_open):
    coinos.lookup_behaviour = LookupBehaviour(error="RATE_LIMITED")
    tick()
    assert Pace(coinos.pubkey, Share.BACKGROUND).allowed(1) == 0

    assert get_or_issue_invoice(make_payment_request(TenantFactory())).bolt11


def test_person_whom_the_wallet_refuses_is_told_to_try_again_soon(coinos):
    coinos.protocol = Protocol(requests_per_minute=0)

    with pytest.raises(WalletBusy):
        get_or_issue_invoice(make_payment_request(TenantFactory()))


def test_tenants_wallets_have_no_pace(coinos, alice):
    """Their RATE_LIMITED is an answer like any other, and nothing is counted."""
    alice.protocol = Protocol(requests_per_minute=0)
    wallet = Wallet(parse_nwc_url(alice.url, private_allowed=True))

    with pytest.raises(WalletRefused) as caught:
        wallet.lookup_invoice("ab" * 32)

    assert caught.value.nwc_code == "RATE_LIMITED"
    assert Pace(alice.pubkey, Share.BACKGROUND).allowed(60) == 40
