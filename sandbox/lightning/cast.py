"""The wallets that are there from the start: ours, and some to give to tenants."""

from collections.abc import Iterable
from dataclasses import dataclass

from sandbox.wallets import (
    PAYS,
    Paying,
    Renewal,
    Terms,
    Wallets,
    pays_after,
    refuses,
)

UNLIMITED = Terms()


@dataclass(frozen=True, kw_only=True)
class Member:
    """A wallet with what it has at first, in sats, and how it behaves."""

    name: str
    sats: int = 0
    behaviour: Paying = PAYS
    terms: Terms = UNLIMITED


#: The wallet that the development setting ROBOT_WALLET leads to.
PLATFORM = "platform"
CAST = (
    Member(name=PLATFORM),
    Member(name="rich", sats=10_000_000),
    Member(
        name="poor",
        sats=25_000,
        terms=Terms(budget_msat=20_000_000, renewal=Renewal.MONTHLY),
    ),
    Member(name="slow", sats=10_000_000, behaviour=pays_after(20)),
    Member(name="refuses", sats=10_000_000, behaviour=refuses("INSUFFICIENT_BALANCE")),
)


def gather(wallets: Wallets, cast: Iterable[Member]) -> None:
    """Create those who are not there yet, and let all behave as they are meant to.

    What a wallet has, and its terms, are those it had before a restart.
    """
    for member in cast:
        wallet = wallets.create(
            member.name, balance_msat=member.sats * 1_000, terms=member.terms
        )
        wallet.behaviour = member.behaviour
