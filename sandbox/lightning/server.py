"""The page, the control API and the price sources over HTTP; the relay beside them."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from sandbox.common import control
from sandbox.common.http import Request, Response, in_thread
from sandbox.common.server import CannotListen, Server, serving
from sandbox.lightning import page
from sandbox.lightning.commands import COMMANDS, VIEWS, execute
from sandbox.lightning.default_wallets import (
    DEFAULT_WALLETS,
    WalletSpec,
    create_missing,
)
from sandbox.lightning.stack import Lightning
from sandbox.nostr import SandboxRelay, running_relay
from sandbox.prices import server as prices
from sandbox.wallets import running_wallets


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
    if request.path.startswith(control.PREFIX):
        return control.handle(lightning, {**VIEWS, **COMMANDS}, request, execute)
    return page.handle(lightning, request)


@contextmanager
def _running_relay(port: int) -> Iterator[SandboxRelay]:
    with ExitStack() as stack:
        try:
            relay = stack.enter_context(running_relay(port=port))
        except OSError as exc:
            raise CannotListen.from_error(exc, "Lightning", "127.0.0.1", port) from exc
        yield relay
