"""Each scripted wallet, with a worker killed before, during and after its request.

Whatever happens, a payer's sats move once if its wallet pays and not at all if it
refuses; what is unknown stays so until our own wallet knows, and then ends.
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
from lightning.clients import nwc
from lightning.exceptions import AlreadySettled, PaymentInProgress
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import invoice_status, invoices, payments
from lightning.services.invoices import PaymentRequest
from lightning.tasks import resolve_payments
from lightning.tests.factories import bill_for
from lightning.tests.support.polling import until
from sandbox.wallets import (
    CLAIMS_FALSELY,
    PAYS,
    PAYS_WITHOUT_ANSWER,
    STAYS_SILENT,
    CorruptReply,
    LookupBehaviour,
    PaymentBehaviour,
    Terms,
    Wallet,
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
    pytest.mark.usefixtures("platform", "prices"),
]

TIMES = 3
State = NwcPayment.State


@dataclass(frozen=True)
class Script:
    """What a wallet does, whether sats move, and whether it answers at once.

    `refuses`: its answer, if it is heard, proves that nothing was spent. `comes_back`:
    it is off, and hours later runs what its relay kept, heeding expirations or not.
    """

    behaviour: PaymentBehaviour = PAYS
    pays: bool = True
    answers: bool = True
    refuses: bool = False
    offline: bool = False
    comes_back: Callable[[Wallet], object] | None = None
    terms: Terms = field(default_factory=Terms)


def run_everything(wallet: Wallet) -> None:
    wallet.go_online(heeds_expiration=False)


def run_what_is_valid(wallet: Wallet) -> None:
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
        answers=False, offline=True, comes_back=run_everything
    ),
    "comes back and heeds expirations": Script(
        pays=False, answers=False, offline=True, comes_back=run_what_is_valid
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
    bill: PaymentRequest
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
    """Attempts that are due, their messages with the broker."""
    settings.NWC_TIMEOUT = 2
    # As some real relays do, it keeps what is expired: for the wallets that come back.
    relay.change_settings(honours_expiration=False)
    found = []
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
            bill = bill_for(tenant)
            payment = payments.start_payment(bill=bill)
            found.append(Case(wallet.name, script, wallet, bill, payment))
    return found


def worker(log: Any) -> Any:
    return processes.worker(log, queues="default,lightning", pool=processes.THREADS)


def test_without_a_crash(relay, wallets, platform, cases, tmp_path):
    with worker(tmp_path / "worker.log"):
        until(everything_was_tried, 60)

    for case in cases:
        if not case.script.pays:
            expected = State.REFUSED if case.script.refuses else State.PENDING
            assert case.reload().state == expected, case.name
    finish(wallets, platform, cases)
    assert_each_asked_once(relay, cases)


def test_killed_before_the_request(relay, wallets, platform, cases, tmp_path):
    """The worker asks how to encrypt; nothing has been marked as sent."""
    relay.fault("hold", on="req", kinds={nwc.INFO})
    with worker(tmp_path / "first.log") as running:
        until(lambda: relay.held >= len(cases), 60)
        processes.kill(running)
    assert NwcPayment.objects.unsent().count() == len(cases)
    relay.clear_faults()

    recover(tmp_path)

    finish(wallets, platform, cases)
    assert_each_asked_once(relay, cases)


def test_killed_during_the_request(relay, wallets, platform, cases, tmp_path):
    """The relays have it; the wallets get it when nobody waits for them any more."""
    with requests_held(relay, cases, tmp_path) as running:
        processes.kill(running)
    assert not NwcPayment.objects.unsent().exists()
    relay.clear_faults()

    recover(tmp_path)

    finish(wallets, platform, cases)
    assert_each_asked_once(relay, cases)


def test_killed_after_the_answer(relay, wallets, platform, cases, tmp_path):
    """The worker has heard, and is about to write down what."""
    heard = [case for case in cases if case.script.answers]
    with requests_held(relay, cases, tmp_path) as running, locked_payments():
        relay.clear_faults()
        until(lambda: backends_that_wait() >= len(heard), 14)
        processes.kill(running)
        end_backends_that_wait()
    assert not NwcPayment.objects.exclude(state=State.PENDING).exists()

    recover(tmp_path)

    finish(wallets, platform, cases)
    assert_each_asked_once(relay, cases)


# --- the crash


@contextmanager
def requests_held(relay: Any, cases: list[Case], tmp_path: Any) -> Iterator[Any]:
    """Yield a worker whose requests are all with the relay, and no further."""
    relay.fault("hold", on="event", kinds={nwc.REQUEST})
    clients = {case.payment.client_pubkey for case in cases}
    with worker(tmp_path / "first.log") as running:
        # Our own wallet's requests are held too: it is asked about who is late.
        until(lambda: clients <= authors(relay), 60)
        yield running


def authors(relay: Any) -> set[str]:
    """Whose requests the relay has received."""
    return {event.pubkey for event in relay.events(nwc.REQUEST)}


@contextmanager
def locked_payments() -> Iterator[None]:
    with transaction.atomic():
        list(LightningInvoice.objects.select_for_update().order_by("pk"))
        list(NwcPayment.objects.select_for_update().order_by("pk"))
        yield


def backends_that_wait() -> int:
    return len(waiting("pid"))


def end_backends_that_wait() -> None:
    """A killed client's statement would still be carried out once it got its lock."""
    waiting("pg_terminate_backend(pid)")


def waiting(what: str) -> list[Any]:
    with connection.cursor() as cursor:
        # Inside a transaction the view stays as it was first seen.
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            f"SELECT {what} FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        )
        return list(cursor.fetchall())


def recover(tmp_path: Any) -> None:
    """Six minutes later another worker is up and the sweep runs, as beat lets it."""
    age = timedelta(minutes=6)
    NwcPayment.objects.update(
        enqueued_at=F("enqueued_at") - age, next_attempt_at=F("next_attempt_at") - age
    )
    with worker(tmp_path / "second.log"):
        resolve_payments.delay()
        until(lambda: not NwcPayment.objects.unsent().exists(), 60)
        until(everything_was_tried, 60)


def everything_was_tried() -> bool:
    """Whether no attempt waits for an answer that this worker could still hear."""
    asked = NwcPayment.objects.pending().filter(code="", replied_at=None)
    recent = asked.filter(sent_at__gt=timezone.now() - timedelta(seconds=3))
    return not NwcPayment.objects.unsent().exists() and not recent.exists()


# --- how it ends


def finish(wallets: Any, platform: Wallet, cases: list[Case]) -> None:
    """Let hours pass: first with our own wallet out of order, then with it back."""
    paying = [c for c in cases if c.script.pays and not c.script.comes_back]
    until(lambda: all(wallets.ledger.debits(case.name) for case in paying))
    platform.lookup_behaviour = LookupBehaviour(error="INTERNAL")
    before = {case.name: case.reload().state for case in cases}
    expiry = max(case.payment.invoice.expires_at for case in cases)
    with time_machine.travel(expiry + timedelta(hours=1), tick=True):
        returned = [case for case in cases if case.script.comes_back]
        for case in returned:
            assert case.script.comes_back
            case.script.comes_back(case.wallet)
        late = [case for case in returned if case.script.pays]
        until(lambda: all(wallets.ledger.debits(case.name) for case in late))
    end = max(case.payment.invoice.final_at for case in cases)
    with time_machine.travel(end + timedelta(minutes=1), tick=True):
        invoice_status.poll_wallet(pubkey=platform.pubkey)
        for case in cases:
            assert_nothing_else_begins(case, before[case.name])
    platform.lookup_behaviour = LookupBehaviour()
    with time_machine.travel(end + timedelta(hours=2), tick=True):
        invoice_status.poll_wallet(pubkey=platform.pubkey)
    for case in cases:
        assert_right_end(wallets, case)


def assert_nothing_else_begins(case: Case, before: str) -> None:
    """While our wallet is out of order, what was pending is, and bars the way."""
    assert case.reload().state == before, case.name
    if before == State.PENDING:
        assert invoices.payable_until(case.bill.stripe_invoice_id), case.name
        with pytest.raises(PaymentInProgress):
            payments.start_payment(bill=case.bill)
        with pytest.raises(PaymentInProgress):
            invoices.get_or_issue_invoice(bill=case.bill)


def assert_right_end(wallets: Any, case: Case) -> None:
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
            payments.start_payment(bill=case.bill)
    else:
        assert invoices.payable_until(case.bill.stripe_invoice_id) is None, case.name


def assert_each_asked_once(relay: Any, cases: list[Case]) -> None:
    """One request was ever published per attempt, and it is the one in the row."""
    for case in cases:
        sent = relay.events(nwc.REQUEST, author=case.payment.client_pubkey)
        assert [event.id for event in sent] == [case.payment.request_event_id], (
            case.name
        )
