"""Billing notices: one template per kind, sent once per subject."""

import re
from collections.abc import Collection
from datetime import datetime, timedelta

from django.utils import timezone

from billing.models import Credit, InvoiceCollection
from billing.money import format_amount
from billing.services.dunning.notice_texts import invoice_context, invoice_notice
from billing.services.invoices.locks import is_being_paid
from billing.services.invoices.payer import was_bank_debited
from tenants.models import Notice, Tenant
from tenants.services.notice_texts import format_time, render, shorten
from tenants.services.notices import drop_notices, notify

#: Time between two payment links that anybody may have asked for.
_LINK_INTERVAL = timedelta(days=1)
#: The reminders, and how long before `suspend_at` each one is due. Each ends when the
#: next begins, so a late start sends one reminder instead of three.
REMINDERS = {
    "reminder_3": timedelta(days=3),
    "reminder_1": timedelta(days=1),
    "reminder_0": timedelta(hours=8),
}
#: Kinds that ask for a payment before the relays go off.
_REQUESTS = ("invoice_due", "payment_failed", "payment_link", *REMINDERS)
#: Kinds that apply only while the invoice is unpaid.
_UNPAID = (*_REQUESTS, "payment_disputed", "suspended")
#: Kinds about a suspension: sent again when the deadline has moved.
_DEADLINE = (*REMINDERS, "suspended", "reactivated")
#: Kinds that are rendered again while unsent, if the facts have changed.
_REFRESHED = (*_UNPAID, "reactivated")
PaidBy = InvoiceCollection.PaidBy
#: What has paid, for the notice of a payment; credit is no payment.
_PAID_WITH = {
    PaidBy.WALLET: "your wallet has paid",
    PaidBy.CARD: "we have charged your card for",
    PaidBy.LIGHTNING: "a Lightning payment has paid",
    PaidBy.ELSEWHERE: "a payment that Stripe has recorded has paid",
}
#: The token holds the time at which it was signed, so it differs at each rendering.
_TOKEN = re.compile(r"/pay/\S+")


def notify_invoice_due(collection: InvoiceCollection) -> Notice:
    """Ask for payment, with the wallet's error if the wallet was tried first."""
    return _notify(collection, "invoice_due")


def notify_payment_failed(collection: InvoiceCollection) -> Notice:
    """Report that the card was refused, and why."""
    return _notify(collection, "payment_failed")


def notify_payment_disputed(collection: InvoiceCollection) -> Notice:
    """Report that the bank took a payment back, and how to pay again."""
    return _notify_again(collection, "payment_disputed")


def notify_payment_link(collection: InvoiceCollection) -> Notice:
    """Send the payment link, at most once a day."""
    last = Notice.objects.filter(
        tenant_id=collection.tenant_id, kind="payment_link", subject=collection.pk
    ).first()
    if last is not None and last.created_at > timezone.now() - _LINK_INTERVAL:
        # If it was dropped, it starts again.
        return _notify(collection, "payment_link")
    return _notify_again(collection, "payment_link")


def notify_reminder(collection: InvoiceCollection, kind: str) -> Notice:
    """Send a reminder; drop earlier ones that are still unsent."""
    _drop(collection, [reminder for reminder in REMINDERS if reminder != kind])
    return _notify(collection, kind)


def notify_suspended(collection: InvoiceCollection) -> Notice:
    """Report that the relays are off because of this invoice."""
    _drop(collection, [*REMINDERS, "invoice_due", "reactivated"])
    return _notify_again(collection, "suspended")


def was_notified_of_suspension(collection: InvoiceCollection) -> bool:
    """Return whether the last suspension notice named this invoice."""
    sent = Notice.objects.filter(tenant_id=collection.tenant_id, kind="suspended")
    last = sent.exclude(state=Notice.State.DROPPED).order_by("-created_at").first()
    return last is not None and last.subject == collection.pk


def was_just_notified(tenant: Tenant) -> bool:
    """Return whether a suspension notice was created within a day."""
    recent = Notice.objects.filter(created_at__gt=timezone.now() - timedelta(days=1))
    wanted = recent.exclude(state=Notice.State.DROPPED)
    return wanted.filter(tenant=tenant, kind="suspended").exists()


def notify_reactivated(collection: InvoiceCollection) -> Notice:
    """Report that the relays are on again, with the open amount if there is one."""
    return _notify_again(collection, "reactivated")


def notify_wallet_trouble(collection: InvoiceCollection, problem: str) -> Notice:
    """Report a problem that keeps the wallet from paying the next invoice."""
    title, text = render(
        "wallet_trouble",
        {**invoice_context(collection), "sentence": shorten(problem)},
    )
    return notify(
        tenant_id=collection.tenant_id,
        kind="wallet_trouble",
        subject=collection.pk,
        title=title,
        text=text,
    )


def notify_overpayment(credit: Credit) -> Notice:
    """Report that more money arrived than was due, and that it is credited."""
    amount = format_amount(credit.amount_cents, credit.currency)
    is_closed = "yes" if credit.tenant.closed_at else ""
    context = {"amount": amount, "is_closed": is_closed}
    title, text = render("surplus_credited", context)
    return notify(
        tenant_id=credit.tenant_id,
        kind="surplus_credited",
        subject=f"credit {credit.pk}",
        title=title,
        text=text,
    )


def notify_paid(collection: InvoiceCollection, payer: PaidBy) -> Notice | None:
    """Report a payment to a tenant that wants to know of each one."""
    if not collection.tenant.payment_notices or payer not in _PAID_WITH:
        return None
    amount = format_amount(collection.amount_paid_cents, collection.currency)
    paid_with = _PAID_WITH[payer]
    if payer == PaidBy.CARD and was_bank_debited(collection.pk):
        paid_with = "we have debited your bank account for"
    context = {"paid_with": paid_with, "amount": amount}
    title, text = render("payment_received", invoice_context(collection) | context)
    return notify(
        tenant_id=collection.tenant_id,
        kind="payment_received",
        subject=collection.pk,
        title=title,
        text=text,
    )


def notify_paused(tenant: Tenant, at: datetime) -> Notice:
    """Report that the relays are off because the subscription is paused at Stripe."""
    return _notify_of_pause(tenant, "subscription_paused", at)


def notify_resumed(tenant: Tenant, at: datetime) -> Notice:
    """Report that the relays are on again after a pause."""
    return _notify_of_pause(tenant, "subscription_resumed", at)


def drop_paused_notice(tenant: Tenant, at: datetime) -> int:
    """Drop the notice of a pause that is over, if it is still unsent."""
    kinds, subject = ["subscription_paused"], _pause_subject(at)
    return drop_notices(tenant_id=tenant.pk, kinds=kinds, subject=subject)


def drop_unpaid_notices(collection: InvoiceCollection) -> int:
    """Drop the unsent notices of an invoice that is no longer unpaid."""
    return _drop(collection, _UNPAID)


def refresh_unsent(tenant: Tenant, *, is_suspended: bool) -> None:
    """Drop unsent notices that are no longer true; render outdated ones again."""
    unsent = Notice.objects.unsent().filter(tenant=tenant)
    invoices = InvoiceCollection.objects.in_bulk([notice.subject for notice in unsent])
    for notice in unsent:
        collection = invoices.get(notice.subject)
        if collection is None:
            continue
        if not _still_applies(notice, tenant, collection, is_suspended):
            _drop(collection, [notice.kind])
        elif _is_outdated(notice, collection):
            _drop(collection, [notice.kind])
            _notify(collection, notice.kind)


def reset_deadline_notices(collection: InvoiceCollection) -> None:
    """Let reminders and suspension notices be sent again: the deadline has moved."""
    for kind in _DEADLINE:
        _archive(collection, kind)


def _is_outdated(notice: Notice, collection: InvoiceCollection) -> bool:
    """Return whether an unsent notice would read differently today."""
    is_sent = notice.dm_sent_at or notice.email_sent_at
    is_waiting = notice.state == Notice.State.WAITING
    if is_sent or not is_waiting or notice.kind not in _REFRESHED:
        return False
    title, text = invoice_notice(collection, notice.kind)
    return _without_token(title, text) != _without_token(notice.title, notice.text)


def _without_token(*texts: str) -> list[str]:
    return [_TOKEN.sub("", text) for text in texts]


def _still_applies(
    notice: Notice, tenant: Tenant, collection: InvoiceCollection, is_suspended: bool
) -> bool:
    suspend_at, now = collection.suspend_at, timezone.now()
    is_overdue = suspend_at is not None and suspend_at <= now
    if notice.kind == "reactivated":
        return not is_suspended
    if notice.kind == "wallet_trouble":
        return bool(tenant.nwc_error)
    if notice.kind in _UNPAID and not collection.is_unpaid:
        return False
    if notice.kind in _REQUESTS and is_being_paid(collection):
        return False
    if notice.kind in REMINDERS:
        return not tenant.dunning_exempt and not is_overdue
    if notice.kind == "suspended":
        return not tenant.dunning_exempt and is_overdue
    return True


def _notify_again(collection: InvoiceCollection, kind: str) -> Notice:
    """Send a notice that one invoice may cause repeatedly."""
    _archive(collection, kind)
    return _notify(collection, kind)


def _notify_of_pause(tenant: Tenant, kind: str, at: datetime) -> Notice:
    title, text = render(kind, {"at": format_time(at, tenant)})
    subject = _pause_subject(at)
    return notify(
        tenant_id=tenant.pk, kind=kind, subject=subject, title=title, text=text
    )


def _pause_subject(at: datetime) -> str:
    # Each pause has its own notices.
    return f"pause {at.isoformat()}"


def _notify(collection: InvoiceCollection, kind: str) -> Notice:
    title, text = invoice_notice(collection, kind)
    return notify(
        tenant_id=collection.tenant_id,
        kind=kind,
        subject=collection.pk,
        title=title,
        text=text,
    )


def _archive(collection: InvoiceCollection, kind: str) -> None:
    """Give an old notice another subject: a kind is sent only once per subject."""
    _drop(collection, [kind])
    old = Notice.objects.filter(
        tenant_id=collection.tenant_id, kind=kind, subject=collection.pk
    ).first()
    if old is not None:
        subject = f"{collection.pk} {old.created_at.isoformat()}"
        Notice.objects.filter(pk=old.pk).update(subject=subject)


def _drop(collection: InvoiceCollection, kinds: Collection[str]) -> int:
    return drop_notices(
        tenant_id=collection.tenant_id, kinds=kinds, subject=collection.pk
    )
