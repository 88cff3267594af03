"""Clients of NIP-47 with one interface: Caravel's, and foreign ones in scripts."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from django.utils import timezone

from interop.tests.support.scripts import Json, Script, ScriptError, running_script
from lightning.clients.nwc import Wallet, learn_schemes
from lightning.clients.nwc_replies import Status
from lightning.clients.nwc_uri import parse_nwc_url
from lightning.exceptions import WalletError, WalletFailed, WalletRefused

T = TypeVar("T")


class ClientError(Exception):
    """A request failed; `code` is NIP-47's, "" if the wallet gave none."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True)
class Info:
    alias: str
    network: str
    methods: frozenset[str]
    notifications: frozenset[str]


@dataclass(frozen=True)
class Issued:
    bolt11: str
    payment_hash: str


@dataclass(frozen=True)
class Lookup:
    """The result of `lookup_invoice`; clients that hide a field have None there."""

    settled: bool
    amount_msat: int | None
    preimage: str | None


class Client(ABC):
    """One client's connection to one wallet. Its methods raise ClientError."""

    @property
    @abstractmethod
    def received(self) -> list[str]:
        """The payment hashes of the `payment_received` notifications."""

    @abstractmethod
    def get_info(self) -> Info: ...

    @abstractmethod
    def get_balance(self) -> int: ...

    @abstractmethod
    def make_invoice(
        self, amount_msat: int, *, description: str = "Caravel", expiry: int = 900
    ) -> Issued: ...

    @abstractmethod
    def lookup_invoice(self, payment_hash: str) -> Lookup: ...

    @abstractmethod
    def pay_invoice(self, issued: Issued) -> str:
        """Pay an invoice and return the preimage."""

    @abstractmethod
    def request(self, method: str, params: Json) -> Json:
        """Send a request of any method and return its result."""

    @abstractmethod
    def listen(self) -> None:
        """Subscribe to notifications, for `received`."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""


class CaravelClient(Client):
    def __init__(self, url: str) -> None:
        self._received: list[str] = []
        self.wallet = Wallet(parse_nwc_url(url, private_allowed=True))

    @property
    def received(self) -> list[str]:
        return list(self._received)

    def get_info(self) -> Info:
        info = self._run(self.wallet.get_info)
        return Info(info.alias, info.network, info.methods, info.notifications)

    def get_balance(self) -> int:
        return self._run(self.wallet.get_balance)

    def make_invoice(
        self, amount_msat: int, *, description: str = "Caravel", expiry: int = 900
    ) -> Issued:
        issued = self._run(
            lambda: self.wallet.make_invoice(
                amount_msat=amount_msat, description=description, expiry=expiry
            )
        )
        return Issued(issued.bolt11, issued.payment_hash)

    def lookup_invoice(self, payment_hash: str) -> Lookup:
        lookup = self._run(lambda: self.wallet.lookup_invoice(payment_hash))
        assert lookup.status in (Status.SETTLED, Status.UNSETTLED)
        return Lookup(
            settled=lookup.status is Status.SETTLED,
            amount_msat=lookup.amount_msat,
            preimage=lookup.preimage or None,
        )

    def pay_invoice(self, issued: Issued) -> str:
        expires_at = timezone.now() + timedelta(minutes=2)
        learn_schemes([self.wallet])
        request = self.wallet.prepare_payment(
            bolt11=issued.bolt11, expires_at=expires_at
        )
        return self._run(
            lambda: self.wallet.pay_invoice(request, payment_hash=issued.payment_hash)
        )

    def request(self, method: str, params: Json) -> Json:
        return self._run(lambda: self.wallet._call(method, params))

    def listen(self) -> None:
        self.wallet.on_payment_received(self._received.extend)

    def _run(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except (WalletRefused, WalletFailed) as exc:
            raise ClientError(exc.nwc_code, exc.message) from exc
        except WalletError as exc:
            raise ClientError("", exc.message) from exc

    def close(self) -> None:
        """Do nothing: Caravel's pool stays open."""


class ForeignClient(Client):
    """A client in a script, which takes and returns what NIP-47 defines."""

    def __init__(self, script: str, url: str) -> None:
        self.notifications: list[Json] = []
        self.script: Script = running_script(script)
        self.key = self.script.new_key()
        self.script.handlers[self.key] = self._on_call
        self.script.call("open_client", key=self.key, url=url)

    @property
    def received(self) -> list[str]:
        return [
            each["notification"]["payment_hash"]
            for each in list(self.notifications)
            if each["notification_type"] == "payment_received"
        ]

    def get_info(self) -> Info:
        info = self.request("get_info", {})
        return Info(
            alias=info["alias"],
            network=info["network"],
            methods=frozenset(info["methods"]),
            notifications=frozenset(info.get("notifications", [])),
        )

    def get_balance(self) -> int:
        return int(self.request("get_balance", {})["balance"])

    def make_invoice(
        self, amount_msat: int, *, description: str = "Caravel", expiry: int = 900
    ) -> Issued:
        params = {"amount": amount_msat, "description": description, "expiry": expiry}
        result = self.request("make_invoice", params)
        return Issued(result["invoice"], result["payment_hash"])

    def lookup_invoice(self, payment_hash: str) -> Lookup:
        result = self.request("lookup_invoice", {"payment_hash": payment_hash})
        return Lookup(
            settled=result["state"] == "settled",
            amount_msat=result.get("amount"),
            preimage=result.get("preimage"),
        )

    def pay_invoice(self, issued: Issued) -> str:
        return str(self.request("pay_invoice", {"invoice": issued.bolt11})["preimage"])

    def request(self, method: str, params: Json) -> Json:
        return dict(self.call("request", method=method, params=params))

    def listen(self) -> None:
        self.call("listen")

    def call(self, name: str, /, **params: Any) -> Any:
        """Call a method of the script for this client."""
        try:
            return self.script.call(name, key=self.key, **params)
        except ScriptError as exc:
            raise ClientError(exc.code, str(exc)) from exc

    def close(self) -> None:
        del self.script.handlers[self.key]
        if self.script.is_running:
            self.call("close_client")

    def _on_call(self, method: str, params: Json) -> Json:
        assert method == "notify", method
        self.notifications.append(params["notification"])
        return {"result": None}
