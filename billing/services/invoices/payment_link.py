"""Signed payment links: anyone who has one can pay the invoice, without a login.

Once the invoice is paid, its links lead to the receipt and do not expire any more.
"""

from datetime import timedelta

from django.conf import settings
from django.core.signing import (
    BadSignature,
    SignatureExpired,
    Signer,
    TimestampSigner,
)
from django.urls import reverse

from billing.exceptions import LinkExpired, LinkInvalid
from billing.models import InvoiceCollection

LIFETIME = timedelta(days=60)
#: A separator that no part of a token contains: letters, digits, "_" and "-" may occur.
_SIGNER = TimestampSigner(salt="billing.payment-link", sep=".")


def payment_url(collection: InvoiceCollection) -> str:
    """Return the URL of an invoice's page, valid for 60 days, and longer if paid."""
    return _url("pay", collection.pk)


def receipt_pdf_url(invoice_id: str) -> str:
    """Return the URL of the receipt as a PDF, valid as long as the page's."""
    return _url("receipt-pdf", invoice_id)


def _url(name: str, invoice_id: str) -> str:
    return settings.APP_URL + reverse(name, args=[_SIGNER.sign(invoice_id)])


def token_like(token: str, invoice_id: str) -> str:
    """Return a token for another invoice that expires together with a valid `token`.

    Otherwise one link would lead to later invoices, and be renewed by them, for ever.
    """
    _, timestamp = Signer.unsign(_SIGNER, token).rsplit(_SIGNER.sep, 1)
    # Not that of TimestampSigner, which would add the present time.
    return Signer.sign(_SIGNER, f"{invoice_id}{_SIGNER.sep}{timestamp}")


def oldest_unpaid_link(pubkey: str) -> str | None:
    """Return the payment link of a tenant's oldest unpaid invoice, if any."""
    unpaid = InvoiceCollection.objects.unpaid().filter(tenant=pubkey)
    oldest: InvoiceCollection | None = unpaid.order_by("created_at", "pk").first()
    return payment_url(oldest) if oldest else None


def is_expired(token: str) -> bool:
    """Return whether a valid token is too old to pay with: it leads to a receipt."""
    try:
        _SIGNER.unsign(token, max_age=LIFETIME)
    except SignatureExpired:
        return True
    return False


def verify_token(token: str) -> str:
    """Return the invoice id in a link's token. Raises LinkInvalid or LinkExpired."""
    try:
        return _SIGNER.unsign(token, max_age=LIFETIME)
    except SignatureExpired as exc:
        invoice_id = _SIGNER.unsign(token)
        if InvoiceCollection.objects.paid().filter(pk=invoice_id).exists():
            return invoice_id
        raise LinkExpired(
            "This link is too old to pay with. A newer message from us may have"
            " another one; if not, please ask us for it."
        ) from exc
    except BadSignature as exc:
        raise LinkInvalid("This link is incomplete or invalid.") from exc
