"""Relay, wallets, price sources and their control in one process."""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sandbox.lightning.default_wallets import (
    DEFAULT_WALLETS,
    WalletSpec,
    create_missing,
)
from sandbox.lightning.server import serving
from sandbox.nostr import SandboxRelay, running_relay
from sandbox.prices.feed import PriceFeed
from sandbox.wallets import Wallets, running_wallets


class CannotListen(Exception):
    """A port is taken or not permitted; the message names it."""


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


@contextmanager
def running_lightning(
    *,
    port: int = 0,
    nostr_port: int = 0,
    seed: str | None = None,
    state: Path | None = None,
    specs: Iterable[WalletSpec] = DEFAULT_WALLETS,
) -> Iterator[Lightning]:
    """Serve everything on 127.0.0.1 for the length of the block; port 0: a free port.

    The same seed gives a wallet of the same name the same keys; a state file restores
    balances, invoices and connections. Raises CannotListen or UnreadableState, and at
    the end the first failure inside the wallets.
    """
    with ExitStack() as stack:
        with _reporting(nostr_port):
            relay = stack.enter_context(running_relay(port=nostr_port))
        wallets = running_wallets(relay.url, seed=seed, state=state)
        lightning = Lightning(relay, stack.enter_context(wallets))
        create_missing(lightning.wallets, specs)
        with _reporting(port):
            stack.enter_context(serving(lightning, port))
        yield lightning


@contextmanager
def _reporting(port: int) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno else str(exc)
        raise CannotListen(
            f"sandbox Lightning cannot listen on 127.0.0.1:{port}: {reason}"
        ) from exc
