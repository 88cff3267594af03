"""Texts of notices about an invoice."""

from django.db.models import Min
from django.utils import timezone

from billing.models import CardAttempt, InvoiceCollection
from billing.money import format_amount
from billing.services.invoices.payment_link import payment_url
from lightning.models import NwcPayment
from relays.models import Relay
from tenants.models import Tenant
from tenants.services.notice_texts import format_date, format_time, render, shorten


def invoice_notice(collection: InvoiceCollection, kind: str) -> tuple[str, str]:
    """Return the title and text that a notice about an invoice has now."""
    context = invoice_context(collection)
    if kind == "invoice_due":
        context["wallet_error"] = _wallet_error(collection)
    if kind == "payment_failed":
        context |= _card_error(collection)
    return render(kind, context)


def invoice_context(collection: InvoiceCollection) -> dict[str, str]:
    """Return the template variables of an invoice; a past due date is left out."""
    tenant = collection.tenant
    end, period_end = collection.suspend_at, collection.period_end
    is_ahead = end is not None and end > timezone.now()
    running = Relay.objects.suspendable().filter(tenant=tenant)
    # The relays of an exempt tenant do not depend on a payment.
    may_go_off = running.exists() and not tenant.dunning_exempt
    return {
        "number": collection.number or collection.pk,
        "amount": format_amount(collection.owed_cents, collection.currency),
        # A dispute may leave a paid invoice unpaid: "still open" would be wrong.
        "still_open": "unpaid again" if collection.dispute_debt_cents else "still open",
        "due_at": format_time(end, tenant) if end and is_ahead else "",
        "due_on": format_date(end, tenant) if end and is_ahead else "",
        "ended_at": format_time(end, tenant) if end and not is_ahead else "",
        "run": "yes" if may_go_off else "",
        "deletion_at": _deletion_at(tenant),
        "is_exempt": "yes" if tenant.dunning_exempt else "",
        "is_unpaid": "yes" if collection.is_unpaid else "",
        "period_end": format_date(period_end, tenant) if period_end else "",
        "link": payment_url(collection),
    }


def _deletion_at(tenant: Tenant) -> str:
    """Return when the first of the tenant's suspended relays is to be deleted."""
    off = Relay.objects.delinquent().filter(tenant=tenant)
    first = off.aggregate(first=Min("deletion_at"))["first"]
    return format_time(first, tenant) if first else ""


def _wallet_error(collection: InvoiceCollection) -> str:
    """Return the wallet's error, "" if no attempt was made with it."""
    attempts = NwcPayment.objects.filter(stripe_invoice_id=collection.pk)
    tenant = collection.tenant
    return shorten(tenant.nwc_error) if tenant.nwc_url and attempts.exists() else ""


def _card_error(collection: InvoiceCollection) -> dict[str, str]:
    attempts = collection.card_attempts.exclude(state=CardAttempt.State.PENDING)
    last = attempts.first()
    needs_action = last is not None and last.state == CardAttempt.State.ACTION_REQUIRED
    return {
        "reason": shorten(last.message) if last else "",
        "bank_asks": "yes" if needs_action else "",
        "method": "bank account" if last and last.is_bank_debit else "card",
    }
