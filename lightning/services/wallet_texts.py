"""Meanings of the error codes of wallets, in our own words.

Notices and the API never repeat a wallet's own message: anybody can run a wallet, and
would thereby write the mail that we send.
"""

#: By code: of NIP-47 (https://github.com/nostr-protocol/nips/blob/master/47.md), or of
#: our own error if there was no answer.
_MEANINGS = {
    "BAD_REQUEST": "it does not understand our request.",
    "EXPIRED": "its connection has expired.",
    "INSUFFICIENT_BALANCE": "its balance is too low.",
    "INTERNAL": "it has an internal error.",
    "NOT_FOUND": "it does not know the invoice.",
    "NOT_IMPLEMENTED": "it does not support this.",
    "OTHER": "it gives no reason.",
    "PAYMENT_FAILED": "the payment failed, for example because there was no route.",
    "QUOTA_EXCEEDED": "the budget of its connection is used up.",
    "RATE_LIMITED": "it gets too many requests.",
    "RESTRICTED": "its connection does not allow this.",
    "UNAUTHORIZED": "it does not know its connection, which may have been deleted.",
    "UNSUPPORTED_ENCRYPTION": "it does not support our encryption.",
    "NOT_SENT": "our request could not be sent to it over its relays.",
    "nwc-not-sent": "our request could not be sent to it over its relays.",
    "nwc-no-reply": "it does not answer.",
    "nwc-relay-refused": "its relays refuse our request.",
    "nwc-reply-invalid": "its answer is unreadable.",
}
_UNKNOWN = "it reports an error that we do not know."


def meaning(code: str) -> str:
    """Return the meaning of an error code, as the end of a sentence."""
    return _MEANINGS.get(code, _UNKNOWN)
