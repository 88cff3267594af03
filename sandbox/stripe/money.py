"""Money arithmetic: integers only, in the currency's smallest unit."""

from typing import NamedTuple


def divide(numerator: int, denominator: int) -> int:
    """Return the quotient rounded to the nearest integer, halves down.

    So a half is decided for the customer: 4.5 is billed as 4, and -2.5 is credited
    as -3. Assumed: no page of Stripe's says so; the rule fits the examples of the
    docs page "Prorations" (-666.67 is -667, 166.35 is 166) and what others recorded
    of Stripe at exact halves (those two amounts).
    """
    if denominator <= 0:
        raise ValueError("the denominator must be positive")
    return -((denominator - 2 * numerator) // (2 * denominator))


def prorate(amount: int, *, start: int, end: int, at: int) -> int:
    """Return the share of `amount` for the time from `at` to `end`, to the second.

    Source: docs page "Prorations" (prorated to the second).
    """
    if end <= start:
        raise ValueError("a period has a positive length")
    remaining = min(max(end - at, 0), end - start)
    return divide(amount * remaining, end - start)


class Settlement(NamedTuple):
    """What an invoice asks for, and the customer balance it leaves.

    `carried` is the part of that balance that was due but too small to charge.
    """

    amount_due: int
    ending_balance: int
    carried: int = 0


def settle(*, total: int, balance: int, minimum: int = 0) -> Settlement:
    """Apply a customer balance (credit is negative) to an invoice total.

    Source: docs page "Customer credit balance": credit reduces the amount due, a debt
    adds to it, and a negative total becomes credit. API reference, Invoices: what is
    below the minimum charge is not asked for but owed with the next invoice.
    """
    net = total + balance
    if net <= 0:
        return Settlement(0, net)
    return Settlement(0, net, net) if net < minimum else Settlement(net, 0)
