"""Drafts that Stripe refuses to finalize (ADR 20)."""

from django.utils import timezone

from billing.clients.stripe.errors import StripeRefused
from billing.models import InvoiceCollection
from billing.services.dunning.suspension import review_tenant
from caravel.core.alerts import alert_support


def record_refusal(collection: InvoiceCollection, refusal: StripeRefused) -> None:
    """Record a refused finalization, alert support, and block further purchases."""
    code = refusal.stripe_code or refusal.code
    InvoiceCollection.objects.filter(pk=collection.pk).update(
        hold=InvoiceCollection.Hold.REFUSED,
        finalization_error=code[:64],
        finalization_refused_at=collection.finalization_refused_at or timezone.now(),
    )
    review_tenant(tenant_id=collection.tenant_id)
    # While it lasts: an alert with the same fields is mailed once a day.
    alert_support(
        "finalization_refused",
        f"Stripe refuses to finalize a draft: {refusal}. Its tenant is served and not "
        "charged until this is repaired; it cannot buy more.",
        tenant=collection.tenant_id,
        invoice=collection.pk,
        code=code,
    )
