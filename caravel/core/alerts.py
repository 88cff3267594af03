"""Alerts to support: an error in the log, and an e-mail to SUPPORT_EMAIL if it is set.

The row that is stuck shows the same in the admin; an alert says where to look.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import structlog
from celery import current_app
from django.conf import settings
from django.core.mail import EmailMessage
from django.utils import timezone

from caravel.core import cache
from caravel.core.db.transactions import release_connection
from caravel.core.redaction import redact

logger = structlog.get_logger(__name__)

#: E-mails about one event a day: one cause may concern every tenant.
MAX_MAILS = 20
#: Longer than the day for which an alert is remembered.
_REMEMBERED_FOR = 2 * 86_400


def alert_support(event: str, message: str, **fields: Any) -> None:
    """Log an error, and enqueue an e-mail about it when the transaction commits.

    `event` is a name such as `price_missing`. An event with the same fields is mailed
    once a day, so what varies (amounts, times) belongs into the message; MAX_MAILS are
    sent about one event.
    """
    logger.error(event, message=message, **fields)
    if settings.SUPPORT_EMAIL and settings.EMAIL_ENABLED:
        texts = {name: redact(str(value)) for name, value in sorted(fields.items())}
        # By name, since the core does not import tasks.
        task = current_app.tasks["caravel.tasks.mail_alert"]
        task.delay_on_commit(event, redact(message), texts)


def mail_alert(*, event: str, message: str, fields: Mapping[str, str]) -> None:
    """Mail an alert, unless the same or too many of its event were mailed today.

    Raises SMTPException or OSError if the mail server does not accept it.
    """
    key = _key(event, fields)
    if not cache.add(key, True, seconds=_REMEMBERED_FOR):
        return
    counter = f"alerts:{timezone.now().date()}:{event}"
    if cache.count(counter, seconds=_REMEMBERED_FOR) > MAX_MAILS:
        return
    release_connection()
    try:
        _email(event, message, fields, key).send()
    except Exception:
        # The next try is not a repetition.
        cache.delete(key)
        raise


def _key(event: str, fields: Mapping[str, str]) -> str:
    subject = repr((timezone.now().date(), event, sorted(fields.items())))
    return f"alert:{sha256(subject.encode()).hexdigest()}"


def _email(
    event: str, message: str, fields: Mapping[str, str], key: str
) -> EmailMessage:
    lines = [message, "", *(f"{name}: {value}" for name, value in fields.items())]
    # Mail clients show two e-mails with the same Message-ID as one.
    message_id = f"<{key.replace(':', '.')}@{settings.BILLING_EMAIL_DOMAIN}>"
    return EmailMessage(
        f"Caravel: {event.replace('_', ' ')}",
        "\n".join(lines),
        to=[settings.SUPPORT_EMAIL],
        headers={"Message-ID": message_id},
    )
