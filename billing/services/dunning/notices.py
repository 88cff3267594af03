"""What tenants are told about money. Each text is a template; each is told once."""

import re
from datetime import datetime
from pathlib import Path

from django.template import Context, Engine
from django.utils import timezone

from billing.models import CardAttempt, Credit, InvoiceCollection
from billing.money import format_amount
from billing.services.invoices.payment_link import payment_url
from lightning.models import NwcPayment
from relays.models import Relay
from tenants.models import Notice, Tenant
from tenants.services.notices import drop_notices, notify

REMINDERS = ("reminder_3", "reminder_1", "reminder_0")
#: What is true only as long as an invoice is unpaid.
_UNPAID = ("invoice_due", "payment_failed", *REMINDERS, "suspended")
#: What tells of a suspension, or that it comes.
_DEADLINE = (*REMINDERS, "suspended", "reactivated")
#: What is written anew when it was not sent yet and facts have changed.
_REVISED = (*_UNPAID, "reactivated")
#: Each link has the time in it at which it was made.
_TOKEN = re.compile(r"/pay/\S+")
_LONGEST_REASON = 240
_ENGINE = Engine(
    dirs=[str(Path(__file__).resolve().parents[2] / "templates" / "notices")]
)


def notify_invoice_due(collection: InvoiceCollection) -> Notice:
    """Ask for payment, and say why the wallet did not, if it was asked."""
    return _tell(collection, "invoice_due")


def notify_payment_failed(collection: InvoiceCollection) -> Notice:
    """Say that the card was refused, and why."""
    return _tell(collection, "payment_failed")


def tell_reminder(collection: InvoiceCollection, kind: str) -> Notice:
    """Remind of an invoice; an earlier reminder that is not out yet is not sent."""
    _drop(collection, [each for each in REMINDERS if each != kind])
    return _tell(collection, kind)


def notify_suspended(collection: InvoiceCollection) -> Notice:
    """Say that the relays are off, and by which invoice."""
    _drop(collection, [*REMINDERS, "invoice_due", "reactivated"])
    return _tell_anew(collection, "suspended")


def was_notified_of_suspension(collection: InvoiceCollection) -> bool:
    """Return whether it is this invoice that the tenant last heard of as the cause."""
    told = Notice.objects.filter(tenant_id=collection.tenant_id, kind="suspended")
    last = told.exclude(state=Notice.State.DROPPED).order_by("-created_at").first()
    return last is not None and last.subject == collection.pk


def notify_reactivated(collection: InvoiceCollection) -> Notice:
    """Say that the relays are on again, and what is to be paid if the invoice is."""
    return _tell_anew(collection, "reactivated")


def tell_wallet_trouble(collection: InvoiceCollection, sentence: str) -> Notice:
    """Say what keeps the wallet from paying the invoice that follows this one."""
    about = {**_about(collection), "sentence": shorten(sentence)}
    return _notify(collection.tenant_id, "wallet_trouble", collection.pk, about)


def notify_overpayment(credit: Credit) -> Notice:
    """Say that more arrived than was asked for, and is credited."""
    return _notify(
        credit.tenant_id,
        "surplus_credited",
        f"credit {credit.pk}",
        {"amount": format_amount(credit.amount_cents, credit.currency)},
    )


def drop_unpaid_notices(collection: InvoiceCollection) -> int:
    """Drop what was not sent yet of an invoice that is not unpaid any more."""
    return _drop(collection, _UNPAID)


def refresh_unsent(tenant: Tenant, *, is_suspended: bool) -> None:
    """Drop what was not sent yet and has ceased to be true, or write it anew."""
    unsent = Notice.objects.unsent().filter(tenant=tenant)
    about = InvoiceCollection.objects.in_bulk([notice.subject for notice in unsent])
    for notice in unsent:
        collection = about.get(notice.subject)
        if collection is None:
            continue
        if not _is_true(notice, tenant, collection, is_suspended):
            _drop(collection, [notice.kind])
        elif _is_outdated(notice, collection):
            _drop(collection, [notice.kind])
            _tell(collection, notice.kind)


def _is_outdated(notice: Notice, collection: InvoiceCollection) -> bool:
    """Return whether a notice that nobody has seen yet would be another one today."""
    is_seen = notice.dm_sent_at or notice.email_sent_at
    is_waiting = notice.state == Notice.State.WAITING
    if is_seen or not is_waiting or notice.kind not in _REVISED:
        return False
    title, text = _render(notice.kind, _facts(collection, notice.kind))
    now, then = (title, text), (notice.title, notice.text)
    return [_TOKEN.sub("", part) for part in now] != [
        _TOKEN.sub("", part) for part in then
    ]


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


def reset_deadline_notices(collection: InvoiceCollection) -> None:
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


def _tell(collection: InvoiceCollection, kind: str) -> Notice:
    facts = _facts(collection, kind)
    return _notify(collection.tenant_id, kind, collection.pk, facts)


def _facts(collection: InvoiceCollection, kind: str) -> dict[str, str]:
    """Return what a notice about an invoice says now."""
    about = _about(collection)
    if kind == "invoice_due":
        return {**about, "wallet_error": _why_no_wallet(collection)}
    if kind == "payment_failed":
        return {**about, **_why_no_card(collection)}
    return about


def _why_no_wallet(collection: InvoiceCollection) -> str:
    """Return why the wallet did not pay an invoice, "" if it was not asked to."""
    asked = NwcPayment.objects.filter(stripe_invoice_id=collection.pk)
    tenant = collection.tenant
    return shorten(tenant.nwc_error) if tenant.nwc_url and asked.exists() else ""


def _why_no_card(collection: InvoiceCollection) -> dict[str, str]:
    attempts = collection.card_attempts.exclude(state=CardAttempt.State.PENDING)
    last = attempts.first()
    asks = last is not None and last.state == CardAttempt.State.ACTION_REQUIRED
    return {
        "reason": shorten(last.message) if last else "",
        "bank_asks": "yes" if asks else "",
    }


def _about(collection: InvoiceCollection) -> dict[str, str]:
    """Return what is true of an invoice; times that have passed are not for paying."""
    end, period_end = collection.suspend_at, collection.period_end
    is_ahead = end is not None and end > timezone.now()
    running = Relay.objects.billable().filter(tenant=collection.tenant_id)
    return {
        "number": collection.number or collection.pk,
        "amount": format_amount(collection.amount_remaining_cents, collection.currency),
        "due_at": _moment(end) if end and is_ahead else "",
        "due_on": _day(end) if end and is_ahead else "",
        "ended_at": _moment(end) if end and not is_ahead else "",
        "run": "yes" if running.exists() else "",
        "is_unpaid": "yes" if collection.is_unpaid else "",
        "period_end": _day(period_end) if period_end else "",
        "link": payment_url(collection),
    }


def _notify(tenant_id: str, kind: str, subject: str, about: dict[str, str]) -> Notice:
    title, text = _render(kind, about)
    return notify(
        tenant_id=tenant_id, kind=kind, subject=subject, title=title, text=text
    )


def _render(kind: str, about: dict[str, str]) -> tuple[str, str]:
    """Return the title and the text of a notice."""
    # Plain text: nothing in it is escaped.
    context = Context(about, autoescape=False)
    rendered = _ENGINE.get_template(f"{kind}.txt").render(context)
    title, _, text = rendered.strip().partition("\n")
    return title, text.strip()


def _drop(collection: InvoiceCollection, kinds: list[str] | tuple[str, ...]) -> int:
    return drop_notices(
        tenant_id=collection.tenant_id, kinds=kinds, subject=collection.pk
    )


def _day(time: datetime) -> str:
    return f"{time:%-d %B %Y}"


def _moment(time: datetime) -> str:
    return f"{time:%-d %B %Y, %H:%M} UTC"
