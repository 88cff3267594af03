"""The counterparts: a client, a wallet service and a relay, one of them foreign."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from interop.tests.support.clients import CaravelClient, Client, ForeignClient
from interop.tests.support.relays import foreign_relay
from interop.tests.support.services import (
    ForeignService,
    SandboxService,
    WalletService,
)
from sandbox.common.nostr import Event, Scheme
from sandbox.nostr import running_relay
from sandbox.wallets import Wallet


class Relay(Protocol):
    """A relay at `url`; the sandbox's wallets are connected to it."""

    @property
    def url(self) -> str: ...

    def events(self, kind: int | None = None) -> list[Event]:
        """Return the events that clients have sent, in order of arrival."""

    def drop_connections(self) -> None:
        """Break all connections; clients may reconnect."""


RunningRelay = Callable[[], AbstractContextManager[Relay]]


@dataclass(frozen=True)
class Counterpart:
    """One column of the matrix: by default all parts are our own."""

    name: str
    client: Callable[[str], Client] = CaravelClient
    service: Callable[[Wallet, Sequence[Scheme]], WalletService] = SandboxService
    relay: RunningRelay = running_relay

    def __str__(self) -> str:
        return self.name


def _client(name: str, script: str) -> Counterpart:
    return Counterpart(f"{name}, client", client=partial(ForeignClient, script))


def _service(name: str, script: str, *, notifies: bool = False) -> Counterpart:
    service = partial(ForeignService, script, notifies=notifies)
    return Counterpart(f"{name}, wallet", service=service)


ALBY_WALLET = _service("Alby SDK", "alby.mjs")
ALBY_CLIENT = _client("Alby SDK", "alby.mjs")
SERVICES = [ALBY_WALLET, _service("applesauce", "applesauce.mjs", notifies=True)]
CLIENTS = [
    ALBY_CLIENT,
    _client("applesauce", "applesauce.mjs"),
    _client("NDK", "ndk.mjs"),
    _client("nostr-sdk", "nostr_sdk_nwc.py"),
    _client("LNbits", "lnbits_wallet.py"),
]


def _relays(name: str, script: str) -> list[Counterpart]:
    """Return the relay without authentication (NIP-42), with it to read, and always."""
    return [
        Counterpart(name, relay=partial(foreign_relay, script)),
        Counterpart(
            f"{name}, AUTH to read", relay=partial(foreign_relay, script, "read")
        ),
        Counterpart(f"{name}, AUTH", relay=partial(foreign_relay, script, "both")),
    ]


RELAYS = [
    *_relays("nostr-relay (PyPI)", "python_relay.py"),
    *_relays("nostr-sdk LocalRelay", "local_relay.py"),
    *_relays("@nostr-relay/core", "core_relay.mjs"),
]
#: First Caravel's client with the sandbox alone: there each case must pass.
COUNTERPARTS = [Counterpart("the sandbox"), *SERVICES, *CLIENTS, *RELAYS]
