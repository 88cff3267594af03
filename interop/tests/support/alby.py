"""Both ends of NIP-47 by Alby's SDK, for wallets of the sandbox's ledger."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from interop.tests.support.scripts import Message, Script
from sandbox.common.nostr import Scheme
from sandbox.nostr import SandboxRelay
from sandbox.wallets import NotPaid, Wallet, Wallets
from sandbox.wallets.keys import connection_url
from sandbox.wallets.messages import Refused, Request
from sandbox.wallets.methods import METHODS, Call

#: The methods of NIP-47 that Caravel uses.
SERVED = ("get_info", "get_balance", "make_invoice", "lookup_invoice", "pay_invoice")


class AlbyWallet:
    """A wallet that only the SDK's wallet service serves.

    `requests` records the requests that were run. With a single scheme the script
    publishes its own info event: that of the SDK always offers both.
    """

    def __init__(
        self, wallet: Wallet, relay: SandboxRelay, *, schemes: Sequence[Scheme]
    ) -> None:
        self.wallet = wallet
        self.url = connection_url(wallet.keys, relay.url)
        self.schemes = schemes
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self._relay = relay
        self._script: Script | None = None

    def __repr__(self) -> str:
        return f"<AlbyWallet {self.wallet!r}>"

    def start(self) -> None:
        """Serve, and run all requests that the relay has stored."""
        before = self._relay.requests
        self._script = script = Script("service.mjs", self._on_message)
        script.send(
            {
                "relay": self._relay.url,
                "secret": self.wallet.keys.wallet,
                "client": self.wallet.connection.pubkey,
                "methods": SERVED,
                "encryption": "" if len(self.schemes) > 1 else self.schemes[0],
            }
        )
        script.until(lambda: self._relay.requests > before)

    def stop(self) -> None:
        """Stop serving."""
        if self._script is not None:
            self._script.stop()
            self._script = None

    def requests_of(self, method: str) -> list[dict[str, Any]]:
        """Return the parameters of a method's requests, oldest first."""
        return [params for name, params in list(self.requests) if name == method]

    def _on_message(self, message: Message) -> None:
        method, params = message["method"], message["params"]
        response = {"id": message["id"], **self._respond(method, params)}
        self.requests.append((method, params))
        assert self._script is not None
        self._script.send(response)

    def _respond(self, method: str, params: dict[str, Any]) -> Message:
        try:
            if method == "pay_invoice":
                paid = self.wallet.ledger.pay(self.wallet.name, params["invoice"])
                return {"result": {"preimage": paid.preimage, "fees_paid": 0}}
            return {"result": self._run_method(method, params)}
        except (NotPaid, Refused) as exc:
            return {"error": {"code": exc.code, "message": str(exc)}}

    def _run_method(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        request = Request(
            id="",
            client=self.wallet.connection.pubkey,
            method=method,
            params=params,
            scheme=self.schemes[0],
        )
        result = METHODS[method](Call(self.wallet, self.wallet.connection, request))
        return {**result, "methods": SERVED} if method == "get_info" else result


@contextmanager
def alby_wallet(
    wallets: Wallets,
    relay: SandboxRelay,
    *,
    balance_msat: int,
    schemes: Sequence[Scheme] = tuple(Scheme),
) -> Iterator[AlbyWallet]:
    """Serve a new wallet with the SDK for the length of the block."""
    # Offline, so that the sandbox's own service does not serve it as well.
    wallet = wallets.create("alby", balance_msat=balance_msat, online=False)
    wallet.protocol = replace(wallet.protocol, notifies=False)
    alby = AlbyWallet(wallet, relay, schemes=schemes)
    try:
        alby.start()
        yield alby
    finally:
        alby.stop()


class AlbyError(Exception):
    """An error of the SDK's client; `type` is its class, `code` that of NIP-47."""

    def __init__(self, *, type: str, code: str, message: str) -> None:
        super().__init__(f"{type} {code}: {message}")
        self.type = type
        self.code = code


class AlbyClient:
    """The SDK's client of one wallet; `notifications` has those received."""

    def __init__(self, url: str) -> None:
        self.notifications: list[dict[str, Any]] = []
        self._numbers = itertools.count()
        self._responses: dict[int, Message] = {}
        self._script = Script("client.mjs", self._on_message)
        self._script.send({"url": url})

    def call(self, method: str, **params: Any) -> Any:
        """Call a method of the SDK's client. Raises AlbyError."""
        number = next(self._numbers)
        self._script.send({"id": number, "method": method, "params": params})
        self._script.until(lambda: number in self._responses)
        response = self._responses.pop(number)
        if "error" in response:
            raise AlbyError(**response["error"])
        return response["result"]

    def stop(self) -> None:
        self._script.stop()

    def _on_message(self, message: Message) -> None:
        if "notification" in message:
            self.notifications.append(message["notification"])
        else:
            self._responses[message["id"]] = message


@contextmanager
def alby_client(url: str) -> Iterator[AlbyClient]:
    """Run the SDK's client of a wallet for the length of the block."""
    client = AlbyClient(url)
    try:
        yield client
    finally:
        client.stop()
