"""Cells of the matrix that cannot pass. Each fails strictly if it begins to pass."""

from collections.abc import Iterable
from dataclasses import dataclass

#: A case and a counterpart, by name.
Cell = tuple[str, str]


@dataclass(frozen=True)
class Fault:
    """The owner of a fault, and its effect."""

    owner: str
    effect: str

    def __str__(self) -> str:
        return f"{self.effect} ({self.owner})"


KNOWN_FAULTS: dict[Cell, Fault] = {}


def _fault(names: str | Iterable[str], cases: Iterable[str], fault: Fault) -> None:
    for name in [names] if isinstance(names, str) else names:
        KNOWN_FAULTS.update({(case, name): fault for case in cases})


NOTIFIED = "client_is_notified_of_a_received_payment_once"
EXPIRE = "requests_expire"
STORED = "request_sent_before_the_service_starts_is_answered"
NIP44 = (
    "wallet_with_both_encryptions_gets_and_sends_nip44",
    "wallet_with_nip44_alone_gets_and_sends_nip44",
)
UNKNOWN_METHOD, UNKNOWN_INVOICE = (
    "unknown_method_is_an_error",
    "unknown_invoice_is_an_error",
)
PAYMENT_ERRORS = (
    "payment_above_the_balance_is_refused",
    "payment_of_an_expired_invoice_fails",
    "payment_without_a_route_fails",
    "second_payment_of_an_invoice_moves_nothing",
)

# NWCWalletService has no method for it, and no expiration in its filter or handler.
_fault(
    "Alby SDK, wallet",
    [NOTIFIED],
    Fault("Alby SDK", "its wallet service cannot send notifications"),
)
_fault(
    "Alby SDK, wallet",
    ["expired_request_is_not_run"],
    Fault("Alby SDK", "its wallet service runs expired requests"),
)
# factories/support.js: create() drops the results of encryption() and notifications().
_fault(
    "applesauce, wallet",
    NIP44,
    Fault("applesauce", "its info event has no tags, so that NIP-04 is all it offers"),
)
# wallet-connect.js: createWalletError(result.error.type, …)
_fault(
    "applesauce, client",
    [*PAYMENT_ERRORS, UNKNOWN_INVOICE, UNKNOWN_METHOD],
    Fault("applesauce", "it reads an error's `type`; NIP-47 has a `code`"),
)
_fault(
    "applesauce, client",
    [NOTIFIED],
    Fault("applesauce", "it notifies once for each encryption"),
)
# src/wallets/nwc/req.ts: encrypt(…, "nip04")
_fault("NDK, client", NIP44, Fault("NDK", "it has no NIP-44 for wallets"))
# src/wallets/nwc/res.ts: the filter has no author, and none is compared.
_fault(
    "NDK, client",
    ["reply_by_another_key_is_ignored"],
    Fault("NDK", "it believes a reply by any key"),
)
_fault(
    ["NDK, client", "nostr-sdk, client"],
    [NOTIFIED],
    Fault("NDK, nostr-sdk in Python", "it has no notifications"),
)
_fault(
    "nostr-sdk, client",
    [UNKNOWN_METHOD],
    Fault("nostr-sdk", "it can send only the methods that it knows"),
)
# lnbits/wallets/nwc.py: NWCWallet returns `error_message`, PaymentStatus is a bool.
_fault(
    "LNbits, client",
    [*PAYMENT_ERRORS, UNKNOWN_INVOICE],
    Fault("LNbits", "its class has no error codes"),
)
_fault(
    "LNbits, client",
    ["info_has_name_network_and_methods", "paid_invoice_is_settled"],
    Fault("LNbits", "its class returns neither name nor received amount"),
)
_fault(
    "LNbits, client",
    ["invoice_has_amount_and_expiry_as_asked"],
    Fault("LNbits", "it does not ask for an expiry"),
)
_fault(
    [f"{name}, client" for name in ("Alby SDK", "applesauce", "NDK", "nostr-sdk")]
    + ["LNbits, client"],
    [EXPIRE],
    Fault("each client", "its requests have no expiration, which NIP-47 leaves open"),
)
# NIP-47's requests have ephemeral kinds, which relays need not store (NIP-01).
_fault(
    [
        f"{relay}{authentication}"
        for relay in ("nostr-sdk LocalRelay", "@nostr-relay/core")
        for authentication in ("", ", AUTH to read", ", AUTH")
    ],
    [STORED],
    Fault("NIP-01 and NIP-47", "the relay stores no ephemeral events"),
)

_NO_NIP42 = Fault(
    "nostr-relay",
    "its refusals name no subscription, and it confirms no key, so that cases pass"
    " by chance: test_relays.py",
)
#: By counterpart: none of the cases is run.
UNTESTABLE = {
    "nostr-relay (PyPI), AUTH to read": _NO_NIP42,
    "nostr-relay (PyPI), AUTH": _NO_NIP42,
}
