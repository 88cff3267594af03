"""What the API refuses by itself; the rest is refused by the services behind it."""

from billing.exceptions import (
    StripeError,
    StripeNotFound,
    StripeRateLimited,
    StripeRefused,
    StripeUnavailable,
)
from caravel.core.exceptions import CaravelError, Forbidden
from lightning import exceptions as lightning

#: What fails when Stripe is asked.
STRIPE = (
    StripeError,
    StripeNotFound,
    StripeRateLimited,
    StripeRefused,
    StripeUnavailable,
)
#: What fails when our own wallet is asked for an invoice.
WALLET = (
    lightning.RateUnavailable,
    lightning.RequestNotSent,
    lightning.WalletRefused,
    lightning.WalletFailed,
    lightning.NoWalletReply,
    lightning.InvalidWalletReply,
    lightning.InvoiceMismatch,
    lightning.UnknownOwnWallet,
)


class InvalidParameter(CaravelError):
    """A parameter of the query has a value that it cannot have."""

    code = "parameter-invalid"


class UnknownParameter(CaravelError):
    """There is no parameter of this name here."""

    code = "parameter-unknown"


class InvalidCursor(CaravelError):
    """The cursor is not one that a list of ours has given."""

    code = "cursor-invalid"


class FieldForbidden(Forbidden):
    """Only an operator may set this field."""

    code = "field-forbidden"
