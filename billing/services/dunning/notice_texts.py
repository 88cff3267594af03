"""Renders billing notices: one template per kind, in `billing/templates/notices`."""

from datetime import datetime
from pathlib import Path

from django.template import Context, Engine
from django.utils import timezone

from billing.models import CardAttempt, InvoiceCollection
from billing.money import format_amount
from billing.services.invoices.payment_link import payment_url
from caravel.core.seller import get_seller
from lightning.models import NwcPayment
from relays.models import Relay
from tenants.models import Tenant

_MAX_REASON_LENGTH = 240
_ENGINE = Engine(
    dirs=[str(Path(__file__).resolve().parents[2] / "templates" / "notices")]
)


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
        "is_exempt": "yes" if tenant.dunning_exempt else "",
        "is_unpaid": "yes" if collection.is_unpaid else "",
        "period_end": format_date(period_end, tenant) if period_end else "",
        "link": payment_url(collection),
    }


def render(kind: str, context: dict[str, str]) -> tuple[str, str]:
    """Return the title (first line of the template) and the text of a notice.

    The text ends with the seller's name, address and contact.
    """
    # Notices are plain text, so HTML escaping would garble them.
    rendered = _ENGINE.get_template(f"{kind}.txt").render(
        Context(context, autoescape=False)
    )
    title, _, text = rendered.strip().partition("\n")
    return title, f"{text.strip()}\n\n{get_seller().signature}"


def shorten(text: str) -> str:
    """Return a reason as one line of at most 240 characters."""
    line = " ".join(text.split())
    if len(line) <= _MAX_REASON_LENGTH:
        return line
    return line[: _MAX_REASON_LENGTH - 1].rstrip() + "…"


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


def format_date(time: datetime, tenant: Tenant) -> str:
    """Return the date in the tenant's time zone."""
    return f"{time.astimezone(tenant.tzinfo):%-d %B %Y}"


def format_time(time: datetime, tenant: Tenant) -> str:
    """Return a time in the tenant's time zone, with its offset: "…, 14:30 UTC+1"."""
    local = time.astimezone(tenant.tzinfo)
    return f"{local:%-d %B %Y, %H:%M} UTC{_offset(local)}"


def _offset(local: datetime) -> str:
    # Not the abbreviation: several zones are called IST.
    text = f"{local:%z}"
    hours = f"{text[0]}{int(text[1:3])}"
    minutes = f":{text[3:5]}" if text[3:5] != "00" else ""
    return "" if text == "+0000" else hours + minutes
