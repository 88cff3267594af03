"""Wallet services with one interface, over the accounts of the sandbox's ledger."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from caravel.tests.support.waiting import wait_until
from interop.tests.support.scripts import Json, Script, running_script
from sandbox.common.nostr import Scheme
from sandbox.wallets import NotPaid, Wallet
from sandbox.wallets.keys import connection_url
from sandbox.wallets.ledger import Invoice
from sandbox.wallets.messages import Refused, Request
from sandbox.wallets.methods import METHODS, Call, transaction
from sandbox.wallets.relay_connection import RelayLost
from sandbox.wallets.wallet import NOTIFICATIONS

#: The methods of NIP-47 that Caravel uses, in all wallet services.
SERVED = (
    "get_info",
    "get_balance",
    "make_invoice",
    "lookup_invoice",
    "list_transactions",
    "pay_invoice",
)
BOTH = tuple(Scheme)


class WalletService(ABC):
    """A wallet of the sandbox's ledger, served over NIP-47 at `url`.

    `requests` has the method and the parameters of each request that was run.
    """

    wallet: Wallet

    @property
    def url(self) -> str:
        return connection_url(self.wallet.keys, self.wallet.relay)

    @property
    @abstractmethod
    def requests(self) -> list[tuple[str, Json]]: ...

    @abstractmethod
    def start(self) -> None:
        """Serve, and run all requests that the relay has stored."""

    @abstractmethod
    def stop(self) -> None:
        """Stop serving."""

    @abstractmethod
    def reconnect(self) -> None:
        """Serve again after a broken connection."""

    def requests_of(self, method: str) -> list[Json]:
        """Return the parameters of a method's requests, oldest first."""
        return [params for name, params in self.requests if name == method]


class SandboxService(WalletService):
    """The wallet, served by the sandbox itself."""

    def __init__(self, wallet: Wallet, schemes: Sequence[Scheme]) -> None:
        self.wallet = wallet
        wallet.protocol = replace(wallet.protocol, encryption=tuple(schemes))

    @property
    def requests(self) -> list[tuple[str, Json]]:
        return [(each.method, each.params) for each in self.wallet.requests()]

    def start(self) -> None:
        self.wallet.go_online()

    def stop(self) -> None:
        self.wallet.go_offline()

    def reconnect(self) -> None:
        # It does so by itself, but not to the requests that the relay has stored.
        wait_until(self._is_back)

    def _is_back(self) -> bool:
        try:
            self.wallet.go_online()
        except RelayLost:
            return False
        return True


class ForeignService(WalletService):
    """The wallet, served by a library in a script.

    With a single scheme the script publishes an info event of its own where the
    library always offers both. `notifies`: the library can send notifications.
    """

    def __init__(
        self,
        script: str,
        wallet: Wallet,
        schemes: Sequence[Scheme],
        *,
        notifies: bool = False,
    ) -> None:
        self.wallet = wallet
        self.schemes = schemes
        self.notifies = notifies
        self._requests: list[tuple[str, Json]] = []
        self._script: Script = running_script(script)
        self._key = self._script.new_key()
        # Offline, so that the sandbox's own service does not serve it as well.
        wallet.go_offline()
        wallet.protocol = replace(wallet.protocol, notifies=False)
        if notifies:
            wallet.ledger.listeners.append(self._notify)

    @property
    def requests(self) -> list[tuple[str, Json]]:
        return list(self._requests)

    def start(self) -> None:
        self._script.handlers[self._key] = self._on_call
        self._script.call(
            "open_service",
            key=self._key,
            relay=self.wallet.relay,
            secret=self.wallet.keys.wallet,
            client=self.wallet.connection.pubkey,
            methods=SERVED,
            encryption=self.schemes,
        )

    def stop(self) -> None:
        if self._script.handlers.pop(self._key, None) and self._script.is_running:
            self._script.call("close_service", key=self._key)

    def reconnect(self) -> None:
        """Do nothing: libraries reconnect by themselves."""

    def _on_call(self, call: str, arguments: Json) -> Json:
        assert call == "run", call
        method, params = arguments["method"], arguments["params"]
        try:
            return {"result": self._run_method(method, params)}
        except (NotPaid, Refused) as exc:
            return {"error": {"code": exc.code, "message": str(exc)}}
        finally:
            self._requests.append((method, params))

    def _run_method(self, method: str, params: Json) -> Json:
        wallet = self.wallet
        if method == "pay_invoice":
            paid = wallet.ledger.pay(wallet.name, params["invoice"])
            return {"preimage": paid.preimage, "fees_paid": 0}
        request = Request(
            id="",
            client=wallet.connection.pubkey,
            method=method,
            params=params,
            scheme=self.schemes[0],
        )
        result = METHODS[method](Call(wallet, wallet.connection, request))
        if method == "get_info":
            notifications = NOTIFICATIONS if self.notifies else []
            return {**result, "methods": SERVED, "notifications": notifications}
        return result

    def _notify(self, invoice: Invoice) -> None:
        """Send the notifications of a payment, in each encryption."""
        incoming = invoice.owner == self.wallet.name
        if self.wallet.name not in (invoice.owner, invoice.payer):
            return
        for scheme in self.schemes:
            # Without waiting: the thread may be the one that reads the response.
            self._script.tell(
                "notify",
                key=self._key,
                type="payment_received" if incoming else "payment_sent",
                payment=transaction(invoice, incoming=incoming),
                legacy=scheme is Scheme.NIP04,
            )
