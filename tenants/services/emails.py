"""E-mail to tenants."""

from collections.abc import Mapping
from email.utils import make_msgid
from smtplib import SMTPException, SMTPRecipientsRefused

from django.conf import settings
from django.core.mail import EmailMessage

from caravel.core.db.transactions import release_connection
from tenants.exceptions import AddressRefused, NotDelivered


def new_message_id() -> str:
    """Return a new Message-ID."""
    # Mail clients show two e-mails with the same Message-ID as one.
    return make_msgid(domain=settings.BILLING_EMAIL_DOMAIN)


def unsubscribe_headers(url: str) -> dict[str, str]:
    """Return the headers by which mail programs end these e-mails (RFC 8058)."""
    return {
        "List-Unsubscribe": f"<{url}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }


def send_email(
    *,
    to: str,
    title: str,
    text: str,
    message_id: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Send an e-mail through the mail server.

    Raises AddressRefused if the address is permanently refused, or NotDelivered if
    sending may succeed later.
    """
    if not to.isprintable():
        # Django accepts control characters in a quoted local part; some of them would
        # break the header line.
        raise AddressRefused("The address has characters that a header cannot contain.")
    release_connection()
    all_headers = {"Message-ID": message_id, **(headers or {})}
    message = EmailMessage(title, text, to=[to], headers=all_headers)
    try:
        message.send()
    except SMTPRecipientsRefused as exc:
        # Not by key: Django converts a non-ASCII domain to punycode.
        ((code, reason),) = exc.recipients.values()
        error = AddressRefused if code >= 500 else NotDelivered
        text = reason.decode(errors="replace")
        raise error(f"The mail server refuses the address: {code} {text}") from exc
    except (SMTPException, OSError) as exc:
        raise NotDelivered(f"The mail server did not accept the e-mail: {exc}") from exc
