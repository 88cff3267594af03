from datetime import datetime
from typing import Any

import structlog
from celery.signals import beat_init, worker_init, worker_ready
from django.db import connection
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from billing.checks import check_stripe_account
from billing.models import InvoiceCollection
from billing.services.collection.attempts import (
    collect_all,
    start_attempt_for_tenant,
)
from billing.services.dunning.deletions import reason_to_keep_relays
from billing.services.dunning.payment_prompts import refresh_prompts
from billing.services.invoices.records import enqueue_collection
from billing.services.sync.queue import mark_stale
from billing.tasks import reconcile_subscriptions, remind_of_debt, review_tenant
from lightning.models import LightningInvoice, NwcPayment
from relays.models import Relay
from relays.services.end_of_life.notices import OFFER, WARNING
from relays.services.end_of_life.review import deletion_due
from tenants.models import Notice, Tenant

logger = structlog.get_logger(__name__)

#: The columns of a relay on which its tenant's subscription depends.
_BILLED_FIELDS = {
    "plan",
    "plan_id",
    "status",
    "tenant",
    "tenant_id",
    "first_served_at",
}
#: The columns of a tenant that its customer at Stripe has, too.
_CUSTOMER_FIELDS = {"display_name", "email", "email_confirmed_at"}


@receiver(post_save, sender=Relay, dispatch_uid="billing.relay_saved")
def mark_stale_on_relay_save(
    sender: type[Relay],
    instance: Relay,
    raw: bool,
    update_fields: frozenset[str] | None,
    **kwargs: Any,
) -> None:
    if raw or (update_fields is not None and not _BILLED_FIELDS & update_fields):
        return
    mark_stale(tenant_id=instance.tenant_id, relays_changed=True)


@receiver(post_delete, sender=Relay, dispatch_uid="billing.relay_deleted")
def mark_stale_on_relay_delete(
    sender: type[Relay], instance: Relay, **kwargs: Any
) -> None:
    mark_stale(tenant_id=instance.tenant_id, relays_changed=True)


@receiver(deletion_due, dispatch_uid="billing.relay_kept")
def keep_relay(
    sender: type[Relay], relay: Relay, deletion_at: datetime, **kwargs: Any
) -> str:
    return reason_to_keep_relays(relay.tenant, deletion_at=deletion_at)


@receiver(post_save, sender=Notice, dispatch_uid="billing.deletion_announced")
def remind_on_deletion_notice(
    sender: type[Notice], instance: Notice, raw: bool, created: bool, **kwargs: Any
) -> None:
    if not raw and created and instance.kind in (OFFER, WARNING):
        remind_of_debt.delay_on_commit(instance.tenant_id)


@receiver(post_save, sender=NwcPayment, dispatch_uid="billing.payment_ended")
@receiver(post_save, sender=LightningInvoice, dispatch_uid="billing.bolt11_ended")
def collect_on_lightning_outcome(
    sender: type[NwcPayment] | type[LightningInvoice],
    instance: NwcPayment | LightningInvoice,
    created: bool,
    raw: bool,
    update_fields: frozenset[str] | None,
    **kwargs: Any,
) -> None:
    """Collect the invoice again when an attempt or a bolt11 ends."""
    is_state_saved = update_fields is None or "state" in update_fields
    if raw or created or not is_state_saved:
        return
    if instance.state in (NwcPayment.State.PAID, NwcPayment.State.FAILED):
        return  # its bolt11, saved in the same transaction, has ended, too
    if not enqueue_collection(invoice_id=instance.stripe_invoice_id):
        logger.error("no_collection", stripe_invoice=instance.stripe_invoice_id)


@receiver(post_save, sender=Tenant, dispatch_uid="billing.wallet_connected")
def collect_by_new_wallet(
    sender: type[Tenant],
    instance: Tenant,
    created: bool,
    raw: bool,
    update_fields: frozenset[str] | None,
    **kwargs: Any,
) -> None:
    # A save of all columns does not count: the wallet may be the old one.
    is_set = update_fields is not None and "nwc_url" in update_fields
    if raw or created or not is_set or not instance.nwc_url:
        return
    start_attempt_for_tenant(
        tenant_id=instance.pk, first=InvoiceCollection.Action.WALLET
    )


@receiver(post_save, sender=Tenant, dispatch_uid="billing.autopay_resumed")
def collect_on_resumed_autopay(
    sender: type[Tenant],
    instance: Tenant,
    raw: bool,
    update_fields: frozenset[str] | None,
    **kwargs: Any,
) -> None:
    """Collect the open invoices again: a card may have been saved meanwhile."""
    is_set = update_fields is not None and "autopay_paused" in update_fields
    if not raw and is_set and not instance.autopay_paused:
        collect_all(tenant_id=instance.pk)


@receiver(post_save, sender=Tenant, dispatch_uid="billing.customer_details_saved")
def mark_stale_on_customer_details(
    sender: type[Tenant],
    instance: Tenant,
    raw: bool,
    update_fields: frozenset[str] | None,
    **kwargs: Any,
) -> None:
    is_set = update_fields is not None and bool(_CUSTOMER_FIELDS & update_fields)
    if not raw and is_set and instance.stripe_customer_id:
        mark_stale(tenant_id=instance.pk)


@receiver(post_save, sender=Tenant, dispatch_uid="billing.tenant_exempted")
def review_on_exemption(
    sender: type[Tenant],
    instance: Tenant,
    raw: bool,
    update_fields: frozenset[str] | None,
    **kwargs: Any,
) -> None:
    if not raw and update_fields is not None and "dunning_exempt" in update_fields:
        refresh_prompts(tenant_id=instance.pk)
        review_tenant.delay_on_commit(instance.pk)


@worker_init.connect(dispatch_uid="billing.account_of_worker")
@beat_init.connect(dispatch_uid="billing.account_of_beat")
def refuse_other_account(**kwargs: Any) -> None:
    """Refuse to start a worker or beat with the key of another Stripe account."""
    for message in check_stripe_account(databases=["default"]):
        logger.warning("stripe_account", problem=message.msg)
        if message.is_serious():
            # Not an Exception: Celery only logs those of receivers.
            raise SystemExit(message.msg)
    # This process runs no task, but its children would inherit the connection.
    if not connection.in_atomic_block:
        connection.close()


@worker_ready.connect(dispatch_uid="billing.reconcile_at_start")
def reconcile_at_worker_start(**kwargs: Any) -> None:
    reconcile_subscriptions.delay_on_commit()
