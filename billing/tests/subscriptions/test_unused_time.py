"""Unused time: credited and used amounts add up to the billed amount."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.clients.stripe.client import Invoice, Line
from billing.services.subscriptions.unused_time import (
    BilledInvoice,
    unused_cents,
    unused_time,
    used_cents,
)

MONTH = 30 * 24 * 3600
HALF = Fraction(1, 2)


def make_line(amount, start=0, end=MONTH):
    return Line("il", amount, "price", 1, start, end, False)


def billed_invoice(*lines, status="open", paid=0, currency="usd", id="in_1"):
    total = sum(line.amount for line in lines)
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
        amount_paid=paid,
        amount_remaining=max(total - paid, 0),
        credited=0,
        paid_off_stripe=0,
        created=0,
        due_at=None,
        finalized_at=0,
        lines=lines,
        metadata={},
    )
    return BilledInvoice(invoice, lines)


def cents_by_invoice(unused):
    return {share.invoice.id: share.cents for share in unused}


times = st.integers(0, MONTH)
debits = st.builds(
    lambda amount, ends: make_line(amount, *sorted(ends)),
    st.integers(1, 10**7),
    st.tuples(times, times).filter(lambda ends: ends[0] != ends[1]),
)
credits = debits.map(lambda d: make_line(-d.amount, d.period_start, d.period_end))


@given(st.lists(debits, min_size=1, max_size=5), times, st.booleans())
def test_credit_and_used_time_of_one_invoice_add_up_to_its_total(lines, at, paid):
    total = sum(line.amount for line in lines)
    invoice = (
        billed_invoice(*lines, status="paid", paid=total)
        if paid
        else billed_invoice(*lines)
    )

    credit = cents_by_invoice(unused_time([invoice], at=at)).get("in_1", 0)

    assert abs(credit + used_cents(lines, at) - total) <= HALF


@given(
    st.lists(
        st.tuples(st.lists(debits | credits, min_size=1, max_size=4), st.booleans()),
        min_size=1,
        max_size=4,
    ),
    st.lists(debits | credits, max_size=3),
    times,
)
def test_credits_never_exceed_the_maximum_of_each_invoice(drawn_invoices, pending, at):
    invoices = []
    for number, (lines, is_paid) in enumerate(drawn_invoices):
        total = max(sum(line.amount for line in lines), 0)
        paid, status = (total, "paid") if is_paid or not total else (0, "open")
        invoices.append(
            billed_invoice(*lines, status=status, paid=paid, id=f"in_{number}")
        )

    credits = cents_by_invoice(unused_time(invoices, at=at, pending=pending))

    limits = {billed.invoice.id: billed.creditable_cents for billed in invoices}
    assert all(0 < amount <= limits[id] for id, amount in credits.items())
    due = sum((unused_cents(billed.lines, at) for billed in invoices), Fraction())
    due = max(due + unused_cents(pending, at), Fraction())
    credited = sum(credits.values())
    expected = min(due, Fraction(sum(limits.values())))
    assert abs(credited - expected) <= HALF * len(invoices)


@given(debits, times)
def test_used_and_unused_cents_add_up_to_the_amount(line, at):
    assert unused_cents([line], at) + used_cents([line], at) == line.amount


def test_line_is_unused_before_its_period_and_used_after_it():
    line = make_line(500, 100, 200)

    assert unused_cents([line], 100) == unused_cents([line], 50) == 500
    assert unused_cents([line], 200) == unused_cents([line], 300) == 0


def test_used_part_of_deleted_prorations_reduces_the_credit():
    """An upgrade for $20 on day 10, cancelled on day 13."""
    start, at = 10 * MONTH // 30, 13 * MONTH // 30
    upgrade = make_line(2000, start)

    unused = unused_time([billed_invoice(make_line(500))], at=at, deleted=[upgrade])

    assert cents_by_invoice(unused) == {}
    unused = unused_time([billed_invoice(make_line(2500))], at=at, deleted=[upgrade])
    assert cents_by_invoice(unused) == {"in_1": round(2500 * 17 / 30 - 2000 * 3 / 20)}


def test_pending_credit_that_stripe_deleted_is_credited():
    """One of two relays was deactivated on day 3, the subscription ended on day 7."""
    off, at = 3 * MONTH // 30, 7 * MONTH // 30
    pending = [make_line(-900, off), make_line(450, off)]

    unused = unused_time([billed_invoice(make_line(1000))], at=at, deleted=pending)

    served = Fraction(1000 * 3, 30) + Fraction(500 * 4, 30)
    assert cents_by_invoice(unused) == {"in_1": round(1000 - served)}


def test_unpaid_invoice_is_credited_before_a_paid_one():
    paid = billed_invoice(make_line(500), status="paid", paid=500, id="in_paid")
    unpaid = billed_invoice(make_line(500), id="in_open")
    final = billed_invoice(make_line(-250, MONTH // 2), status="paid", id="in_final")

    unused = unused_time([final, paid, unpaid], at=MONTH // 2)

    assert cents_by_invoice(unused) == {"in_open": 250}


def test_only_the_paid_part_of_an_uncollectible_invoice_is_credited():
    invoice = billed_invoice(make_line(500), status="uncollectible", paid=100)

    unused = unused_time([invoice], at=MONTH // 2)

    assert cents_by_invoice(unused) == {"in_1": 100}


@pytest.mark.parametrize(
    ("currency", "amount"), [("isk", 33_300), ("kwd", 33_330), ("jpy", 33_333)]
)
def test_amounts_are_rounded_to_the_currencys_charge_increment(currency, amount):
    unused = unused_time(
        [billed_invoice(make_line(50_000), currency=currency)], at=MONTH // 3
    )

    assert cents_by_invoice(unused) == {"in_1": amount}


def test_half_cents_are_rounded_to_even():
    at = MONTH // 2

    assert cents_by_invoice(unused_time([billed_invoice(make_line(501))], at=at)) == {
        "in_1": 250
    }
    assert cents_by_invoice(unused_time([billed_invoice(make_line(503))], at=at)) == {
        "in_1": 252
    }
