"""Celery tasks of tenants."""

from celery import shared_task
from django.utils import timezone

from tenants.exceptions import IdentityNotPublished
from tenants.models import EmailConfirmation, Notice
from tenants.services import confirmations, http_auth, names, nostr_identity, notices


@shared_task(queue="nostr")
def send_notice(notice_id: int) -> None:
    notices.deliver_notice(notice_id=notice_id)


@shared_task(queue="nostr")
def send_confirmation(confirmation_id: int) -> None:
    confirmations.send_confirmation(confirmation_id=confirmation_id)


@shared_task
def sweep_confirmations() -> None:
    send_confirmation.delay_many(
        EmailConfirmation.objects.waiting().claim(now=timezone.now())
    )


@shared_task
def sweep_notices() -> None:
    send_notice.delay_many(Notice.objects.waiting().claim(now=timezone.now()))


# Relays may start later than the worker. After the last retry beat tries again daily.
@shared_task(
    queue="nostr", autoretry_for=(IdentityNotPublished,), retry_backoff=5, max_retries=5
)
def publish_identity() -> None:
    nostr_identity.publish_identity()


@shared_task(queue="nostr", name="tenants.tasks.look_up_name")
def fill_in_name(tenant_id: str) -> None:
    names.fill_in_name(tenant_id=tenant_id)


@shared_task
def look_up_names() -> None:
    fill_in_name.delay_many(names.tenants_without_name())


@shared_task
def sweep_auth_events() -> None:
    http_auth.delete_expired_events()
