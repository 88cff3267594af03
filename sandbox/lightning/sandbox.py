"""Relay, wallets, exchanges and their control as one."""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sandbox.lightning.cast import DEFAULT_WALLETS, WalletSpec, create_missing
from sandbox.lightning.server import serving
from sandbox.nostr import SandboxRelay, running_relay
from sandbox.prices.feed import PriceFeed
from sandbox.wallets import Wallets, running_wallets


class CannotListen(Exception):
    """A port is taken, or not ours to take; the message names it."""


class Lightning:
    """What is running: `relay`, `wallets` and `prices`, for any thread.

    `url` is the address of the page, of the control and of the exchanges. Whatever
    changes more than one thing holds `lock`.
    """

    def __init__(self, relay: SandboxRelay, wallets: Wallets) -> None:
        self.relay = relay
        self.wallets = wallets
        self.prices = PriceFeed()
        self.lock = threading.RLock()

    @property
    def url(self) -> str:
        """The address that is served, once it is."""
        return self.prices.url


@contextmanager
def running_lightning(
    *,
    port: int = 0,
    nostr_port: int = 0,
    seed: str | None = None,
    state: Path | None = None,
    cast: Iterable[WalletSpec] = DEFAULT_WALLETS,
) -> Iterator[Lightning]:
    """Serve everything on 127.0.0.1 for the length of the block; 0 is a free port.

    With the same seed a wallet of the same name has the same keys; with a state file
    balances, invoices and connections come back. Raises CannotListen or
    UnreadableState, and at the end what went wrong inside the wallets.
    """
    with ExitStack() as stack:
        with _naming(nostr_port):
            relay = stack.enter_context(running_relay(port=nostr_port))
        running = running_wallets(relay.url, seed=seed, state=state)
        lightning = Lightning(relay, stack.enter_context(running))
        create_missing(lightning.wallets, cast)
        with _naming(port):
            stack.enter_context(serving(lightning, port))
        yield lightning


@contextmanager
def _naming(port: int) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        why = os.strerror(exc.errno) if exc.errno else str(exc)
        raise CannotListen(
            f"sandbox Lightning cannot listen on 127.0.0.1:{port}: {why}"
        ) from exc
