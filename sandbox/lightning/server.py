"""The page, the control API and the price sources over HTTP; the relay beside them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from sandbox.common import control
from sandbox.common.http import Request, Response, in_thread
from sandbox.common.server import CannotListen, Server, serving
from sandbox.lightning import page
from sandbox.lightning.commands import COMMANDS, VIEWS, execute
from sandbox.lightning.default_wallets import create_missing
from sandbox.lightning.stack import Lightning
from sandbox.nostr import running_relay
from sandbox.prices import server as prices
from sandbox.wallets import running_wallets


@contextmanager
def running_lightning(
    *,
    port: int = 0,
    nostr_port: int = 0,
    seed: str | None = None,
    state: Path | None = None,
) -> Iterator[Lightning]:
    """Serve everything on 127.0.0.1 for the length of the block; port 0: a free port.

    The same seed gives a wallet of the same name the same keys; a state file restores
    balances, invoices and connections. Raises CannotListen or UnreadableState, and at
    the end the first failure inside the wallets.
    """
    with ExitStack() as stack:
        try:
            relay = stack.enter_context(running_relay(port=nostr_port))
        except OSError as exc:
            address = ("127.0.0.1", nostr_port)
            raise CannotListen.from_error(exc, "Lightning", *address) from exc
        wallets = running_wallets(relay.url, seed=seed, state=state)
        lightning = Lightning(relay, stack.enter_context(wallets))
        create_missing(lightning.wallets)
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
