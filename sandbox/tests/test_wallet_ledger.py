"""The ledger moves sats once, and none are made or lost."""

import contextlib
import dataclasses
import threading
import time

import hypothesis.strategies as st
import pytest
import time_machine
from hypothesis import given, settings

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


def issued(ledger, **fields):
    made = invoice(**fields)
    ledger.issue(made)
    return made


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


def test_a_payment_moves_the_amount_and_settles_the_invoice(ledger):
    made = issued(ledger, msat=2_500)

    paid = ledger.pay("ann", made.bolt11)

    assert (
        paid
        == dataclasses.replace(made, settled_at=paid.settled_at, payer="ann")
        == ledger.invoice(payment_hash=made.payment_hash)
    )
    assert abs(paid.settled_at - time.time()) < 5
    assert ledger.is_settled(made.payment_hash)
    assert (ledger.balance("ann"), ledger.balance("bob")) == (7_500, 12_500)
    assert (ledger.debits("ann"), ledger.total_debited("ann")) == ([2_500], 2_500)
    assert ledger.credits("bob") == [10_000, 2_500]


@pytest.mark.parametrize("payer", ["ann", "cid", "bob"])
def test_one_hash_is_paid_once_whoever_pays_it(ledger, payer):
    made = issued(ledger)
    ledger.pay("ann", made.bolt11)

    with pytest.raises(AlreadyPaid) as refusal:
        ledger.pay(payer, made.bolt11)

    assert refusal.value.code == "INTERNAL"
    assert ledger.balance("bob") == 11_000


def test_who_has_too_little_pays_nothing(ledger):
    made = issued(ledger, msat=10_001)

    with pytest.raises(InsufficientBalance):
        ledger.pay("ann", made.bolt11)

    assert not ledger.is_settled(made.payment_hash)
    assert ledger.debits("ann") == []
    assert ledger.balance("ann") == 10_000


def test_all_that_one_has_can_be_paid(ledger):
    ledger.pay("ann", issued(ledger, msat=10_000).bolt11)

    assert ledger.balance("ann") == 0


@pytest.mark.parametrize(("seconds", "settled"), [(60 + 7_200, True), (7_261, False)])
def test_an_expired_invoice_is_paid_for_two_hours_more(ledger, seconds, settled):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        made = issued(ledger)
        clock.shift(seconds)
        try:
            ledger.pay("ann", made.bolt11)
        except InvoiceExpired as refusal:
            assert refusal.code == "PAYMENT_FAILED"

    assert ledger.is_settled(made.payment_hash) is settled


def test_a_node_may_take_nothing_late(ledger):
    ledger.late_seconds = 0
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        made = issued(ledger)
        clock.shift(61)
        with pytest.raises(InvoiceExpired):
            ledger.pay("ann", made.bolt11)


def test_a_foreign_invoice_has_no_route(ledger):
    with pytest.raises(UnknownInvoice):
        ledger.pay("ann", invoice().bolt11)


def test_an_unknown_account_is_an_error_of_the_test(ledger):
    made = issued(ledger)

    with pytest.raises(KeyError):
        ledger.pay("nobody", made.bolt11)
    with pytest.raises(KeyError):
        ledger.balance("nobody")
    with pytest.raises(KeyError):
        ledger.is_settled("00" * 32)


def test_an_invoice_is_found_in_upper_case_and_with_a_scheme(ledger):
    made = issued(ledger)

    assert ledger.invoice(bolt11=f"LIGHTNING:{made.bolt11.upper()}") == made
    assert ledger.pay("ann", f"lightning:{made.bolt11}").payer == "ann"


def test_paying_oneself_moves_nothing_and_settles(ledger):
    made = issued(ledger, owner="ann")

    ledger.pay("ann", made.bolt11)

    assert ledger.balance("ann") == 10_000
    assert ledger.debits("ann") == [1_000]
    assert ledger.is_settled(made.payment_hash)


def test_a_client_spends_no_more_than_its_budget(ledger):
    spender = Spender("ann's phone", budget_msat=2_500)
    for _ in range(2):
        ledger.pay("ann", issued(ledger).bolt11, spender=spender)

    with pytest.raises(QuotaExceeded):
        ledger.pay("ann", issued(ledger).bolt11, spender=spender)

    assert ledger.spent("ann", spender) == 2_000
    assert ledger.pay("ann", issued(ledger).bolt11)


def test_a_budget_counts_from_its_period_on(ledger):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        spender = Spender("phone", budget_msat=1_000, since=1_800_000_000)
        ledger.pay("ann", issued(ledger).bolt11, spender=spender)
        clock.shift(60)
        later = dataclasses.replace(spender, since=1_800_000_060)

        ledger.pay("ann", issued(ledger).bolt11, spender=later)

        assert ledger.spent("ann", later) == 1_000
        assert ledger.spent("ann", spender) == 2_000


def test_listeners_are_told_of_what_is_settled_and_of_nothing_else(ledger):
    told: list[Invoice] = []
    ledger.listeners.append(told.append)
    made = issued(ledger)

    paid = ledger.pay("ann", made.bolt11)
    with pytest.raises(NotPaid):
        ledger.pay("ann", made.bolt11)

    assert told == [paid]


def test_many_payers_at_once_pay_one_invoice_once(ledger):
    made, paid, start = issued(ledger), [], threading.Barrier(16)

    def pay(name):
        start.wait()
        with contextlib.suppress(AlreadyPaid):
            paid.append(ledger.pay(name, made.bolt11))

    threads = [
        threading.Thread(target=pay, args=(NAMES[number % 3],)) for number in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(paid) == 1
    assert sum(ledger.total_debited(name) for name in NAMES) == 1_000
    assert ledger.total() == 30_000


def test_a_payer_at_once_in_many_threads_never_overdraws(ledger):
    made, paid, start = [issued(ledger) for _ in range(16)], [], threading.Barrier(16)

    def pay(one):
        start.wait()
        with contextlib.suppress(InsufficientBalance):
            paid.append(ledger.pay("ann", one.bolt11))

    threads = [threading.Thread(target=pay, args=(one,)) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(paid) == 10
    assert ledger.balance("ann") == 0


def test_no_preimage_is_shown(ledger):
    made = issued(ledger)

    assert made.preimage not in repr(made)


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("issue"), st.sampled_from(NAMES), st.integers(1, 30_000)),
        st.tuples(st.just("pay"), st.sampled_from(NAMES), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.just(""), st.integers(0, 5_000)),
    ),
    max_size=40,
)


@given(acts=ACTS)
@settings(deadline=None, max_examples=60)
def test_sats_are_neither_made_nor_lost(acts):
    database = Database()
    ledger, made, paid = Ledger(database), [], []
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        for name in NAMES:
            ledger.open_account(name, balance_msat=20_000)
        for act, name, number in acts:
            if act == "issue":
                made.append(issued(ledger, owner=name, msat=number))
            elif act == "wait":
                clock.shift(number)
            elif number < len(made):
                with contextlib.suppress(NotPaid):
                    paid.append(ledger.pay(name, made[number].bolt11))

            assert ledger.total() == 60_000
            for one in NAMES:
                entries = sum(ledger.credits(one)) - ledger.total_debited(one)
                assert ledger.balance(one) == entries >= 0

    settled = [one for one in made if ledger.is_settled(one.payment_hash)]
    assert len(paid) == len(settled) == len({one.payment_hash for one in paid})
    assert sum(ledger.total_debited(name) for name in NAMES) == sum(
        one.amount_msat for one in settled
    )
    database.close()
