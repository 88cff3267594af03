"""Money arithmetic and billing periods."""

from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.stripe.clock import periods
from sandbox.stripe.money import rounding

AMOUNTS = st.integers(-(10**9), 10**9)
SECONDS = st.integers(1, 40 * periods.DAY)


@given(AMOUNTS, st.integers(1, 10**9))
def test_division_is_off_by_at_most_half_and_halves_round_down(numerator, denominator):
    off = Fraction(numerator, denominator) - rounding.divide_half_down(
        numerator, denominator
    )

    assert Fraction(-1, 2) < off <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("numerator", "expected"),
    [(1, 0), (-1, -1), (3, 1), (-3, -2), (9, 4), (-5, -3), (0, 0), (2, 1)],
)
def test_halves_round_in_favour_of_the_customer(numerator, expected):
    assert rounding.divide_half_down(numerator, 2) == expected


@given(AMOUNTS, SECONDS, st.integers(-100, 50 * periods.DAY))
def test_prorated_amount_is_between_zero_and_full_amount(amount, length, at):
    share = rounding.prorate(amount, start=0, end=length, at=at)

    assert 0 <= abs(share) <= abs(amount)
    assert rounding.prorate(amount, start=0, end=length, at=0) == amount
    assert rounding.prorate(amount, start=0, end=length, at=length) == 0
    credit = rounding.prorate(-amount, start=0, end=length, at=at)
    assert credit in (-share, -share - 1)


@given(st.integers(0, 10**6), SECONDS, st.lists(st.integers(0, 40 * periods.DAY)))
def test_prorations_of_quantity_changes_add_up_to_price_times_time(
    unit, length, moments
):
    """Each line, a credit or a debit, is off by half a cent at most."""
    exact, lines, quantity, last = Fraction(0), [unit], 1, 0

    for number, at in enumerate(sorted(min(moment, length) for moment in moments)):
        exact += Fraction(unit * quantity * (at - last), length)
        lines.append(rounding.prorate(-unit * quantity, start=0, end=length, at=at))
        quantity, last = number % 4, at
        lines.append(rounding.prorate(unit * quantity, start=0, end=length, at=at))
    exact += Fraction(unit * quantity * (length - last), length)

    assert abs(sum(lines) - exact) <= Fraction(len(lines), 2)


@given(AMOUNTS, AMOUNTS, st.integers(0, 20_000))
def test_applying_balance_neither_creates_nor_loses_money(total, balance, minimum):
    result = rounding.apply_balance(total=total, balance=balance, minimum=minimum)

    assert result.amount_due + result.ending_balance == total + balance
    assert result.amount_due == 0 or result.amount_due >= minimum
    assert result.carried == max(result.ending_balance, 0)
    assert result.carried < max(minimum, 1)


def moment(year: int, month: int, day: int, hour: int) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp())


def test_month_end_anchor_returns_after_shorter_month():
    anchor = moment(2027, 1, 31, 12)

    ends = [periods.add(anchor, "month", count) for count in (1, 2, 3)]

    assert ends == [
        moment(2027, 2, 28, 12),
        moment(2027, 3, 31, 12),
        moment(2027, 4, 30, 12),
    ]


@given(
    st.integers(1_700_000_000, 1_900_000_000),
    st.sampled_from(["day", "week", "month", "year"]),
    st.integers(0, 4 * 366 * periods.DAY),
)
def test_periods_follow_each_other_without_gaps(anchor, interval, later):
    period = periods.period_at(anchor, interval, anchor + later)
    following = periods.period_at(anchor, interval, period.end)

    assert period.start <= anchor + later < period.end
    assert following.start == period.end
