"""Prompts at a tenant's relays while an invoice needs a manual payment.

A prompt is public, so that its page sends the payment link to the owner (ADR 41).
"""

from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing.exceptions import NothingToPay
from billing.models import InvoiceCollection
from billing.services.dunning.notices import notify_payment_link
from relays.models import Relay
from relays.services.provisioning.queue import mark_stale
from tenants.models import Tenant


def refresh_prompts(*, tenant_id: str) -> None:
    """Make a sync due for the relays that show a prompt, or no longer do."""
    if settings.RELAY_PAYMENT_PROMPT:
        relays = Relay.objects.suspendable().filter(tenant=tenant_id).order_by("pk")
        for relay_id in relays.values_list("pk", flat=True):
            mark_stale(relay_id=relay_id)


def relay_to_pay(*, relay_id: UUID) -> Relay:
    """Return a relay whose owner has an invoice to pay. Raises NothingToPay."""
    relay = Relay.objects.existing().filter(pk=relay_id).first()
    if relay is None or _unpaid_invoice(relay.tenant_id) is None:
        raise _nothing_to_pay()
    return relay


def send_payment_link(*, relay_id: UUID) -> Relay:
    """Send the owner of a relay a payment link, once a day however often it is called.

    Anybody may call it: nothing but the owner's notice has the link. Raises
    NothingToPay.
    """
    relay = relay_to_pay(relay_id=relay_id)
    with transaction.atomic():
        # Locked, so that two requests send one notice.
        Tenant.objects.lock(relay.tenant_id)
        invoice = _unpaid_invoice(relay.tenant_id)
        if invoice is None:
            raise _nothing_to_pay()
        notify_payment_link(invoice)
    return relay


def _unpaid_invoice(tenant_id: str) -> InvoiceCollection | None:
    if not settings.RELAY_PAYMENT_PROMPT:
        return None
    past_due = Tenant.objects.filter(pk=tenant_id, past_due_at__isnull=False)
    unpaid = InvoiceCollection.objects.unpaid().filter(tenant__in=past_due)
    waiting = unpaid.not_being_paid(timezone.now())
    oldest: InvoiceCollection | None = waiting.order_by("created_at", "pk").first()
    return oldest


def _nothing_to_pay() -> NothingToPay:
    # The same for a relay that does not exist.
    return NothingToPay("As far as we know, no payment is needed for this relay.")
