"""Each scripted wallet, with a worker killed before, during and after its request.

In every case a payer's sats move once if its wallet pays, and not at all if it refuses;
an unknown outcome stays pending until our own wallet knows it. What no wallet can tell,
support decides: nothing is paid twice, lost, or without an end.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from lightning.tests.support.decisions import decide_by_ledger
from lightning.tests.support.payments import get_or_issue_invoice, start_payment
from lightning.tests.support.scripts import SCRIPTS, Receiver, Script
from sandbox.nostr import SandboxRelay
from sandbox.wallets import Wallet
from sandbox.wallets.behaviour import LookupBehaviour
from tenants.services.tenants import set_wallet
from tenants.tests.factories import TenantFactory

pytestmark = [
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
    pytest.mark.processes,
    pytest.mark.usefixtures("prices"),
]

State = NwcPayment.State


@dataclass
class Case:
    """One tenant of a script, and the attempt to have it pay."""

    name: str
    script: Script
    wallet: Wallet
    receiver: Wallet
    payment_request: PaymentRequest
    payment: NwcPayment

    @property
    def client(self) -> str:
        return self.payment.client_pubkey

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
def requires_auth() -> bool:
    return False


@pytest.fixture
def relay(relay: SandboxRelay, requires_auth: bool) -> SandboxRelay:
    # Some real relays keep expired events: wallets that come back will get them.
    relay.change_settings(honours_expiration=False, requires_auth=requires_auth)
    return relay


@pytest.fixture
def receivers(wallets) -> dict[Receiver, Wallet]:
    """Our own wallets by their behaviour, which they do not have yet."""
    scripted = dict.fromkeys(script.receiver for script in SCRIPTS.values())
    return {
        receiver: wallets.create(f"own {number}")
        for number, receiver in enumerate(scripted)
    }


@pytest.fixture
def cases(settings, wallets, receivers) -> list[Case]:
    """Attempts that are due; the broker has their messages."""
    settings.NWC_TIMEOUT = 5
    # Refusals that come true wait for it, as in production.
    settings.LIGHTNING_REFUSAL_PAUSE = 60
    cases = []
    for name, script in SCRIPTS.items():
        wallet = wallets.create(
            name, balance_msat=10**9, terms=script.terms, protocol=script.protocol
        )
        wallet.behaviour = script.behaviour
        if script.offline:
            wallet.go_offline()
        receiver = receivers[script.receiver]
        settings.ROBOT_WALLETS = [receiver.url]
        cases.append(start_case(wallet, script, receiver))
    # At once, so that a crash meets them all.
    assert len(cases) <= int(processes.THREADS[-1])
    settings.ROBOT_WALLETS = [receiver.url for receiver in receivers.values()]
    behave_as_scripted(receivers)
    return cases


def start_case(wallet: Wallet, script: Script, receiver: Wallet) -> Case:
    tenant = TenantFactory()
    set_wallet(pubkey=tenant.pk, nwc_url=wallet.url)
    payment_request = make_payment_request(tenant)
    payment = start_payment(payment_request)
    return Case(wallet.name, script, wallet, receiver, payment_request, payment)


def behave_as_scripted(receivers: dict[Receiver, Wallet]) -> None:
    for script, wallet in receivers.items():
        wallet.lookup_behaviour = script.lookups
        wallet.protocol = script.protocol
        wallet.connection.deny(script.denied)


def worker(log: Any) -> Any:
    return processes.worker(log, queues="default,lightning", pool=processes.THREADS)


@pytest.mark.parametrize("requires_auth", [False, True], ids=["open", "AUTH"])
def test_each_wallet_has_its_outcome_without_a_crash(
    relay, wallets, receivers, cases, tmp_path
):
    with worker(tmp_path / "worker.log"):
        wait_until(all_attempts_tried)

    for case in cases:
        payment = case.reload()
        if not case.script.pays:
            assert payment.state == State.PENDING, case.name
        if case.script.refuses:
            assert payment.refused_at, case.name
        if case.script.needs_proof:
            assert payment.proven_at, case.name
    finish(wallets, receivers, cases)
    assert_one_request_each(relay, cases)


def test_attempts_are_made_once_when_killed_before_the_request(
    relay, wallets, receivers, cases, tmp_path
):
    """The worker fetches the info event; no request is marked as sent."""
    relay.fault("hold", on="req", kinds={nwc_info.INFO})
    with worker(tmp_path / "first.log") as running:
        wait_until(lambda: relay.held >= len(cases))
        processes.kill(running)
    assert NwcPayment.objects.unsent().count() == len(cases)
    relay.clear_faults()

    recover(tmp_path)

    finish(wallets, receivers, cases)
    assert_one_request_each(relay, cases)


def test_attempts_are_made_once_when_killed_during_the_request(
    relay, wallets, receivers, cases, tmp_path
):
    """The relay has the requests; wallets get them after the worker is gone."""
    with requests_held(relay, cases, tmp_path) as running:
        processes.kill(running)
    # Without an info event a first request asks for the wallet's encryption.
    probed = {case.client for case in cases if not case.script.protocol.announces}
    unsent = NwcPayment.objects.unsent().values_list("client_pubkey", flat=True)
    assert set(unsent) <= probed
    relay.clear_faults()

    recover(tmp_path)

    finish(wallets, receivers, cases)
    assert_one_request_each(relay, cases)


def test_attempts_are_made_once_when_killed_after_the_reply(
    relay, wallets, receivers, cases, tmp_path
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

    finish(wallets, receivers, cases)
    assert_one_request_each(relay, cases)


# --- the crash


@contextmanager
def requests_held(relay: Any, cases: list[Case], tmp_path: Any) -> Iterator[Any]:
    """Yield a worker whose requests have reached the relay, but no wallet."""
    relay.fault("hold", on="event", kinds={nwc.REQUEST})
    clients = {case.client for case in cases}
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


def finish(wallets: Any, receivers: dict[Receiver, Wallet], cases: list[Case]) -> None:
    """Let hours pass: first with our own wallets out of order, then with them back."""
    paying = [c for c in cases if c.script.pays and not c.script.comes_back]
    wait_until(lambda: all(wallets.ledger.debits(case.name) for case in paying))
    for own_wallet in receivers.values():
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
        poll(receivers)
        for case in cases:
            if not is_settled_by_proof(case):
                assert_no_other_payment_starts(case, before[case.name])
    behave_as_scripted(receivers)
    for hours in (2, 3):
        with time_machine.travel(end + timedelta(hours=hours), tick=True):
            poll(receivers)
    with time_machine.travel(end + timedelta(days=1), tick=True):
        for case in cases:
            decide_as_support(wallets, case)
    for case in cases:
        assert_outcome(wallets, case)


def is_settled_by_proof(case: Case) -> bool:
    """Return whether the payer's proof has decided, at its time."""
    payment = case.reload()
    return payment.state == State.PAID and payment.proven_at is not None


def poll(receivers: dict[Receiver, Wallet]) -> None:
    for own_wallet in receivers.values():
        invoice_status.poll_wallet(pubkey=own_wallet.pubkey)


def decide_as_support(wallets: Any, case: Case) -> None:
    """Decide an attempt that no answer has ended, by what has really happened."""
    invoice = case.reload().invoice
    invoice.refresh_from_db()
    if not invoice.contradicted_at or not invoice.is_watched:
        needs_decision = case.script.needs_support and not case.script.needs_proof
        assert not needs_decision, case.name
        return
    # A worker that was killed may not have asked for the payer's node.
    assert case.script.needs_support or case.script.needs_proof, case.name
    assert_no_other_payment_starts(case, State.PENDING)
    decide_by_ledger(wallets, invoice)


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
    # If the proof was lost with the worker, nobody can know of a payment that our own
    # wallet denies.
    is_known = not case.script.needs_proof or payment.proven_at is not None
    is_paid = case.script.pays and is_known
    ends = {State.PAID} if is_paid else {State.FAILED}
    if case.script.refuses:
        ends.add(State.REFUSED)
    assert payment.state in ends, case.name
    invoice = LightningInvoice.objects.get(pk=payment.invoice_id)
    assert not invoice.is_watched, case.name
    if is_paid:
        assert invoice.received_msat == amount, case.name
        with pytest.raises(AlreadySettled):
            start_payment(case.payment_request)
    else:
        assert live_payment(case.payment_request.stripe_invoice_id) is None, case.name


def assert_one_request_each(relay: Any, cases: list[Case]) -> None:
    """Each attempt has published one payment request, the one in its row."""
    for case in cases:
        sent = {event.id for event in relay.events(nwc.REQUEST, author=case.client)}
        # Requests for the wallet's node or encryption; only the wallet can read them.
        others = {
            request.id
            for request in case.wallet.requests()
            if request.method != "pay_invoice"
        }
        assert sent - others == {case.reload().request_event_id}, case.name
