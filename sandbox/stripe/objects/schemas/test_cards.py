"""Stripe's test cards and their declines (docs page "Testing")."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sandbox.stripe.api.errors import StripeError

Authentication = Literal["never", "unless_set_up", "always"]
Refunds = Literal["succeed", "pend", "fail"]

# Reasons with their own error code. The error code of all others is `card_declined`,
# with the reason as decline code (docs: "Decline codes", "Error codes").
ERROR_CODES = frozenset(
    {
        "authentication_required",
        "expired_card",
        "incorrect_cvc",
        "incorrect_number",
        "processing_error",
    }
)
# Hard declines (docs page "Automate payment retries").
HARD_DECLINES = frozenset(
    {
        "authentication_required",
        "highest_risk_level",
        "incorrect_number",
        "lost_card",
        "pickup_card",
        "revocation_of_all_authorizations",
        "revocation_of_authorization",
        "stolen_card",
        "transaction_not_allowed",
    }
)
MESSAGES: Mapping[str, str] = {
    "authentication_required": (
        "Your card was declined. This transaction requires authentication."
    ),
    "card_velocity_exceeded": (
        "Your card was declined for making repeated attempts too frequently or "
        "exceeding its amount limit."
    ),
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "incorrect_number": "Your card number is incorrect.",
    "insufficient_funds": "Your card has insufficient funds.",
    "processing_error": (
        "An error occurred while processing your card. Try again in a little bit."
    ),
}
# Assumed: Stripe documents the three advice codes, but not which decline has which.
CONFIRM_CARD_DATA = frozenset({"expired_card", "incorrect_cvc", "incorrect_number"})


@dataclass(frozen=True, slots=True)
class Decline:
    """An issuer's decline. The reason is a decline code or an error code."""

    reason: str

    @property
    def code(self) -> str:
        return self.reason if self.reason in ERROR_CODES else "card_declined"

    @property
    def decline_code(self) -> str | None:
        """Decline code, or None for bad card data, as in Stripe's table."""
        if self.reason in ERROR_CODES and self.reason != "authentication_required":
            return None
        return "generic_decline" if self.reason == "card_declined" else self.reason

    @property
    def message(self) -> str:
        """Message for the cardholder."""
        return MESSAGES.get(self.reason, "Your card was declined.")

    @property
    def advice_code(self) -> str:
        if self.reason in CONFIRM_CARD_DATA:
            return "confirm_card_data"
        hard = self.reason in HARD_DECLINES
        return "do_not_try_again" if hard else "try_again_later"

    def error_fields(self) -> dict[str, Any]:
        """Return the fields of the error that reports this decline."""
        fields = {
            "advice_code": self.advice_code,
            "code": self.code,
            "message": self.message,
            "type": "card_error",
        }
        if self.decline_code:
            fields["decline_code"] = self.decline_code
        return fields


@dataclass(frozen=True, slots=True)
class Card:
    """A test card. Charges fail with `decline_reason`, after any authentication.

    A charge that succeeds is disputed with the reason `dispute`, if any.
    """

    number: str
    brand: str = "visa"
    funding: str = "credit"
    decline_reason: str | None = None
    attachable: bool = True
    authentication: Authentication = "never"
    set_up: bool = False
    refunds: Refunds = "succeed"
    dispute: str | None = None
    is_inquiry: bool = False
    fraud_warning: bool = False

    @property
    def last4(self) -> str:
        return self.number[-4:]


def _declined(number: str, reason: str) -> Card:
    """Return a card that declines charges and also cannot be attached."""
    return Card(number, decline_reason=reason, attachable=False)


CARDS: Mapping[str, Card] = {
    "visa": Card("4242424242424242"),
    "visa_debit": Card("4000056655665556", funding="debit"),
    "mastercard": Card("5555555555554444", "mastercard"),
    "mastercard_debit": Card("5200828282828210", "mastercard", "debit"),
    "mastercard_prepaid": Card("5105105105105100", "mastercard", "prepaid"),
    "amex": Card("378282246310005", "amex"),
    "discover": Card("6011111111111117", "discover"),
    "diners": Card("3056930009020004", "diners"),
    "jcb": Card("3566002020360505", "jcb"),
    "unionpay": Card("6200000000000005", "unionpay"),
    "chargeDeclined": _declined("4000000000000002", "card_declined"),
    "chargeDeclinedInsufficientFunds": _declined(
        "4000000000009995", "insufficient_funds"
    ),
    "chargeDeclinedLostCard": _declined("4000000000009987", "lost_card"),
    "chargeDeclinedStolenCard": _declined("4000000000009979", "stolen_card"),
    "chargeDeclinedExpiredCard": _declined("4000000000000069", "expired_card"),
    "chargeDeclinedIncorrectCvc": _declined("4000000000000127", "incorrect_cvc"),
    "chargeDeclinedProcessingError": _declined("4000000000000119", "processing_error"),
    "chargeDeclinedVelocityLimitExceeded": _declined(
        "4000000000006975", "card_velocity_exceeded"
    ),
    "chargeCustomerFail": Card("4000000000000341", decline_reason="card_declined"),
    "chargeCustomerFailLostCard": Card("4000000000000341", decline_reason="lost_card"),
    "chargeCustomerFailStolenCard": Card(
        "4000000000000341", decline_reason="stolen_card"
    ),
    "radarBlock": Card("4100000000000019", decline_reason="fraudulent"),
    "authenticationRequired": Card("4000002760003184", authentication="always"),
    "authenticationRequiredOnSetup": Card(
        "4000002500003155", authentication="unless_set_up"
    ),
    "authenticationRequiredSetupForOffSession": Card(
        "4000003800000446", authentication="unless_set_up", set_up=True
    ),
    "authenticationRequiredChargeDeclinedInsufficientFunds": Card(
        "4000008260003178", decline_reason="insufficient_funds", authentication="always"
    ),
    "createDispute": Card("4000000000000259", dispute="fraudulent"),
    "createDisputeProductNotReceived": Card(
        "4000000000002685", dispute="product_not_received"
    ),
    "createDisputeInquiry": Card(
        "4000000000001976", dispute="general", is_inquiry=True
    ),
    "createIssuerFraudRecord": Card("4000000000005423", fraud_warning=True),
    "pendingRefund": Card("4000000000007726", refunds="pend"),
    "refundFail": Card("4000000000005126", refunds="fail"),
}
# Three cards share a number: it stands for the first of them.
BY_NUMBER: Mapping[str, str] = {
    card.number: name for name, card in reversed(list(CARDS.items()))
}


def name_from_id(id: str) -> str | None:
    """Return the name of the card for an id such as `pm_card_visa`, or None.

    The docs spell declining cards both with and without `visa_`.
    """
    name = id.removeprefix("pm_card_")
    if name == id:
        return None
    known = name if name in CARDS else name.removeprefix("visa_")
    return known if known in CARDS else None


def name_from_number(number: str) -> str:
    """Return the name of the card with this number. Raises a 402 for other numbers."""
    digits = number.replace(" ", "").replace("-", "")
    if digits not in BY_NUMBER:
        raise decline_error(Decline("incorrect_number"))
    return BY_NUMBER[digits]


def decline_error(decline: Decline) -> StripeError:
    """Return the 402 for a decline."""
    fields = decline.error_fields()
    return StripeError(402, fields.pop("message"), **fields)
