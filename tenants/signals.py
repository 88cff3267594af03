"""Receivers: look up names of new tenants, publish our identity at worker start."""

from typing import Any

from celery.signals import worker_ready
from django.db.models.signals import post_save
from django.dispatch import receiver

from tenants.models import Tenant
from tenants.tasks import fill_in_name, publish_identity


@receiver(post_save, sender=Tenant, dispatch_uid="tenants.tenant_created")
def look_up_name_of_new_tenant(
    sender: type[Tenant], instance: Tenant, created: bool, raw: bool, **kwargs: Any
) -> None:
    if raw or not created or instance.display_name:  # raw: loaddata
        return
    fill_in_name.delay_on_commit(instance.pk)


@worker_ready.connect(dispatch_uid="tenants.publish_identity")
def publish_identity_at_start(sender: Any = None, **kwargs: Any) -> None:
    # Workers of other queues need not publish it as well.
    queues = {queue.name for queue in sender.task_consumer.queues}
    if "nostr" in queues:
        publish_identity.delay_on_commit()
