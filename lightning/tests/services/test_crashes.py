"""Each scripted wallet, with a worker killed before, during and after its request.

In every case a payer's sats move once if its wallet pays, and not at all if it refuses;
an unknown outcome stays pending until our own wallet knows it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import redis
import time_machine
from django.conf import settings as django_settings
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from billing.tests.support import processes
from caravel.tests.support.waiting import wait_until
from lightning.clients import nwc, nwc_info
from lightning.exceptions import AlreadySettled, PaymentInProgress
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import invoice_status
from lightning.services.invoices import PaymentRequest
from lightning.services.live_payments import live_payment
from lightning.tasks import resolve_payments
from lightning.tests.factories import make_payment_request
from lightning.tests.support.payments import get_or_issue_invoice, start_payment
from sandbox.wallets import Terms, Wallet
from sandbox.wallets.behaviour import (
    CLAIMS_FALSELY,
    PAYS,
    PAYS_WITHOUT_ANSWER,
    STAYS_SILENT,
    CorruptReply,
    LookupBehaviour,
    PaymentBehaviour,
    answers_after,
    pays_after,
    pays_but_says,
    refuses,
    settles_late,
)
from tenants.services.tenants import set_wallet
from tenants.tests.factories import TenantFactory

pytestmark = [
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
    pytest.mark.processes,
    pytest.mark.usefixtures("own_wallet", "prices"),
]

TIMES = 3
State = NwcPayment.State


@dataclass(frozen=True)
class Script:
    """The behaviour of a wallet, whether sats move, and whether it answers at once.

    `refuses`: its reply, if received, proves that nothing was spent. `comes_back`: the
    wallet is offline, and hours later runs the requests that its relay kept.
    """

    behaviour: PaymentBehaviour = PAYS
    pays: bool = True
    answers: bool = True
    refuses: bool = False
    offline: bool = False
    comes_back: Callable[[Wallet], object] | None = None
    terms: Terms = field(default_factory=Terms)


def run_all_requests(wallet: Wallet) -> None:
    wallet.go_online(heeds_expiration=False)


def run_valid_requests(wallet: Wallet) -> None:
    wallet.go_online(heeds_expiration=True)


SCRIPTS = {
    "pays": Script(),
    "pays after a second": Script(pays_after(1), answers=False),
    "pays and never answers": Script(PAYS_WITHOUT_ANSWER, answers=False),
    "answers after we gave up": Script(answers_after(4), answers=False),
    "INSUFFICIENT_BALANCE": Script(
        refuses("INSUFFICIENT_BALANCE"), pays=False, refuses=True
    ),
    "QUOTA_EXCEEDED": Script(refuses("QUOTA_EXCEEDED"), pays=False, refuses=True),
    "budget used up": Script(terms=Terms(budget_msat=1_000), pays=False, refuses=True),
    "INTERNAL though paid": Script(pays_but_says("INTERNAL")),
    "INTERNAL": Script(refuses("INTERNAL"), pays=False),
    "PAYMENT_FAILED then settles": Script(settles_late(2)),
    "an unknown code": Script(refuses("BRAND_NEW"), pays=False),
    "offline": Script(pays=False, answers=False, offline=True),
    "comes back and runs everything": Script(
        answers=False, offline=True, comes_back=run_all_requests
    ),
    "comes back and heeds expirations": Script(
        pays=False, answers=False, offline=True, comes_back=run_valid_requests
    ),
    "ignores requests": Script(STAYS_SILENT, pays=False, answers=False),
    "two replies": Script(PaymentBehaviour(copies=2)),
    "garbage, paid": Script(PaymentBehaviour(corruption=CorruptReply.UNDECRYPTABLE)),
    "garbage, unpaid": Script(
        PaymentBehaviour(pays_after=None, corruption=CorruptReply.NOT_JSON), pays=False
    ),
    "an invented preimage": Script(CLAIMS_FALSELY, pays=False),
}


@dataclass
class Case:
    """One tenant of a script, and the attempt to have it pay."""

    name: str
    script: Script
    wallet: Wallet
    payment_request: PaymentRequest
    payment: NwcPayment

    def reload(self) -> NwcPayment:
        self.payment.refresh_from_db()
        return self.payment


@pytest.fixture(autouse=True)
def empty_broker() -> Iterator[None]:
    with redis.from_url(django_settings.REDIS_URL) as broker:
        broker.flushall()
        yield
        broker.flushall()


@pytest.fixture
def cases(settings, relay, wallets) -> list[Case]:
    """Attempts that are due; the broker has their messages."""
    settings.NWC_TIMEOUT = 5
    # Some real relays keep expired events: wallets that come back will get them.
    relay.change_settings(honours_expiration=False)
    cases = []
    for number in range(TIMES):
        for name, script in SCRIPTS.items():
            wallet = wallets.create(
                f"{name} {number}", balance_msat=10**9, terms=script.terms
            )
            wallet.behaviour = script.behaviour
            if script.offline:
                wallet.go_offline()
            tenant = TenantFactory()
            set_wallet(pubkey=tenant.pk, nwc_url=wallet.url)
            payment_request = make_payment_request(tenant)
            payment = start_payment(payment_request)
            cases.append(Case(wallet.name, script, wallet, payment_request, payment))
    return cases


def worker(log: Any) -> Any:
    return processes.worker(log, queues="default,lightning", pool=processes.THREADS)


def test_each_wallet_has_its_outcome_without_a_crash(
    relay, wallets, own_wallet, cases, tmp_path
):
    with worker(tmp_path / "worker.log"):
        wait_until(all_attempts_tried)
        unconfirmed = NwcPayment.objects.pending().filter(refused_at__isnull=False)
        wait_until(lambda: not unconfirmed.exists())

    for case in cases:
        if not case.script.pays:
            expected = State.REFUSED if case.script.refuses else State.PENDING
            assert case.reload().state == expected, case.name
    finish(wallets, own_wallet, cases)
    assert_one_request_each(relay, cases)


def test_attempts_are_made_once_when_killed_before_the_request(
    relay, wallets, own_wallet, cases, tmp_path
):
    """The worker fetches the info event; no request is marked as sent."""
    relay.fault("hold", on="req", kinds={nwc_info.INFO})
    with worker(tmp_path / "first.log") as running:
        wait_until(lambda: relay.held >= len(cases))
        processes.kill(running)
    assert NwcPayment.objects.unsent().count() == len(cases)
    relay.clear_faults()

    recover(tmp_path)

    finish(wallets, own_wallet, cases)
    assert_one_request_each(relay, cases)


def test_attempts_are_made_once_when_killed_during_the_request(
    relay, wallets, own_wallet, cases, tmp_path
):
    """The relay has the requests; wallets get them after the worker is gone."""
    with requests_held(relay, cases, tmp_path) as running:
        processes.kill(running)
    assert not NwcPayment.objects.unsent().exists()
    relay.clear_faults()

    recover(tmp_path)

    finish(wallets, own_wallet, cases)
    assert_one_request_each(relay, cases)


def test_attempts_are_made_once_when_killed_after_the_reply(
    relay, wallets, own_wallet, cases, tmp_path
):
    """The worker has the replies, and is about to record them."""
    replying = [case for case in cases if case.script.answers]
    with requests_held(relay, cases, tmp_path) as running, locked_payments():
        relay.clear_faults()
        wait_until(lambda: blocked_backends() >= len(replying), seconds=14)
        processes.kill(running)
        end_blocked_backends()
    assert not NwcPayment.objects.exclude(state=State.PENDING).exists()

    recover(tmp_path)

    finish(wallets, own_wallet, cases)
    assert_one_request_each(relay, cases)


# --- the crash


@contextmanager
def requests_held(relay: Any, cases: list[Case], tmp_path: Any) -> Iterator[Any]:
    """Yield a worker whose requests have reached the relay, but no wallet."""
    relay.fault("hold", on="event", kinds={nwc.REQUEST})
    clients = {case.payment.client_pubkey for case in cases}
    with worker(tmp_path / "first.log") as running:
        # Requests to our own wallet are held, too.
        wait_until(lambda: clients <= authors(relay))
        yield running


def authors(relay: Any) -> set[str]:
    """Return the authors of the requests that the relay has received."""
    return {event.pubkey for event in relay.events(nwc.REQUEST)}


@contextmanager
def locked_payments() -> Iterator[None]:
    with transaction.atomic():
        list(LightningInvoice.objects.select_for_update().order_by("pk"))
        list(NwcPayment.objects.select_for_update().order_by("pk"))
        yield


def blocked_backends() -> int:
    return len(select_blocked("pid"))


def end_blocked_backends() -> None:
    """End them: a killed client's statement would run once it got its lock."""
    select_blocked("pg_terminate_backend(pid)")


def select_blocked(column: str) -> list[Any]:
    with connection.cursor() as cursor:
        # Within a transaction the view shows its first snapshot until it is cleared.
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            f"SELECT {column} FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        )
        return list(cursor.fetchall())


def recover(tmp_path: Any) -> None:
    """Six minutes later, start another worker and run the sweep."""
    age = timedelta(minutes=6)
    NwcPayment.objects.update(
        enqueued_at=F("enqueued_at") - age, next_attempt_at=F("next_attempt_at") - age
    )
    with worker(tmp_path / "second.log"):
        resolve_payments.delay()
        wait_until(lambda: not NwcPayment.objects.unsent().exists())
        wait_until(all_attempts_tried)


def all_attempts_tried() -> bool:
    """Return whether no attempt waits for a reply that this worker could receive."""
    unanswered = NwcPayment.objects.pending().filter(code="", replied_at=None)
    recent = unanswered.filter(sent_at__gt=timezone.now() - timedelta(seconds=3))
    return not NwcPayment.objects.unsent().exists() and not recent.exists()


# --- the outcome


def finish(wallets: Any, own_wallet: Wallet, cases: list[Case]) -> None:
    """Let hours pass: first with our own wallet out of order, then with it back."""
    paying = [c for c in cases if c.script.pays and not c.script.comes_back]
    wait_until(lambda: all(wallets.ledger.debits(case.name) for case in paying))
    own_wallet.lookup_behaviour = LookupBehaviour(error="INTERNAL")
    before = {case.name: case.reload().state for case in cases}
    expiry = max(case.payment.invoice.expires_at for case in cases)
    with time_machine.travel(expiry + timedelta(hours=1), tick=True):
        returned = [case for case in cases if case.script.comes_back]
        for case in returned:
            assert case.script.comes_back
            case.script.comes_back(case.wallet)
        late = [case for case in returned if case.script.pays]
        wait_until(lambda: all(wallets.ledger.debits(case.name) for case in late))
    end = max(case.payment.invoice.final_at for case in cases)
    with time_machine.travel(end + timedelta(minutes=1), tick=True):
        invoice_status.poll_wallet(pubkey=own_wallet.pubkey)
        for case in cases:
            assert_no_other_payment_starts(case, before[case.name])
    own_wallet.lookup_behaviour = LookupBehaviour()
    with time_machine.travel(end + timedelta(hours=2), tick=True):
        invoice_status.poll_wallet(pubkey=own_wallet.pubkey)
    for case in cases:
        assert_outcome(wallets, case)


def assert_no_other_payment_starts(case: Case, before: str) -> None:
    """While our wallet is down, a pending attempt stays pending and blocks others."""
    assert case.reload().state == before, case.name
    if before == State.PENDING:
        assert live_payment(case.payment_request.stripe_invoice_id), case.name
        with pytest.raises(PaymentInProgress):
            start_payment(case.payment_request)
        with pytest.raises(PaymentInProgress):
            get_or_issue_invoice(case.payment_request)


def assert_outcome(wallets: Any, case: Case) -> None:
    payment = case.reload()
    amount = payment.invoice.amount_msat
    debits = wallets.ledger.debits(case.name)
    assert debits == ([amount] if case.script.pays else []), case.name
    ends = {State.PAID} if case.script.pays else {State.FAILED}
    if case.script.refuses:
        ends.add(State.REFUSED)
    assert payment.state in ends, case.name
    invoice = LightningInvoice.objects.get(pk=payment.invoice_id)
    assert not invoice.is_watched, case.name
    if case.script.pays:
        with pytest.raises(AlreadySettled):
            start_payment(case.payment_request)
    else:
        assert live_payment(case.payment_request.stripe_invoice_id) is None, case.name


def assert_one_request_each(relay: Any, cases: list[Case]) -> None:
    """Each attempt has published one request, the one in its row."""
    for case in cases:
        sent = relay.events(nwc.REQUEST, author=case.payment.client_pubkey)
        assert [event.id for event in sent] == [case.payment.request_event_id], (
            case.name
        )
