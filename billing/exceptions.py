"""Errors of billing, except those of calls to Stripe (`clients.stripe.errors`)."""

from caravel.core.exceptions import CaravelError, Conflict, Invalid, NotFound


class StripeAccountInUse(Conflict):
    """The database has objects of its Stripe account, and cannot move to another."""

    code = "stripe-account-in-use"


class GraceLimitExceeded(Conflict):
    """The grace period would end later than BILLING_MAX_GRACE_DAYS allows."""

    code = "grace-limit-exceeded"


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


class InvalidQuote(Invalid):
    """The quote is not one for this relay and plan."""

    code = "quote-invalid"


class QuoteExpired(Conflict):
    """The quote is older than ten minutes."""

    code = "quote-expired"


class QuoteChanged(Conflict):
    """The change would now cost another amount than was quoted: ask again."""

    code = "quote-changed"


class QuoteNotReady(Conflict):
    """An earlier change has not reached Stripe yet: ask again in some seconds."""

    code = "quote-not-ready"
    retry_after = 5.0


class InvoiceChanged(Conflict):
    """The invoice changed between reading it and acting on it."""

    code = "invoice-changed"


class ReversalChanged(Conflict):
    """A refund or dispute changed between reading it and recording it."""

    code = "reversal-changed"


class DisputeUnknown(Conflict):
    """Stripe ended a subscription for a dispute that it does not show yet."""

    code = "dispute-unknown"


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


class UnreadableEvent(Invalid):
    """A signed event lacks what its type has at Stripe: a repetition cannot help."""

    code = "event-unreadable"


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


class NothingToPay(NotFound):
    """No payment is needed for the relay, or it does not exist."""

    code = "nothing-to-pay"


class LinkExpired(CaravelError):
    """The token of a payment link has expired."""

    code = "link-expired"
    status = 410


class CsrfFailed(CaravelError):
    """A form of the payment page without a valid CSRF token."""

    code = "form-refused"
    status = 403
