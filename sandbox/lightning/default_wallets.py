"""The wallets that exist at the start: the platform's, and some for tenants."""

from sandbox.wallets import Renewal, Terms, Wallets
from sandbox.wallets.behaviour import pays_after, refuses

#: The wallet in the development setting ROBOT_WALLET.
PLATFORM = "platform"
_RICH = 10_000_000_000


def create_missing(wallets: Wallets) -> None:
    """Create wallets that do not exist yet, and set the behaviour of all.

    Balances and terms of existing wallets stay as they were before a restart.
    """
    wallets.create(PLATFORM)
    wallets.create("rich", balance_msat=_RICH)
    monthly = Terms(budget_msat=20_000_000, renewal=Renewal.MONTHLY)
    wallets.create("poor", balance_msat=25_000_000, terms=monthly)
    slow = wallets.create("slow", balance_msat=_RICH)
    slow.behaviour = pays_after(20)
    refusing = wallets.create("refuses", balance_msat=_RICH)
    refusing.behaviour = refuses("INSUFFICIENT_BALANCE")
