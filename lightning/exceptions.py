"""Errors of wallets, Lightning invoices and prices, each with a stable code."""

from datetime import datetime

from caravel.core.exceptions import CaravelError, Conflict, Invalid

# --- wallets


class InvalidWalletUrl(Invalid):
    """The wallet connection is invalid; the code names the part."""

    code = "nwc-url-invalid"
    variants = {
        "nwc-url-invalid": "It does not begin with nostr+walletconnect://.",
        "nwc-pubkey-invalid": "The wallet's public key is invalid.",
        "nwc-secret-invalid": "The secret is not 64 hex digits, given once.",
        "nwc-relay-missing": "It has no relay.",
        "nwc-relay-invalid": "No relay's address is valid.",
        "nwc-relay-private": "Its relays are on a private network.",
    }


class WalletError(CaravelError):
    """A request to a wallet failed.

    `nwc_code` is the NIP-47 code in the response, "" without one. Only `WalletRefused`,
    `RequestNotSent` and `WalletBusy` prove that nothing happened.
    """

    code = "nwc-error"
    status = 502

    def __init__(self, message: str, *, nwc_code: str = "") -> None:
        super().__init__(message)
        self.nwc_code = nwc_code


class RequestNotSent(WalletError):
    """None of the wallet's relays could be reached: the request was not sent."""

    code = "nwc-not-sent"
    status = 503


class WalletBusy(WalletError):
    """Our wallet has had as many requests as it takes in a minute: try again soon."""

    code = "robot-wallet-busy"
    status = 503
    retry_after = 15.0


class WalletRefused(WalletError):
    """The wallet refused the request and did nothing."""

    code = "nwc-refused"


class WalletFailed(WalletError):
    """The wallet returned an error that does not reveal the outcome."""

    code = "nwc-failed"


class NoWalletReply(WalletError):
    """No reply: the request may have been executed, or may still be."""

    code = "nwc-no-reply"
    status = 504


class RelayRefused(NoWalletReply):
    """The wallet's relays refused the request, though one may have forwarded it."""

    code = "nwc-relay-refused"
    status = 502


class InvalidWalletReply(WalletError):
    """The wallet's reply is malformed, or belongs to another request."""

    code = "nwc-reply-invalid"


class WalletUnusable(Conflict):
    """The wallet failed the check and was not connected.

    The message may quote the wallet or a relay: it is for the wallet's owner, who asked
    for the check. `own_words` says the same without them.
    """

    code = "wallet-unusable"
    status = 422
    variants = {
        "wallet-cannot-pay": "The connection may not pay invoices.",
        "wallet-expired": "The connection has expired.",
        "wallet-unreachable": "None of its relays can be reached, or they refuse.",
        "wallet-silent": "No reply: off, deleted, or a wrong secret.",
        "wallet-refuses": "It refuses get_info.",
        "wallet-error": "It fails get_info.",
    }

    def __init__(
        self, message: str, *, code: str | None = None, own_words: str = ""
    ) -> None:
        super().__init__(message, code=code)
        self.own_words = own_words or message


# --- Lightning invoices and payments


class InvoiceMismatch(CaravelError):
    """Our wallet made an invoice that differs from the request; it was discarded."""

    code = "wallet-invoice-mismatch"
    status = 502


class PaymentInProgress(Conflict):
    """Another payment of this invoice may still succeed.

    `until` is the latest end of it, never in the past, and None if it is unknown.
    """

    code = "payment-in-progress"

    def __init__(self, message: str, *, until: datetime | None = None) -> None:
        super().__init__(message)
        self.until = until

    @property
    def details(self) -> dict[str, str]:
        return {"until": self.until.isoformat()} if self.until else {}


class AlreadySettled(Conflict):
    """A Lightning payment for this invoice has arrived."""

    code = "invoice-settled"


class NotResolvable(Conflict):
    """Support cannot decide this Lightning invoice, or not in this way yet."""

    code = "invoice-not-resolvable"


class NoWallet(Conflict):
    """The tenant has no connected wallet."""

    code = "wallet-missing"


class UnknownOwnWallet(CaravelError):
    """ROBOT_WALLET lacks the wallet that issued the invoice: it cannot be polled."""

    code = "robot-wallet-missing"
    status = 503


class OwnWalletUnproven(CaravelError):
    """Our wallet has not proven yet that it can tell unpaid from paid invoices."""

    code = "robot-wallet-unproven"
    status = 503


# --- prices, and invoices issued elsewhere


class PriceUnusable(CaravelError):
    """A source gave no usable price of bitcoin."""

    code = "price-unusable"
    status = 502


class RateUnavailable(CaravelError):
    """Too few sources agree on a fresh price of bitcoin; try again later."""

    code = "rate-unavailable"
    status = 503


class InvalidBolt11(Invalid):
    """The text is not a valid, signed BOLT 11 invoice."""

    code = "bolt11-invalid"
