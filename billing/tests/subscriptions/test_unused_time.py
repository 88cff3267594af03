"""Unused time: credited and used amounts add up to what the lines cost."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.clients.stripe.client import Invoice, Line
from billing.services.invoices.amounts import InvoiceAmounts
from billing.services.stripe_writes.cancellations import EndTerms
from billing.services.subscriptions.unused_time import (
    BilledInvoice,
    Share,
    distribute,
    shift_to_open,
    total_credit,
    unused_cents,
    used_cents,
)

MONTH = 30 * 24 * 3600


def make_line(amount, start=0, end=MONTH, *, id="il", discount=0, tax=0):
    line = Line(id, amount, "price", 1, start, end, False)
    return replace(line, discount=discount, tax=tax)


def make_share(
    *lines, at, status="open", returned=0, credited=0, currency="usd", id="in_1"
):
    total = sum(line.cost for line in lines)
    invoice = Invoice(
        id=id,
        status=status,
        customer="cus",
        subscription="sub",
        tenant_pubkey="ab",
        billing_reason="subscription_cycle",
        collection_method="send_invoice",
        auto_advance=False,
        currency=currency,
        number="1",
        hosted_url="",
        total=total,
        amount_due=max(total, 0),
        amount_paid=0,
        amount_remaining=max(total, 0),
        credited=0,
        paid_off_stripe=0,
        created=0,
        due_at=None,
        finalized_at=0,
        lines=lines,
        metadata={},
    )
    return Share(
        billed=BilledInvoice(invoice, lines),
        amounts=InvoiceAmounts(total_cents=total, given_back_cents=returned),
        own=unused_cents(lines, at),
        credited=credited,
    )


def credits_for(*shares, at, **terms):
    """Return the credits of an end by invoice, and check that they add up."""
    due = total_credit(shares, EndTerms(at, **terms))
    left = due - sum(share.credited for share in shares)
    distribute(max(left, 0), shares)
    assert sum(share.taken for share in shares) == max(left, 0)
    return {share.invoice.id: share.taken for share in shares if share.taken}


times = st.integers(0, MONTH)
debits = st.builds(
    lambda amount, ends, percent, tax: make_line(
        amount,
        *sorted(ends),
        discount=amount * percent // 100,
        tax=amount * (100 - percent) * tax // 10_000,
    ),
    st.integers(1, 10**7),
    st.tuples(times, times).filter(lambda ends: ends[0] != ends[1]),
    st.integers(0, 100),
    st.integers(0, 30),
)
credits = debits.map(lambda d: make_line(-d.cost, d.period_start, d.period_end))


@given(st.lists(debits, min_size=1, max_size=5), times)
def test_credit_and_used_time_of_one_invoice_add_up_to_its_total(lines, at):
    share = make_share(*lines, at=at)

    credit = credits_for(share, at=at).get("in_1", 0)

    total = sum(line.cost for line in lines)
    assert credit == round(unused_cents(lines, at))
    assert abs(credit + used_cents(lines, at) - total) <= Fraction(1, 2)


@given(
    st.lists(
        st.tuples(
            st.lists(debits | credits, min_size=1, max_size=4),
            st.booleans(),
            st.integers(0, 10**7),
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(debits | credits, max_size=3),
    times,
    st.randoms(),
)
def test_total_is_rounded_once_and_does_not_depend_on_the_order(
    drawn, pending, at, random
):
    shares = [
        make_share(
            *lines,
            at=at,
            status="paid" if paid else "open",
            returned=min(returned, max(0, sum(line.cost for line in lines))),
            id=f"in_{n}",
        )
        for n, (lines, paid, returned) in enumerate(drawn)
    ]
    terms = EndTerms(at, pending=tuple(pending))

    due = total_credit(shares, terms)

    exact = sum((share.own for share in shares), Fraction())
    exact += unused_cents(pending, at)
    returned = sum(
        min(share.amounts.returned_cents, share.unserved) for share in shares
    )
    assert due <= round(exact) - returned
    random.shuffle(shares)
    assert total_credit(shares, terms) == due
    distribute(max(due, 0), shares)
    assert sum(share.taken for share in shares) == max(due, 0)


@given(debits, times)
def test_used_and_unused_cents_add_up_to_the_cost(line, at):
    assert unused_cents([line], at) + used_cents([line], at) == line.cost


def test_line_is_unused_before_its_period_and_used_after_it():
    line = make_line(500, 100, 200)

    assert unused_cents([line], 100) == unused_cents([line], 50) == 500
    assert unused_cents([line], 200) == unused_cents([line], 300) == 0


def test_unused_time_costs_the_amount_after_discounts_with_taxes():
    line = make_line(2500, discount=1250, tax=250)

    assert unused_cents([line], MONTH // 2) == 750


def test_used_part_of_deleted_prorations_reduces_the_credit():
    """An upgrade for $20 on day 10, cancelled on day 13."""
    start, at = 10 * MONTH // 30, 13 * MONTH // 30
    upgrade = make_line(2000, start)

    share = make_share(make_line(2500), at=at)

    assert credits_for(share, at=at, deleted=(upgrade,)) == {
        "in_1": round(2500 * 17 / 30 - 2000 * 3 / 20)
    }


def test_used_part_of_deleted_prorations_beyond_the_unused_time_is_a_debit():
    start, at = 10 * MONTH // 30, 13 * MONTH // 30
    terms = EndTerms(at, deleted=(make_line(2000, start),))

    due = total_credit([make_share(make_line(500), at=at)], terms)

    assert due == round(500 * 17 / 30 - 2000 * 3 / 20) == -17


def test_pending_credit_that_stripe_deleted_is_credited():
    """One of two relays was deactivated on day 3, the subscription ended on day 7."""
    off, at = 3 * MONTH // 30, 7 * MONTH // 30
    deleted = (make_line(-900, off), make_line(450, off))

    share = make_share(make_line(1000), at=at)

    served = Fraction(1000 * 3, 30) + Fraction(500 * 4, 30)
    assert credits_for(share, at=at, deleted=deleted) == {"in_1": round(1000 - served)}


def test_unpaid_invoice_is_credited_before_a_paid_one():
    at = MONTH // 2
    final = make_share(make_line(-250, at), at=at, status="paid", id="in_final")
    paid = make_share(make_line(500), at=at, status="paid", id="in_paid")
    unpaid = make_share(make_line(500), at=at, id="in_open")

    assert credits_for(final, paid, unpaid, at=at) == {"in_open": 250}


def test_excess_over_an_uncollectible_invoice_goes_to_a_paid_one_first():
    """A credit for the uncollectible invoice may have to wait."""
    at = MONTH // 2
    renewal = make_share(
        make_line(1000), make_line(-900, 0, at), at=at, status="paid", id="in_3"
    )
    lost = make_share(make_line(900), at=0, status="uncollectible", id="in_2")
    lost.own = Fraction(0)
    paid = make_share(make_line(900), at=0, status="paid", id="in_1")
    paid.own = Fraction(0)

    assert credits_for(renewal, lost, paid, at=at) == {"in_3": 100, "in_1": 400}


def test_credit_of_stripes_final_invoice_reduces_the_open_one_instead():
    at = MONTH // 2
    unpaid = make_share(make_line(500), at=at, id="in_open")
    final = make_share(make_line(-251, at), at=at, status="paid", id="in_final")
    shares = [final, unpaid]

    distribute(total_credit(shares, EndTerms(at)), shares)
    shift_to_open(shares)

    assert {share.invoice.id: share.taken for share in shares} == {
        "in_open": 250,
        "in_final": -251,
    }


def test_no_more_is_shifted_than_remains_of_the_open_invoice():
    at = MONTH // 2
    unpaid = make_share(make_line(500), at=at, id="in_open")
    unpaid.billed = replace(
        unpaid.billed, invoice=replace(unpaid.invoice, amount_remaining=100)
    )
    final = make_share(make_line(-250, at), at=at, status="paid", id="in_final")

    shift_to_open([final, unpaid])

    assert (unpaid.taken, final.taken) == (100, -100)


def test_debit_is_of_a_paid_invoice_since_an_open_one_may_become_void():
    at = MONTH // 2
    unpaid, paid = make_share(make_line(500), at=at), make_share(at=at, status="paid")

    distribute(-17, [unpaid, paid])

    assert (unpaid.taken, paid.taken) == (0, -17)


# --- returned amounts


@pytest.mark.parametrize("returned", [0, 100, 250, 400, 500])
def test_returned_amount_counts_against_the_unused_time_first(returned):
    at = MONTH // 2
    share = make_share(make_line(500), at=at, status="paid", returned=returned)

    assert total_credit([share], EndTerms(at)) == max(0, 250 - returned)


def test_only_the_returned_amount_is_debited_if_stripe_has_credited_the_rest():
    at = MONTH // 2
    paid = make_share(make_line(500), at=at, status="paid", returned=100)
    # Stripe has rounded by itself.
    final = make_share(make_line(-251, at), at=at, status="paid", id="in_2")

    assert total_credit([paid, final], EndTerms(at, prorated=True)) == -100


def test_difference_between_roundings_is_not_credited_if_stripe_has_prorated():
    at = MONTH // 2
    paid = make_share(make_line(500), at=at, status="paid")
    final = make_share(make_line(-251, at), at=at, status="paid", id="in_2")

    assert total_credit([paid, final], EndTerms(at, prorated=True)) == 0


def test_no_more_is_credited_than_was_billed_and_not_returned():
    """All of $10 is refunded; a deleted credit of $0.60 is part of it."""
    off, at = 3 * MONTH // 30, 7 * MONTH // 30
    deleted = (make_line(-900, off), make_line(450, off))
    share = make_share(make_line(1000), at=at, status="paid", returned=1000)

    assert total_credit([share], EndTerms(at, deleted=deleted)) == 0


@pytest.mark.parametrize(("given", "due"), [(0, 66), (1000, 0)])
def test_dispute_debt_is_not_debited_as_well(given, due):
    """All of $10 is disputed: what pays for served time is a debt by itself."""
    off, at = 3 * MONTH // 30, 7 * MONTH // 30
    deleted = (make_line(-900, off), make_line(450, off))
    share = make_share(make_line(1000), at=at, status="paid", returned=given)
    share.amounts = replace(share.amounts, taken_back_cents=1000)

    assert total_credit([share], EndTerms(at, deleted=deleted)) == due


def test_difference_to_the_credits_so_far_is_distributed():
    at = MONTH // 2
    share = make_share(make_line(500), at=at, credited=100)

    assert credits_for(share, at=at) == {"in_1": 150}


# --- rounding


@pytest.mark.parametrize(
    ("currency", "amount"), [("isk", 33_300), ("kwd", 33_330), ("jpy", 33_333)]
)
def test_amounts_are_rounded_to_the_currencys_charge_increment(currency, amount):
    at = MONTH // 3
    share = make_share(make_line(50_000), at=at, currency=currency)

    assert credits_for(share, at=at) == {"in_1": amount}


@pytest.mark.parametrize(("amount", "unused"), [(501, 250), (503, 252)])
def test_half_cents_are_rounded_to_even(amount, unused):
    at = MONTH // 2

    assert credits_for(make_share(make_line(amount), at=at), at=at) == {"in_1": unused}


def test_halves_of_several_invoices_are_rounded_once():
    at = MONTH // 2
    shares = [make_share(make_line(501), at=at, id=f"in_{n}") for n in range(3)]

    credits = credits_for(*shares, at=at)

    assert sum(credits.values()) == round(Fraction(3 * 501, 2)) == 752
