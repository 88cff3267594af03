"""The relay, wallets and price sources as one object."""

import threading

from sandbox.nostr import SandboxRelay
from sandbox.prices.feed import PriceFeed
from sandbox.wallets import Wallets


class Lightning:
    """The running parts `relay`, `wallets` and `prices`; thread-safe.

    `url` is the address of the page, the control API and the price sources. Hold `lock`
    to read or change several things at once.
    """

    def __init__(self, relay: SandboxRelay, wallets: Wallets) -> None:
        self.relay = relay
        self.wallets = wallets
        self.prices = PriceFeed()
        self.lock = threading.RLock()

    @property
    def url(self) -> str:
        """The address, once it is served."""
        return self.prices.url
