"""The ledger moves sats exactly once, and their total never changes."""

import contextlib
import dataclasses
import threading
import time

import hypothesis.strategies as st
import pytest
import time_machine
from hypothesis import given, settings

from caravel.tests.support import search
from caravel.tests.support.waiting import LIMIT, join
from sandbox.wallets.bolt11 import make_preimage
from sandbox.wallets.database import Database
from sandbox.wallets.ledger import (
    AlreadyPaid,
    InsufficientBalance,
    Invoice,
    InvoiceExpired,
    Ledger,
    NotPaid,
    QuotaExceeded,
    Spender,
    UnknownInvoice,
)

NAMES = ("ann", "bob", "cid")


def invoice(owner="bob", msat=1_000, expiry=60, **fields):
    preimage, now = make_preimage(), int(time.time())
    return Invoice(
        payment_hash=preimage.hash,
        bolt11=f"lnbcrt{preimage.hash}",
        owner=owner,
        amount_msat=msat,
        description="",
        created_at=now,
        expires_at=now + expiry,
        preimage=preimage.secret,
        **fields,
    )


def issue(ledger, **fields):
    issued = invoice(**fields)
    ledger.issue(issued)
    return issued


@pytest.fixture
def database():
    database = Database()
    yield database
    database.close()


@pytest.fixture
def ledger(database):
    ledger = Ledger(database)
    for name in NAMES:
        ledger.open_account(name, balance_msat=10_000)
    return ledger


def test_payment_moves_the_amount_and_settles_the_invoice(ledger):
    issued = issue(ledger, msat=2_500)

    earliest = int(time.time())
    paid = ledger.pay("ann", issued.bolt11)
    latest = time.time()

    assert (
        paid
        == dataclasses.replace(issued, settled_at=paid.settled_at, payer="ann")
        == ledger.invoice(payment_hash=issued.payment_hash)
    )
    assert earliest <= paid.settled_at <= latest
    assert ledger.is_settled(issued.payment_hash)
    assert (ledger.balance("ann"), ledger.balance("bob")) == (7_500, 12_500)
    assert ledger.debits("ann") == [2_500]
    assert ledger.credits("bob") == [10_000, 2_500]


@pytest.mark.parametrize("payer", ["ann", "cid", "bob"])
def test_payment_hash_is_paid_once_by_any_payer(ledger, payer):
    issued = issue(ledger)
    ledger.pay("ann", issued.bolt11)

    with pytest.raises(AlreadyPaid) as refusal:
        ledger.pay(payer, issued.bolt11)

    assert refusal.value.code == "INTERNAL"
    assert ledger.balance("bob") == 11_000


def test_payment_above_the_balance_moves_nothing(ledger):
    issued = issue(ledger, msat=10_001)

    with pytest.raises(InsufficientBalance):
        ledger.pay("ann", issued.bolt11)

    assert not ledger.is_settled(issued.payment_hash)
    assert ledger.debits("ann") == []
    assert ledger.balance("ann") == 10_000


def test_whole_balance_can_be_paid(ledger):
    ledger.pay("ann", issue(ledger, msat=10_000).bolt11)

    assert ledger.balance("ann") == 0


@pytest.mark.parametrize(("seconds", "settled"), [(60 + 7_200, True), (7_261, False)])
def test_expired_invoice_is_payable_for_two_hours(ledger, seconds, settled):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        issued = issue(ledger)
        clock.shift(seconds)
        try:
            ledger.pay("ann", issued.bolt11)
        except InvoiceExpired as refusal:
            assert refusal.code == "PAYMENT_FAILED"

    assert ledger.is_settled(issued.payment_hash) is settled


def test_unknown_invoice_is_not_paid(ledger):
    with pytest.raises(UnknownInvoice):
        ledger.pay("ann", invoice().bolt11)


def test_unknown_account_or_hash_raises_keyerror(ledger):
    issued = issue(ledger)

    with pytest.raises(KeyError):
        ledger.pay("nobody", issued.bolt11)
    with pytest.raises(KeyError):
        ledger.balance("nobody")
    with pytest.raises(KeyError):
        ledger.is_settled("00" * 32)


def test_bolt11_is_recognized_in_upper_case_and_with_a_scheme(ledger):
    issued = issue(ledger)

    assert ledger.invoice(bolt11=f"LIGHTNING:{issued.bolt11.upper()}") == issued
    assert ledger.pay("ann", f"lightning:{issued.bolt11}").payer == "ann"


def test_paying_own_invoice_settles_it_and_keeps_the_balance(ledger):
    issued = issue(ledger, owner="ann")

    ledger.pay("ann", issued.bolt11)

    assert ledger.balance("ann") == 10_000
    assert ledger.debits("ann") == [1_000]
    assert ledger.is_settled(issued.payment_hash)


def test_client_cannot_exceed_its_budget(ledger):
    spender = Spender("ann's phone", budget_msat=2_500)
    for _ in range(2):
        ledger.pay("ann", issue(ledger).bolt11, spender=spender)

    with pytest.raises(QuotaExceeded):
        ledger.pay("ann", issue(ledger).bolt11, spender=spender)

    assert ledger.spent("ann", spender) == 2_000
    assert ledger.pay("ann", issue(ledger).bolt11)


def test_budget_counts_payments_of_its_period_only(ledger):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        spender = Spender("phone", budget_msat=1_000, since=1_800_000_000)
        ledger.pay("ann", issue(ledger).bolt11, spender=spender)
        clock.shift(60)
        later = dataclasses.replace(spender, since=1_800_000_060)

        ledger.pay("ann", issue(ledger).bolt11, spender=later)

        assert ledger.spent("ann", later) == 1_000
        assert ledger.spent("ann", spender) == 2_000


def test_listeners_are_called_for_settled_invoices_only(ledger):
    settled: list[Invoice] = []
    ledger.listeners.append(settled.append)
    issued = issue(ledger)

    paid = ledger.pay("ann", issued.bolt11)
    with pytest.raises(NotPaid):
        ledger.pay("ann", issued.bolt11)

    assert settled == [paid]


def test_concurrent_payers_pay_one_invoice_once(ledger):
    issued, paid, start = issue(ledger), [], threading.Barrier(16, timeout=LIMIT)

    def pay(name):
        start.wait()
        with contextlib.suppress(AlreadyPaid):
            paid.append(ledger.pay(name, issued.bolt11))

    threads = [
        threading.Thread(target=pay, args=(NAMES[number % 3],)) for number in range(16)
    ]
    for thread in threads:
        thread.start()
    join(*threads)

    assert len(paid) == 1
    assert sum(sum(ledger.debits(name)) for name in NAMES) == 1_000
    assert ledger.total() == 30_000


def test_concurrent_payments_never_overdraw_an_account(ledger):
    issued, paid = [issue(ledger) for _ in range(16)], []
    start = threading.Barrier(16, timeout=LIMIT)

    def pay(invoice):
        start.wait()
        with contextlib.suppress(InsufficientBalance):
            paid.append(ledger.pay("ann", invoice.bolt11))

    threads = [threading.Thread(target=pay, args=(invoice,)) for invoice in issued]
    for thread in threads:
        thread.start()
    join(*threads)

    assert len(paid) == 10
    assert ledger.balance("ann") == 0


def test_repr_of_an_invoice_hides_the_preimage(ledger):
    issued = issue(ledger)

    assert issued.preimage not in repr(issued)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("issue"), st.sampled_from(NAMES), st.integers(1, 30_000)),
        st.tuples(st.just("pay"), st.sampled_from(NAMES), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.just(""), st.integers(0, 5_000)),
    ),
    max_size=40,
)


@pytest.mark.search
@given(actions=ACTIONS)
@settings(deadline=None, max_examples=search.examples(60))
def test_total_of_all_balances_never_changes(actions):
    database = Database()
    ledger, issued, paid = Ledger(database), [], []
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        for name in NAMES:
            ledger.open_account(name, balance_msat=20_000)
        for action, name, number in actions:
            if action == "issue":
                issued.append(issue(ledger, owner=name, msat=number))
            elif action == "wait":
                clock.shift(number)
            elif number < len(issued):
                with contextlib.suppress(NotPaid):
                    paid.append(ledger.pay(name, issued[number].bolt11))

            assert ledger.total() == 60_000
            for account in NAMES:
                entries = sum(ledger.credits(account)) - sum(ledger.debits(account))
                assert ledger.balance(account) == entries >= 0

    settled = [invoice for invoice in issued if ledger.is_settled(invoice.payment_hash)]
    assert len(paid) == len(settled) == len({invoice.payment_hash for invoice in paid})
    assert sum(sum(ledger.debits(name)) for name in NAMES) == sum(
        invoice.amount_msat for invoice in settled
    )
    database.close()
