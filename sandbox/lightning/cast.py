"""The wallets that are there from the start: ours, and some to give to tenants."""

from collections.abc import Iterable
from dataclasses import dataclass

from sandbox.wallets import (
    PAYS,
    PaymentBehaviour,
    Renewal,
    Terms,
    Wallets,
    pays_after,
    refuses,
)

UNLIMITED = Terms()


@dataclass(frozen=True, kw_only=True)
class WalletSpec:
    """A wallet with what it has at first, in sats, and how it behaves."""

    name: str
    sats: int = 0
    behaviour: PaymentBehaviour = PAYS
    terms: Terms = UNLIMITED


#: The wallet that the development setting ROBOT_WALLET leads to.
PLATFORM = "platform"
DEFAULT_WALLETS = (
    WalletSpec(name=PLATFORM),
    WalletSpec(name="rich", sats=10_000_000),
    WalletSpec(
        name="poor",
        sats=25_000,
        terms=Terms(budget_msat=20_000_000, renewal=Renewal.MONTHLY),
    ),
    WalletSpec(name="slow", sats=10_000_000, behaviour=pays_after(20)),
    WalletSpec(
        name="refuses", sats=10_000_000, behaviour=refuses("INSUFFICIENT_BALANCE")
    ),
)


def create_missing(wallets: Wallets, cast: Iterable[WalletSpec]) -> None:
    """Create those who are not there yet, and let all behave as they are meant to.

    What a wallet has, and its terms, are those it had before a restart.
    """
    for member in cast:
        wallet = wallets.create(
            member.name, balance_msat=member.sats * 1_000, terms=member.terms
        )
        wallet.behaviour = member.behaviour
