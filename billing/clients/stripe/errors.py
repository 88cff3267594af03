"""Errors of calls to Stripe. The class says whether the call had an effect."""

from caravel.core.exceptions import CaravelError


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


class StripeUnreadable(StripeUnavailable):
    """Stripe answered the call, but the answer lacks what Caravel needs.

    The call may have had its effect, and a retry would be answered in the same way.
    """

    code = "stripe-answer-unreadable"
    status = 502


class StripeNotExecuted(StripeError):
    """Stripe has not executed the call.

    It was not sent, or rejected before it was executed; a later one may succeed.
    """

    code = "stripe-unavailable"
    status = 503


class StripeRateLimited(StripeNotExecuted):
    """Too many requests to Stripe.

    Stripe, or our own rate limit, rejected the call before it was executed.
    """

    code = "stripe-rate-limited"


class StripeAccountMismatch(StripeNotExecuted):
    """The key belongs to another Stripe account or mode than the database."""

    code = "stripe-account-mismatch"


class StripeAccountUnknown(StripeNotExecuted):
    """The account of the key is not known, because Stripe refuses to say it."""

    code = "stripe-account-unknown"


class StripeRefused(StripeError):
    """Stripe refused the call.

    It answered 4xx: the call had no effect, and a retry would not either.
    Carries Stripe's own `text`, `type`, `stripe_code` and `param`.
    """

    code = "stripe-refused"

    def __init__(
        self, message: str, *, type: str = "", stripe_code: str = "", param: str = ""
    ) -> None:
        details = ", ".join(part for part in (type, stripe_code, param) if part)
        super().__init__(f"{message} ({details})" if details else message)
        self.text = message
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
