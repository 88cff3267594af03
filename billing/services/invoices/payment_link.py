"""The links by which a person pays an invoice: whoever has one may, without a login."""

from datetime import timedelta

from django.conf import settings
from django.core.signing import BadSignature, SignatureExpired, TimestampSigner
from django.urls import reverse

from billing.exceptions import LinkExpired, LinkInvalid
from billing.models import InvoiceCollection

LIFETIME = timedelta(days=60)
#: Letters, digits, underscores and hyphens are in the parts of a token already.
_SIGNER = TimestampSigner(salt="billing.payment-link", sep=".")


def payment_url(collection: InvoiceCollection) -> str:
    """Return the address of the page where an invoice is paid, good for 60 days."""
    token = _SIGNER.sign(collection.pk)
    return settings.APP_URL + reverse("pay", args=[token])


def oldest_unpaid_link(pubkey: str) -> str | None:
    """Return the link of the oldest invoice that a tenant has to pay, None without."""
    unpaid = InvoiceCollection.objects.unpaid().filter(tenant=pubkey)
    oldest: InvoiceCollection | None = unpaid.order_by("created_at", "pk").first()
    return payment_url(oldest) if oldest else None


def verify_token(token: str) -> str:
    """Return the invoice that a link is for. Raises LinkInvalid or LinkExpired."""
    try:
        return _SIGNER.unsign(token, max_age=LIFETIME)
    except SignatureExpired as exc:
        raise LinkExpired(
            "This link is too old: our last message has a newer one."
        ) from exc
    except BadSignature as exc:
        raise LinkInvalid("This link is not complete, or not one of ours.") from exc
