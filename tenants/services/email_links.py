"""Signed links in e-mails, which act on one address of one tenant.

A link for an address that the tenant has changed since does nothing.
"""

from datetime import timedelta

from django.conf import settings
from django.core.signing import BadSignature, SignatureExpired, Signer, TimestampSigner
from django.urls import reverse
from django.utils.crypto import constant_time_compare, salted_hmac

from tenants.exceptions import EmailLinkExpired, EmailLinkInvalid
from tenants.models import Tenant

CONFIRMATION_LIFETIME = timedelta(days=7)
#: A separator that no part of a token contains.
_CONFIRM = TimestampSigner(salt="tenants.confirm-email", sep=".")
#: Without an end: people unsubscribe by old e-mails, too.
_STOP = Signer(salt="tenants.stop-email", sep=".")


def confirmation_url(tenant: Tenant) -> str:
    """Return the page on which an address's owner confirms it, valid for a week."""
    token = _CONFIRM.sign(_subject(tenant))
    return settings.APP_URL + reverse("confirm-email", args=[token])


def stop_url(tenant: Tenant) -> str:
    """Return the page, and the one-click address, that ends e-mails to an address."""
    token = _STOP.sign(_subject(tenant))
    return settings.APP_URL + reverse("stop-email", args=[token])


def read_confirmation(token: str) -> str:
    """Return the subject of a confirmation link.

    Raises EmailLinkInvalid or EmailLinkExpired.
    """
    try:
        return _CONFIRM.unsign(token, max_age=CONFIRMATION_LIFETIME)
    except SignatureExpired as exc:
        raise EmailLinkExpired(
            "This link is older than a week. Enter your address again to get another."
        ) from exc
    except BadSignature as exc:
        raise EmailLinkInvalid("This link is incomplete or invalid.") from exc


def read_stop(token: str) -> str:
    """Return the subject of a link that ends e-mails. Raises EmailLinkInvalid."""
    try:
        return _STOP.unsign(token)
    except BadSignature as exc:
        raise EmailLinkInvalid("This link is incomplete or invalid.") from exc


def pubkey_of_subject(subject: str) -> str:
    return subject.partition("-")[0]


def is_subject(subject: str, tenant: Tenant) -> bool:
    """Return whether a link is about the tenant's present address."""
    return bool(tenant.email) and constant_time_compare(subject, _subject(tenant))


def _subject(tenant: Tenant) -> str:
    # Not the address itself: URLs are kept in histories and in proxies' logs.
    digest = salted_hmac("tenants.email", tenant.email, algorithm="sha256").hexdigest()
    return f"{tenant.pk}-{digest[:32]}"
