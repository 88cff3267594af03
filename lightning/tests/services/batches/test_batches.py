"""Payments by several tenants' wallets in one task: none waits for another's wallet."""

from datetime import timedelta
from unittest.mock import patch

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lightning.clients import nwc, nwc_batches
from lightning.clients.nwc_batches import Load, Room
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import attempts, outcomes, payments
from lightning.tasks import resolve_payments, run_nwc_payment
from lightning.tests.support.batches import run_batch, start_payments, states_of
from sandbox.wallets.behaviour import STAYS_SILENT, answers_after, refuses

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_wallet", "prices")]

State = NwcPayment.State


def make_due() -> None:
    long_ago = timezone.now() - timedelta(hours=1)
    NwcPayment.objects.update(enqueued_at=long_ago)


def test_each_wallet_of_a_batch_has_its_own_outcome(settings, wallets):
    settings.NWC_TIMEOUT = 2
    due = start_payments(
        wallets, "pays", "is silent", "forbids", "is poor", "has no relay"
    )
    wallets["is silent"].behaviour = STAYS_SILENT
    wallets["forbids"].behaviour = refuses("RESTRICTED")
    wallets["is poor"].behaviour = refuses("INSUFFICIENT_BALANCE")
    url = unreachable(due[-1].nwc_url.reveal())
    NwcPayment.objects.filter(pk=due[-1].pk).update(nwc_url=url)

    outcome = run_batch(due)

    assert outcome == ["paid", "pending", "refused", "refused", "refused"]
    rows = NwcPayment.objects.in_bulk([payment.pk for payment in due])
    codes = [rows[payment.pk].code for payment in due]
    assert codes[2:] == ["RESTRICTED", "INSUFFICIENT_BALANCE", "NOT_SENT"]
    names = ["pays", "is silent", "forbids", "is poor"]
    requests = [len(wallets[name].requests("pay_invoice")) for name in names]
    assert requests == [1, 1, 1, 1]
    assert wallets["has no relay"].requests("pay_invoice") == []


def unreachable(url: str) -> str:
    """Return the wallet's URL with a relay at which nobody listens."""
    start, _, rest = url.partition("relay=")
    _, separator, end = rest.partition("&")
    return f"{start}relay=ws%3A%2F%2F127.0.0.1%3A9{separator}{end}"


def test_running_a_batch_twice_sends_each_request_once(wallets):
    due = start_payments(wallets, "alice", "bob")

    first, second = run_batch(due), run_batch(due)

    assert first == second == ["paid", "paid"]
    for name, payment in zip(("alice", "bob"), due, strict=True):
        assert wallets.ledger.debits(name) == [payment.invoice.amount_msat]


def test_two_workers_with_one_batch_send_each_request_once(wallets):
    """Another worker stores its requests right before this one would."""
    due = start_payments(wallets, "alice", "bob", "carol")
    real = attempts.mark_sent

    def another_first(prepared):
        with patch.object(attempts, "mark_sent", real):
            run_batch(due[:2])
        return real(prepared)

    with patch.object(attempts, "mark_sent", another_first):
        assert run_batch(due) == ["paid", "paid", "paid"]

    for name in ("alice", "bob", "carol"):
        assert len(wallets[name].requests("pay_invoice")) == 1


def test_worker_killed_after_storing_the_requests_sends_none_of_them_again(wallets):
    due = start_payments(wallets, "alice", "bob")
    with (
        patch.object(nwc, "pay_each", side_effect=SystemExit),
        pytest.raises(SystemExit),
    ):
        run_batch(due)

    assert run_batch(due) == ["pending", "pending"]
    for name in ("alice", "bob"):
        assert wallets[name].requests("pay_invoice") == []


def test_slow_wallet_does_not_delay_the_records_of_the_others(settings, wallets):
    settings.NWC_TIMEOUT = 2
    slow, *fast = start_payments(wallets, "slow", "alice", "bob")
    wallets["slow"].behaviour = STAYS_SILENT
    groups, seen = [], []
    real = attempts.record

    def record(outcomes):
        groups.append([each.payment.pk for each, _ in outcomes])
        seen.append(states_of(fast))
        return real(outcomes)

    with patch.object(attempts, "record", record):
        run_batch([slow, *fast])

    assert groups[-1] == [slow.pk]
    assert seen[-1] == ["paid", "paid"]


def test_wallets_of_a_batch_pay_at_the_same_time(settings, wallets):
    settings.NWC_TIMEOUT = 30
    due = start_payments(wallets, *(f"wallet {n}" for n in range(5)))
    for n in range(5):
        wallets[f"wallet {n}"].behaviour = answers_after(1)
    counts = []
    real = attempts.record

    def record(outcomes):
        requests = [wallets[f"wallet {n}"].requests("pay_invoice") for n in range(5)]
        counts.append(sum(map(len, requests)))
        return real(outcomes)

    with patch.object(attempts, "record", record):
        assert run_batch(due) == ["paid"] * 5

    assert counts[0] == 5


def test_batch_takes_few_statements_per_payment(wallets):
    due = start_payments(wallets, *(f"wallet {n}" for n in range(10)))

    with CaptureQueriesContext(connection) as queries:
        assert run_batch(due) == ["paid"] * 10

    # Three for each, and those of each group of replies, of which there may be several.
    assert len(queries) <= 3 * 10 + 12 * 10 // 2
    marks = [q for q in queries if "request_event_id = request.id" in q["sql"]]
    assert len(marks) == 1


def test_failed_settlement_does_not_hold_up_the_others(wallets):
    due = start_payments(wallets, "alice", "bob")

    with patch.object(outcomes, "_settle_together", side_effect=RuntimeError("lock")):
        assert run_batch(due) == ["paid", "paid"]

    settled = LightningInvoice.objects.filter(state=LightningInvoice.State.SETTLED)
    assert settled.count() == 2


@pytest.mark.parametrize(
    "size",
    [Load(relays=0, requests=2), Load(relays=2, requests=1)],
    ids=["relays", "requests"],
)
def test_batch_without_room_is_left_to_the_sweep(size, monkeypatch, wallets):
    due = start_payments(wallets, "alice", "bob")
    with monkeypatch.context() as full:
        full.setattr(nwc_batches, "ROOM", Room(size))
        full.setattr(nwc_batches, "_MAX_WAIT", 0.0)
        assert run_batch(due) == ["pending", "pending"]
    assert wallets["alice"].requests("pay_invoice") == []

    with patch.object(run_nwc_payment, "delay", side_effect=run_nwc_payment):
        resolve_payments()

    assert states_of(due) == ["paid", "paid"]


def test_room_is_given_back_when_a_batch_fails(monkeypatch, wallets):
    monkeypatch.setattr(nwc_batches, "ROOM", Room(Load(relays=1, requests=1)))
    monkeypatch.setattr(nwc_batches, "_MAX_WAIT", 0.0)
    due = start_payments(wallets, "alice")
    with (
        patch.object(attempts, "mark_sent", side_effect=RuntimeError("down")),
        pytest.raises(RuntimeError),
    ):
        run_batch(due)

    assert run_batch(due) == ["paid"]


def test_sweep_enqueues_all_due_attempts_in_batches(monkeypatch, wallets):
    monkeypatch.setattr(payments, "BATCH", 2)
    due = start_payments(wallets, "alice", "bob", "carol", "dave", "eve")
    make_due()

    with patch.object(run_nwc_payment, "delay") as delay:
        resolve_payments()
        resolve_payments()

    sent = [call.args for call in delay.call_args_list]
    assert [len(keys) for keys in sent] == [2, 2, 1]
    assert {key for keys in sent for key in keys} == {payment.pk for payment in due}


def test_invoice_that_grows_too_old_in_a_batch_is_not_sent(wallets):
    due = start_payments(wallets, "alice", "bob")
    learn = nwc.learn_schemes
    late = due[0].invoice.expires_at - timedelta(seconds=65)

    with time_machine.travel(late, tick=True) as clock:

        def learn_slowly(asked):
            clock.shift(timedelta(seconds=10))
            return learn(asked)

        with patch.object(nwc, "learn_schemes", learn_slowly):
            assert run_batch(due) == ["refused"] * 2

    assert all(wallets[n].requests("pay_invoice") == [] for n in ("alice", "bob"))


def test_database_connection_is_free_while_a_batch_waits_for_room(monkeypatch):
    released = []
    monkeypatch.setattr(nwc_batches, "release_connection", lambda: released.append(1))
    room = Room(Load(relays=1, requests=1))
    monkeypatch.setattr(
        room._changed, "wait_for", lambda *_: bool(released), raising=False
    )

    with room.take(Load(relays=1, requests=1)):
        pass

    assert released


def test_wallet_that_has_answered_keeps_no_room(monkeypatch, settings, wallets):
    settings.NWC_TIMEOUT = 2
    due = start_payments(wallets, "fast", "silent")
    wallets["silent"].behaviour = STAYS_SILENT
    for payment in due:
        url = payment.nwc_url.reveal().replace("&secret", f"%2F{payment.pk}&secret")
        NwcPayment.objects.filter(pk=payment.pk).update(nwc_url=url)
    room = Room(Load(relays=2, requests=2))
    monkeypatch.setattr(nwc_batches, "ROOM", room)
    monkeypatch.setattr(nwc_batches, "_MAX_WAIT", 0.0)
    record, states = attempts.record, []

    def record_beside_another_batch(group):
        with room.take(Load(relays=1, requests=1)):
            states.append(states_of(due))
        return record(group)

    with patch.object(attempts, "record", record_beside_another_batch):
        assert run_batch(due) == ["paid", "pending"]

    assert states == [["pending", "pending"], ["paid", "pending"]]


def test_wallet_to_which_nothing_is_sent_keeps_no_room(monkeypatch, wallets):
    due = start_payments(wallets, "pays", "has no relay")
    url = unreachable(due[-1].nwc_url.reveal())
    NwcPayment.objects.filter(pk=due[-1].pk).update(nwc_url=url)
    room, pay = Room(Load(relays=2, requests=2)), nwc.pay_each
    monkeypatch.setattr(nwc_batches, "ROOM", room)
    free = []

    def pay_each(orders):
        free.append(room._free)
        yield from pay(orders)

    with patch.object(nwc, "pay_each", pay_each):
        assert run_batch(due) == ["paid", "refused"]

    assert free == [Load(relays=1, requests=1)]
