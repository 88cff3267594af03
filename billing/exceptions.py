"""Errors of billing. The class of a StripeError says whether the call had an effect."""

from caravel.core.exceptions import CaravelError, Conflict, Invalid, NotFound


class StripeError(CaravelError):
    """A call to Stripe failed.

    `retry_after` is in seconds, 0 if unknown.
    """

    code = "stripe-error"
    status = 502

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StripeUnavailable(StripeError):
    """Stripe is unavailable.

    A timeout, a 5xx or a 409: the call may have had its effect.
    """

    code = "stripe-unavailable"
    status = 503


class StripeRateLimited(StripeError):
    """Too many requests to Stripe.

    Stripe, or our own rate limit, rejected the call before it was executed.
    """

    code = "stripe-rate-limited"
    status = 503


class StripeRefused(StripeError):
    """Stripe refused the call.

    It answered 4xx: the call had no effect, and a retry would not either.
    Carries Stripe's own `type`, `stripe_code` and `param`.
    """

    code = "stripe-refused"

    def __init__(
        self, message: str, *, type: str = "", stripe_code: str = "", param: str = ""
    ) -> None:
        details = ", ".join(part for part in (type, stripe_code, param) if part)
        super().__init__(f"{message} ({details})" if details else message)
        self.type = type
        self.stripe_code = stripe_code
        self.param = param


class StripeCardRefused(StripeRefused):
    """The card was not charged.

    `decline_code` and `advice_code` are the bank's, "" if it gave none:
    https://docs.stripe.com/declines/codes
    """

    def __init__(
        self, message: str, *, decline_code: str, advice_code: str, **kwargs: str
    ) -> None:
        super().__init__(message, **kwargs)
        self.decline_code = decline_code
        self.advice_code = advice_code


class StripeNotFound(StripeRefused):
    """Stripe has no such object."""

    code = "stripe-not-found"


class StripeReusedKey(StripeRefused):
    """The idempotency key was used with other parameters."""

    code = "stripe-idempotency"


class PriceMissing(Conflict):
    """A paid plan has no price at Stripe: run `stripe_setup`."""

    code = "plan-price-missing"


class CustomerGone(Conflict):
    """The customer was deleted at Stripe; the next sync creates another."""

    code = "stripe-customer-deleted"


class WriteUnresolved(CaravelError):
    """It is not known yet whether a write to Stripe had its effect."""

    code = "stripe-intent-unresolved"
    status = 503


class CustomerBeingCreated(WriteUnresolved):
    """Another worker is creating the tenant's customer, or has just created it."""


class CreditPending(Conflict):
    """A credit is not posted yet, so nothing that depends on it can go on."""

    code = "credit-not-posted"


class CreditBlocked(CreditPending):
    """A credit waits for an event that may never come, such as a new customer."""

    code = "credit-waits"


class LeaseLost(Conflict):
    """Another worker holds the tenant's lease now and does the rest."""

    code = "lease-lost"


class InvoiceChanged(Conflict):
    """The invoice changed between reading it and acting on it."""

    code = "invoice-changed"


class InvoiceNotOpen(Conflict):
    """There is nothing to pay: the invoice is paid, void or still a draft."""

    code = "invoice-not-open"


class Bolt11NotOpen(NotFound):
    """The invoice has no open Lightning invoice."""

    code = "bolt11-not-open"


class InvoiceNotPaid(Conflict):
    """There is no receipt: the invoice is not paid, or this is not known yet."""

    code = "invoice-not-paid"


class UnknownInvoice(NotFound):
    """There is no such invoice, or it belongs to another tenant."""

    code = "invoice-not-found"


class ReturnUrlInvalid(Invalid):
    """The return URL is not one that Stripe's portal may redirect to."""

    code = "return-url-invalid"


class UnknownCustomer(Conflict):
    """An event names a customer that no tenant has."""

    code = "customer-unknown"


class InvalidSignature(Invalid):
    code = "signature-invalid"
    status = 400


class InvalidEvent(Invalid):
    code = "event-invalid"
    status = 400


class WrongMode(Invalid):
    """A test-mode event at a live-mode endpoint, or the reverse."""

    code = "livemode-mismatch"
    status = 400


class LinkInvalid(NotFound):
    """The token of a payment link is not valid."""

    code = "link-invalid"


class LinkExpired(CaravelError):
    """The token of a payment link has expired."""

    code = "link-expired"
    status = 410


class CsrfFailed(CaravelError):
    """A form of the payment page without a valid CSRF token."""

    code = "form-refused"
    status = 403
