"""E-mail to tenants, where a server for it is set up."""

from email.utils import make_msgid
from smtplib import SMTPException, SMTPRecipientsRefused

from django.conf import settings
from django.core.mail import EmailMessage

from caravel.core.db.transactions import release_connection
from tenants.exceptions import AddressRefused, NotDelivered


def new_message_id() -> str:
    """Return a Message-ID; an e-mail that comes twice with the same one is one."""
    return make_msgid(domain=settings.BILLING_EMAIL_DOMAIN)


def send_email(*, to: str, title: str, text: str, message_id: str) -> None:
    """Hand an e-mail to the mail server.

    Raises NotDelivered when it is not taken now, AddressRefused when it never will be.
    """
    if not to.isprintable():
        # Django lets them pass in quotes; in a header they would begin a new line.
        raise AddressRefused("The address has characters that no header can hold.")
    release_connection()
    message = EmailMessage(title, text, to=[to], headers={"Message-ID": message_id})
    try:
        message.send()
    except SMTPRecipientsRefused as exc:
        # Spelt otherwise than ours if the domain has other letters than ASCII.
        ((code, reason),) = exc.recipients.values()
        error = AddressRefused if code >= 500 else NotDelivered
        said = reason.decode(errors="replace")
        raise error(f"The mail server refuses the address: {code} {said}") from exc
    except (SMTPException, OSError) as exc:
        raise NotDelivered(f"The mail server did not take the e-mail: {exc}") from exc
