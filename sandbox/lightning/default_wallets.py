"""The wallets that exist at the start: the platform's, and some for tenants."""

from collections.abc import Iterable
from dataclasses import dataclass

from sandbox.wallets import Renewal, Terms, Wallets
from sandbox.wallets.behaviour import PAYS, PaymentBehaviour, pays_after, refuses

UNLIMITED = Terms()


@dataclass(frozen=True, kw_only=True)
class WalletSpec:
    """A wallet's name, initial balance in sats, behaviour and terms."""

    name: str
    sats: int = 0
    behaviour: PaymentBehaviour = PAYS
    terms: Terms = UNLIMITED


#: The wallet in the development setting ROBOT_WALLET.
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


def create_missing(wallets: Wallets, specs: Iterable[WalletSpec]) -> None:
    """Create wallets that do not exist yet, and set the behaviour of all.

    Balances and terms of existing wallets stay as they were before a restart.
    """
    for spec in specs:
        wallet = wallets.create(
            spec.name, balance_msat=spec.sats * 1_000, terms=spec.terms
        )
        wallet.behaviour = spec.behaviour
