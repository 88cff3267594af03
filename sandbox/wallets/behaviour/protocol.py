"""Options in which NIP-47 wallet services differ."""

from dataclasses import dataclass
from enum import StrEnum

from sandbox.common.nostr import Scheme


class ErrorField(StrEnum):
    """The field of an error that holds its code."""

    CODE = "code"
    #: applesauce: `sendErrorResponse` in packages/wallet-connect/src/wallet-service.ts
    #: of hzrd149/applesauce, up to 089a810.
    TYPE = "type"


class Network(StrEnum):
    """The network of a wallet's node, named as in `get_info`."""

    MAINNET = "mainnet"
    TESTNET = "testnet"
    SIGNET = "signet"
    REGTEST = "regtest"

    @property
    def currency(self) -> str:
        """Its prefix in BOLT 11 invoices."""
        return {"mainnet": "bc", "testnet": "tb", "signet": "tbs"}.get(self, "bcrt")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Options of a wallet service."""

    #: In order of preference, as in the info event.
    encryption: tuple[Scheme, ...] = (Scheme.NIP44, Scheme.NIP04)
    #: Responses have a `p` tag with the client's key; those of Alby's js-sdk have none.
    names_client: bool = True
    #: Requests past their NIP-40 `expiration` are not run; Alby Hub runs them.
    heeds_expiration: bool = True
    #: Unknown keys get UNAUTHORIZED; Alby Hub does not answer them.
    answers_unknown_clients: bool = True
    #: Clients get notifications of payments.
    notifies: bool = True
    #: It publishes an info event. Relays drop old events, and some wallets publish
    #: theirs only once, so that it may be missing.
    announces: bool = True
    error_field: ErrorField = ErrorField.CODE
    #: Each client's limit; coinos allows 60 (lib/nwc.ts of coinos/coinos-server).
    requests_per_minute: int | None = None
    #: Its clock minus ours, in seconds: for invoices, expirations and its events.
    clock_skew: float = 0.0
    network: Network = Network.REGTEST
