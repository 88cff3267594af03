"""Errors of the API itself, and the groups of upstream errors that views document."""

from billing.clients.stripe.errors import (
    StripeAccountMismatch,
    StripeAccountUnknown,
    StripeError,
    StripeNotFound,
    StripeRateLimited,
    StripeRefused,
    StripeUnavailable,
    StripeUnreadable,
)
from caravel.core.exceptions import CaravelError, Forbidden
from lightning import exceptions as lightning

#: Any operation that calls Stripe may raise these; part of its documented errors.
STRIPE_ERRORS = (
    StripeAccountMismatch,
    StripeAccountUnknown,
    StripeError,
    StripeNotFound,
    StripeRateLimited,
    StripeRefused,
    StripeUnavailable,
    StripeUnreadable,
)
#: Raised while our own wallet issues a Lightning invoice, including the exchange rate.
WALLET_ERRORS = (
    lightning.RateUnavailable,
    lightning.RequestNotSent,
    lightning.WalletBusy,
    lightning.WalletRefused,
    lightning.WalletFailed,
    lightning.NoWalletReply,
    lightning.RelayRefused,
    lightning.InvalidWalletReply,
    lightning.InvoiceMismatch,
    lightning.UnknownOwnWallet,
    lightning.OwnWalletUnproven,
)


class InvalidParameter(CaravelError):
    """A query parameter has an invalid value."""

    code = "parameter-invalid"


class UnknownParameter(CaravelError):
    """The operation has no such query parameter."""

    code = "parameter-unknown"


class InvalidCursor(CaravelError):
    """The cursor does not come from this list."""

    code = "cursor-invalid"


class FieldForbidden(Forbidden):
    """Only an operator may set this field."""

    code = "field-forbidden"
