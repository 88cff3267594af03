"""Money arithmetic: integers only, in the currency's smallest unit."""

from typing import NamedTuple


def divide(numerator: int, denominator: int) -> int:
    """Return the quotient rounded to the nearest integer, halves away from zero."""
    if denominator <= 0:
        raise ValueError("the denominator must be positive")
    doubled = 2 * abs(numerator) + denominator
    quotient = doubled // (2 * denominator)
    return quotient if numerator >= 0 else -quotient


def prorate(amount: int, *, start: int, end: int, at: int) -> int:
    """Return the share of `amount` for the time from `at` to `end`, to the second.

    Source: docs page "Prorations" (prorated to the second).
    """
    if end <= start:
        raise ValueError("a period has a positive length")
    remaining = min(max(end - at, 0), end - start)
    return divide(amount * remaining, end - start)


class Settlement(NamedTuple):
    """What an invoice asks for, and the customer balance it leaves."""

    amount_due: int
    ending_balance: int


def settle(*, total: int, balance: int) -> Settlement:
    """Apply a customer balance (credit is negative) to an invoice total.

    Source: docs page "Customer credit balance": credit reduces the amount due, a debt
    adds to it, and a negative total becomes credit.
    """
    net = total + balance
    return Settlement(net, 0) if net > 0 else Settlement(0, net)
