"""What tenants are told about money. Each text is a template; each is told once."""

from datetime import datetime
from pathlib import Path

from django.template import Context, Engine
from django.utils import timezone

from billing.models import CardAttempt, Credit, InvoiceCollection
from billing.services.amounts import format_amount
from billing.services.links import payment_link
from tenants.models import Notice, Tenant
from tenants.services.notices import drop_notices, notify

REMINDERS = ("reminder_3", "reminder_1", "reminder_0")
#: What is true only as long as an invoice is unpaid.
_UNPAID = ("invoice_due", "payment_failed", *REMINDERS, "suspended")
#: What tells of a suspension, or that it comes.
_DEADLINE = (*REMINDERS, "suspended", "reactivated")
_LONGEST_REASON = 240
_ENGINE = Engine(
    dirs=[str(Path(__file__).resolve().parent.parent / "templates" / "notices")]
)


def tell_invoice_due(collection: InvoiceCollection) -> Notice:
    """Ask for payment, and say why the wallet did not."""
    tenant = collection.tenant
    reason = shorten(tenant.nwc_error) if tenant.nwc_url else ""
    return _tell(collection, "invoice_due", wallet_error=reason)


def tell_payment_failed(collection: InvoiceCollection) -> Notice:
    """Say that the card was refused, and why."""
    attempts = collection.card_attempts.exclude(state=CardAttempt.State.PENDING)
    last = attempts.first()
    reason = shorten(last.message) if last else ""
    return _tell(collection, "payment_failed", reason=reason)


def tell_reminder(collection: InvoiceCollection, kind: str) -> Notice:
    """Remind of an invoice; an earlier reminder that is not out yet is not sent."""
    _drop(collection, [each for each in REMINDERS if each != kind])
    return _tell(collection, kind)


def tell_suspended(collection: InvoiceCollection) -> Notice:
    """Say that the relays are off, and by which invoice."""
    _drop(collection, [*REMINDERS, "reactivated"])
    return _tell_anew(collection, "suspended")


def tell_reactivated(collection: InvoiceCollection) -> Notice:
    """Say that the relays are on again; which invoice it was is for the record."""
    return _tell_anew(collection, "reactivated")


def tell_wallet_trouble(collection: InvoiceCollection, sentence: str) -> Notice:
    """Say what keeps the wallet from paying the invoice that follows this one."""
    return _tell(collection, "wallet_trouble", sentence=shorten(sentence))


def tell_surplus(credit: Credit) -> Notice:
    """Say that more arrived than was asked for, and is credited."""
    return _notify(
        credit.tenant_id,
        "surplus_credited",
        f"credit {credit.pk}",
        {"amount": format_amount(credit.amount_cents, credit.currency)},
    )


def withdraw(collection: InvoiceCollection) -> int:
    """Drop what was not sent yet of an invoice that is not unpaid any more."""
    return _drop(collection, _UNPAID)


def withdraw_untrue(tenant: Tenant, *, is_suspended: bool) -> list[Notice]:
    """Drop what was not sent yet and has ceased to be true; returns what that was."""
    unsent = Notice.objects.unsent().filter(tenant=tenant)
    about = InvoiceCollection.objects.in_bulk([notice.subject for notice in unsent])
    dropped = []
    for notice in unsent:
        collection = about.get(notice.subject)
        if collection and not _is_true(notice, tenant, collection, is_suspended):
            _drop(collection, [notice.kind])
            dropped.append(notice)
    return dropped


def _is_true(
    notice: Notice, tenant: Tenant, collection: InvoiceCollection, is_suspended: bool
) -> bool:
    """Return whether a notice about an invoice can still be sent."""
    suspend_at, now = collection.suspend_at, timezone.now()
    is_over = suspend_at is not None and suspend_at <= now
    if notice.kind == "reactivated":
        return not is_suspended
    if notice.kind == "wallet_trouble":
        return bool(tenant.nwc_error)
    if notice.kind in _UNPAID and not collection.is_unpaid:
        return False
    if notice.kind in REMINDERS:
        return not tenant.dunning_exempt and not is_over
    if notice.kind == "suspended":
        return not tenant.dunning_exempt and is_over
    return True


def renew(collection: InvoiceCollection) -> None:
    """Let an invoice whose time to pay has changed be reminded of anew."""
    for kind in _DEADLINE:
        _put_aside(collection, kind)


def shorten(text: str) -> str:
    """Return a reason that fits into a message: one line, 240 characters at most."""
    line = " ".join(text.split())
    if len(line) <= _LONGEST_REASON:
        return line
    return line[: _LONGEST_REASON - 1].rstrip() + "…"


def _tell_anew(collection: InvoiceCollection, kind: str) -> Notice:
    """Tell of a change of the relays, which one invoice may bring about repeatedly."""
    _put_aside(collection, kind)
    return _tell(collection, kind)


def _put_aside(collection: InvoiceCollection, kind: str) -> None:
    """Make room for a notice of the same kind: the old one was about another time."""
    _drop(collection, [kind])
    old = Notice.objects.filter(
        tenant_id=collection.tenant_id, kind=kind, subject=collection.pk
    ).first()
    if old is not None:
        subject = f"{collection.pk} {old.created_at.isoformat()}"
        Notice.objects.filter(pk=old.pk).update(subject=subject)


def _tell(collection: InvoiceCollection, kind: str, **more: str) -> Notice:
    about = {**_about(collection), **more}
    return _notify(collection.tenant_id, kind, collection.pk, about)


def _about(collection: InvoiceCollection) -> dict[str, str]:
    due_at, period_end = collection.suspend_at, collection.period_end
    return {
        "number": collection.number or collection.pk,
        "amount": format_amount(collection.amount_remaining_cents, collection.currency),
        "due_at": _moment(due_at) if due_at else "",
        "due_on": _day(due_at) if due_at else "",
        "period_end": _day(period_end) if period_end else "",
        "link": payment_link(collection),
    }


def _notify(tenant_id: str, kind: str, subject: str, about: dict[str, str]) -> Notice:
    # Plain text: nothing in it is escaped.
    context = Context(about, autoescape=False)
    rendered = _ENGINE.get_template(f"{kind}.txt").render(context)
    title, _, text = rendered.strip().partition("\n")
    return notify(
        tenant_id=tenant_id, kind=kind, subject=subject, title=title, text=text.strip()
    )


def _drop(collection: InvoiceCollection, kinds: list[str] | tuple[str, ...]) -> int:
    return drop_notices(
        tenant_id=collection.tenant_id, kinds=kinds, subject=collection.pk
    )


def _day(time: datetime) -> str:
    return f"{time:%-d %B %Y}"


def _moment(time: datetime) -> str:
    return f"{time:%-d %B %Y, %H:%M} UTC"
