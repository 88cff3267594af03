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
from billing.exceptions import (
    InvalidQuote,
    QuoteChanged,
    QuoteExpired,
    QuoteNotReady,
)
from caravel.core.exceptions import CaravelError, Forbidden
from caravel.core.web.throttling import Overloaded
from lightning import exceptions as lightning
from relays import exceptions as relays

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
#: A change with a quote may raise these.
QUOTE_ERRORS: tuple[type[CaravelError], ...] = (
    InvalidQuote,
    QuoteExpired,
    QuoteChanged,
    QuoteNotReady,
    *STRIPE_ERRORS,
    Overloaded,
)
#: A change to a smaller plan, before which the members are counted, may raise these.
MEMBER_ERRORS: tuple[type[CaravelError], ...] = (
    relays.MembersExceedPlan,
    relays.MembersNotCounted,
    relays.ZooidUnavailable,
    relays.ZooidRefused,
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
