"""What goes wrong with wallets, Lightning invoices and prices, each with its code."""

from datetime import datetime

from caravel.core.exceptions import CaravelError, Conflict, Invalid

# --- wallets


class InvalidWalletUrl(Invalid):
    """Not a wallet connection that we can use; the code says what is wrong with it."""

    code = "nwc-url-invalid"
    variants = {
        "nwc-url-invalid": "It does not begin with nostr+walletconnect://.",
        "nwc-pubkey-invalid": "The wallet's public key is not one.",
        "nwc-secret-invalid": "The secret is not 64 hex digits, given once.",
        "nwc-relay-missing": "No relay is named.",
        "nwc-relay-invalid": "A relay's address is not one, or they are too many.",
        "nwc-relay-private": "A relay is on a private network.",
    }


class WalletError(CaravelError):
    """A wallet did not do what it was asked.

    `nwc_code` is the wallet's own, "" if it gave none. What the class says of the
    outcome: only `WalletRefused` and `RequestNotSent` prove that nothing happened.
    """

    code = "nwc-error"
    status = 502

    def __init__(self, message: str, *, nwc_code: str = "") -> None:
        super().__init__(message)
        self.nwc_code = nwc_code


class RequestNotSent(WalletError):
    """None of the wallet's relays could be reached: the request never left."""

    code = "nwc-not-sent"
    status = 503


class WalletRefused(WalletError):
    """The wallet declined before it did anything."""

    code = "nwc-refused"


class WalletFailed(WalletError):
    """The wallet reports an error that says nothing about the outcome."""

    code = "nwc-failed"


class NoWalletReply(WalletError):
    """Silence: the request may have been carried out, or may be yet."""

    code = "nwc-no-reply"
    status = 504


class InvalidWalletReply(WalletError):
    """An answer that makes no sense, or is not to what was asked."""

    code = "nwc-reply-invalid"


class WalletUnusable(Conflict):
    """A wallet that cannot pay for us, found out before it is relied on."""

    code = "wallet-unusable"
    status = 422
    variants = {
        "wallet-cannot-pay": "The connection may not pay invoices.",
        "wallet-expired": "The connection has expired.",
        "wallet-unreachable": "None of its relays can be reached.",
        "wallet-silent": "It does not answer: off, deleted, or a wrong secret.",
        "wallet-refuses": "It refuses to tell about itself.",
        "wallet-error": "It fails when asked about itself.",
    }


# --- Lightning invoices and payments


class InvoiceMismatch(CaravelError):
    """Our wallet made another invoice than it was asked for; nobody was shown it."""

    code = "wallet-invoice-mismatch"
    status = 502


class PaymentInProgress(Conflict):
    """Something that may still pay this invoice is under way, at the latest `until`."""

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


class NoWallet(Conflict):
    """The tenant has connected no wallet."""

    code = "wallet-missing"


class UnknownOwnWallet(CaravelError):
    """An invoice's wallet is no longer among ROBOT_WALLET: nobody can be asked."""

    code = "robot-wallet-missing"
    status = 503


# --- prices and invoices in other people's words


class PriceUnusable(CaravelError):
    """A source gave no price of bitcoin, or none that can be relied on."""

    code = "price-unusable"
    status = 502


class RateUnavailable(CaravelError):
    """Too few sources agree on a fresh price: there is no quote for now."""

    code = "rate-unavailable"
    status = 503


class InvalidBolt11(Invalid):
    """Not a Lightning invoice as BOLT 11 has it, or not one that was signed."""

    code = "bolt11-invalid"
