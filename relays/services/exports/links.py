"""Signed links to the export of a relay, which work for months without a login."""

from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.core.signing import BadSignature, SignatureExpired, TimestampSigner
from django.urls import reverse

from relays.exceptions import ExportLinkExpired, ExportLinkInvalid
from relays.models import Relay

#: Longer than an owner has from the offer to the deletion; the relay's end ends it too.
LIFETIME = timedelta(days=365)
#: A separator that no part of a token contains.
_SIGNER = TimestampSigner(salt="relays.export", sep=".")


def export_url(relay: Relay) -> str:
    """Return the page on which the owner of a relay orders and downloads exports.

    The URL is a credential: send it to the owner only.
    """
    return settings.APP_URL + reverse("relay-export", args=[_SIGNER.sign(relay.pk.hex)])


def read_link(token: str) -> UUID:
    """Return a link's relay. Raises ExportLinkInvalid or ExportLinkExpired."""
    try:
        return UUID(_SIGNER.unsign(token, max_age=LIFETIME))
    except SignatureExpired as exc:
        raise ExportLinkExpired(
            "This link has expired. The relay's owner can export it by the API."
        ) from exc
    except (BadSignature, ValueError) as exc:
        raise ExportLinkInvalid("This link is incomplete or invalid.") from exc
