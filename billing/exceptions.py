"""What goes wrong between Stripe and us; the class says what is known of a call."""

from caravel.core.exceptions import CaravelError, Conflict, Invalid, NotFound


class StripeError(CaravelError):
    """Stripe did not do what it was asked.

    `retry_after` is in seconds, 0 if not told.
    """

    code = "stripe-error"
    status = 502

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StripeUnavailable(StripeError):
    """Stripe does not answer, or is in trouble.

    Whether the call had its effect is not known: silence, a 5xx or a 409.
    """

    code = "stripe-unavailable"
    status = 503


class StripeRateLimited(StripeError):
    """Stripe is asked too much just now.

    The call was turned away before it was executed, by Stripe or by our own limit.
    """

    code = "stripe-rate-limited"
    status = 503


class StripeRefused(StripeError):
    """Stripe refuses, and would again.

    It answered 4xx: the call had no effect.
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

    `decline_code` and `advice_code` are the bank's (docs.stripe.com/declines/codes),
    "" where it gave none.
    """

    def __init__(
        self, message: str, *, decline_code: str, advice_code: str, **kwargs: str
    ) -> None:
        super().__init__(message, **kwargs)
        self.decline_code = decline_code
        self.advice_code = advice_code


class StripeNotFound(StripeRefused):
    """Stripe has no such object (any more)."""

    code = "stripe-not-found"


class StripeReusedKey(StripeRefused):
    """The idempotency key stands for another request."""

    code = "stripe-idempotency"


class PriceMissing(Conflict):
    """A paid plan has no price at Stripe: run `stripe_setup`."""

    code = "plan-price-missing"


class CustomerGone(Conflict):
    """The customer was deleted at Stripe; the next sync creates another."""

    code = "stripe-customer-deleted"


class WriteUnresolved(CaravelError):
    """Stripe may or may not have carried out a write; it's too early to repeat it."""

    code = "stripe-intent-unresolved"
    status = 503


class CustomerBeingCreated(WriteUnresolved):
    """Somebody else is just making the tenant's customer, or has just made it."""


class CreditPending(Conflict):
    """A credit cannot be posted yet; what depends on it waits."""

    code = "credit-not-posted"


class CreditBlocked(CreditPending):
    """A credit cannot be posted before something that may never come about."""

    code = "credit-waits"


class LeaseLost(Conflict):
    """Another worker took this tenant over; whatever is left to do is its job."""

    code = "lease-lost"


class InvoiceChanged(Conflict):
    """Between looking at an invoice and acting on it, it became another."""

    code = "invoice-changed"


class InvoiceNotOpen(Conflict):
    """There is nothing to pay: it is paid, void, or not asked for yet."""

    code = "invoice-not-open"


class Bolt11NotOpen(NotFound):
    """No Lightning invoice of it is on offer just now."""

    code = "bolt11-not-open"


class InvoiceNotPaid(Conflict):
    """There is no receipt of what is not paid, or of what nobody can say yet."""

    code = "invoice-not-paid"


class UnknownInvoice(NotFound):
    """There is no such invoice, or it is not the caller's."""

    code = "invoice-not-found"


class ReturnUrlInvalid(Invalid):
    """Stripe's portal would not lead back to such an address."""

    code = "return-url-invalid"


class UnknownCustomer(Conflict):
    """An event tells of a customer that no tenant has (yet)."""

    code = "customer-unknown"


class InvalidSignature(Invalid):
    code = "signature-invalid"
    status = 400


class InvalidEvent(Invalid):
    code = "event-invalid"
    status = 400


class WrongMode(Invalid):
    """A test event at a live endpoint, or the other way round."""

    code = "livemode-mismatch"
    status = 400


class LinkInvalid(NotFound):
    """A link to a payment page that we did not make."""

    code = "link-invalid"


class LinkExpired(CaravelError):
    """A link to a payment page that was good for a while."""

    code = "link-expired"
    status = 410


class CsrfFailed(CaravelError):
    """A form of the payment page without the cookie that shows that it was ours."""

    code = "form-refused"
    status = 403
