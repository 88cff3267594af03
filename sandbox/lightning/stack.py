"""The relay, wallets and price sources as one object."""

import threading
from dataclasses import dataclass, field

from sandbox.nostr import SandboxRelay
from sandbox.prices.feed import PriceFeed
from sandbox.wallets import Wallets


@dataclass(eq=False)
class Lightning:
    """The running parts; thread-safe.

    `url` is the address of the page, the control API and the price sources. Hold `lock`
    to read or change several things at once.
    """

    relay: SandboxRelay
    wallets: Wallets
    prices: PriceFeed = field(default_factory=PriceFeed)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def url(self) -> str:
        """The address, once it is served."""
        return self.prices.url
