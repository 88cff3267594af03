from collections.abc import Mapping
from smtplib import SMTPException

from celery import shared_task

from caravel.core import alerts


# No row: if all tries fail, the log still has the alert, and its cause repeats it.
@shared_task(
    name="caravel.tasks.mail_alert",
    autoretry_for=(SMTPException, OSError),
    retry_backoff=15,
    max_retries=5,
)
def mail_alert(event: str, message: str, fields: Mapping[str, str]) -> None:
    alerts.mail_alert(event=event, message=message, fields=fields)
