"""E-mail to tenants, where a server for it is set up."""

from email.utils import make_msgid
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import EmailMessage

from caravel.network import leave_database
from tenants.exceptions import NotDelivered


def new_message_id() -> str:
    """Return a Message-ID; an e-mail that comes twice with the same one is one."""
    return make_msgid(domain=settings.BILLING_EMAIL_DOMAIN)


def send_email(*, to: str, title: str, text: str, message_id: str) -> None:
    """Hand an e-mail to the mail server. Raises NotDelivered when it is not taken."""
    leave_database()
    message = EmailMessage(title, text, to=[to], headers={"Message-ID": message_id})
    try:
        message.send()
    except (SMTPException, OSError) as exc:
        raise NotDelivered(f"The mail server did not take the e-mail: {exc}") from exc
