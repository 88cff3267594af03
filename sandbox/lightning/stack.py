"""Relay, wallets, price sources and their control in one process."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from sandbox.common import access
from sandbox.common.http import Request, Response, in_thread
from sandbox.common.server import CannotListen, Server, serving
from sandbox.lightning import control, pages
from sandbox.lightning.default_wallets import (
    DEFAULT_WALLETS,
    WalletSpec,
    create_missing,
)
from sandbox.nostr import SandboxRelay, running_relay
from sandbox.prices import server as prices
from sandbox.prices.feed import PriceFeed
from sandbox.wallets import Wallets, running_wallets


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
        relay = stack.enter_context(_running_relay(nostr_port))
        wallets = running_wallets(relay.url, seed=seed, state=state)
        lightning = Lightning(relay, stack.enter_context(wallets))
        create_missing(lightning.wallets, specs)
        server = Server(partial(in_thread, handle, lightning), port, name="Lightning")
        lightning.prices.url = server.url
        stack.enter_context(serving(server))
        stack.callback(lightning.prices.clear_faults)
        yield lightning


def handle(lightning: Lightning, request: Request) -> Response:
    """Pass the request to the price sources, the control API or the page."""
    if request.path.startswith("/prices/"):
        return prices.handle(lightning.prices, request)
    denial_reason = access.denial_reason(request)
    if request.path.startswith(control.PREFIX):
        return control.handle(lightning, request, denial_reason)
    return pages.handle(lightning, request, denial_reason)


@contextmanager
def _running_relay(port: int) -> Iterator[SandboxRelay]:
    with ExitStack() as stack:
        try:
            relay = stack.enter_context(running_relay(port=port))
        except OSError as exc:
            raise CannotListen.from_error(exc, "Lightning", "127.0.0.1", port) from exc
        yield relay
