"""Money arithmetic with integers, in the currency's smallest unit."""

from collections.abc import Sequence
from fractions import Fraction
from math import floor
from typing import NamedTuple


def divide_half_down(numerator: int, denominator: int) -> int:
    """Return the quotient rounded to the nearest integer, halves down.

    Exact halves favour the customer: 4.5 is billed as 4, -2.5 is credited as -3.
    Assumed: Stripe does not document it. The rule fits the examples of the docs page
    "Prorations" (-666.67 becomes -667, 166.35 becomes 166) and published recordings of
    Stripe for the two halves above.
    """
    if denominator <= 0:
        raise ValueError("the denominator must be positive")
    return -((denominator - 2 * numerator) // (2 * denominator))


def prorate(amount: int, *, start: int, end: int, at: int) -> int:
    """Return the share of `amount` for the time from `at` to `end`.

    Source: docs page "Prorations" (prorated to the second).
    """
    if end <= start:
        raise ValueError("the period must have a positive length")
    remaining = min(max(end - at, 0), end - start)
    return divide_half_down(amount * remaining, end - start)


class AmountDue(NamedTuple):
    """Amount due of an invoice, and the customer balance after it.

    `carried` is the part of that balance that was due but below the minimum charge.
    """

    amount_due: int
    ending_balance: int
    carried: int = 0


def apply_balance(*, total: int, balance: int, minimum: int = 0) -> AmountDue:
    """Apply a customer balance (credit is negative) to an invoice total.

    Source: docs page "Customer credit balance": credit reduces the amount due, a debt
    adds to it, and a negative total becomes credit. API reference, Invoices: an amount
    below the minimum charge moves to the next invoice.
    """
    net = total + balance
    if net <= 0:
        return AmountDue(0, net)
    return AmountDue(0, net, net) if net < minimum else AmountDue(net, 0)


def round_half_away(exact: Fraction) -> int:
    """Return the nearest integer; exact halves are rounded away from zero.

    So a credit is the exact opposite of the same debit. Assumed for discounts and
    taxes: Stripe does not document it.
    """
    rounded = floor(abs(exact) + Fraction(1, 2))
    return rounded if exact >= 0 else -rounded


def round_together(exact: Sequence[Fraction]) -> list[int]:
    """Return integers whose sum is the rounded sum of the exact numbers.

    Each is rounded down, and the remaining units go to the largest fractions.
    """
    rounded = [floor(number) for number in exact]
    remaining = round_half_away(sum(exact, Fraction())) - sum(rounded)
    by_fraction = sorted(range(len(exact)), key=lambda n: rounded[n] - exact[n])
    for number in by_fraction[:remaining]:
        rounded[number] += 1
    return rounded


def spread(total: int, weights: Sequence[int]) -> list[int]:
    """Return shares of a total in proportion to non-negative weights.

    They are exact in the sum.
    """
    whole = sum(weights)
    if not whole:
        return [0] * len(weights)
    return round_together([Fraction(total * weight, whole) for weight in weights])
