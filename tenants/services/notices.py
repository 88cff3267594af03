"""Notices to tenants by private message and e-mail, sent once despite crashes."""

import json
from collections.abc import Callable, Collection
from datetime import timedelta
from functools import partial

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from caravel.core.db.work_items import NO_FAILURE, failure_columns
from caravel.core.exceptions import CaravelError
from caravel.core.validation import validate_fields
from caravel.nostr.private_messages import wrap_message
from tenants.exceptions import AddressRefused, NotDelivered
from tenants.models import Notice, NoticeQuerySet, default_give_up_at
from tenants.services.direct_messages import send_message
from tenants.services.email_links import stop_url
from tenants.services.emails import new_message_id, send_email, unsubscribe_headers

logger = structlog.get_logger(__name__)

State = Notice.State
#: Duration of a worker's claim: longer than all timeouts of one delivery together.
_CLAIM_DURATION = timedelta(minutes=3)
_FOOTER = "No more e-mails to this address: {url}"


def notify(*, tenant_id: str, kind: str, subject: str, title: str, text: str) -> Notice:
    """Create and enqueue a notice. Call in the transaction of the event it reports.

    `text` is the whole message, `title` the subject of the e-mail. There is one notice
    per tenant, kind and subject: an existing one is returned unchanged, unless it was
    dropped; then it starts again with the new text. Raises Invalid.
    """
    key = {"tenant_id": tenant_id, "kind": kind, "subject": subject}
    # One line, so that a title cannot add headers to the e-mail.
    content = {"title": " ".join(title.split()), "text": text}
    new = Notice(**key, **content)
    validate_fields(new, ("kind", "subject", *content))
    with transaction.atomic(savepoint=False):
        notice: Notice
        notice, created = _locked().get_or_create(**key, defaults=content)
        if not created:
            if notice.state != State.DROPPED:
                return notice
            # Overwrites all columns: a new event, Message-ID and deadline.
            new.pk = notice.pk
            new.save(force_update=True)
            notice = new
        notice.enqueue()
    return notice


def drop_notices(*, tenant_id: str, kinds: Collection[str], subject: str) -> int:
    """Drop unsent notices that no longer apply; return their number."""
    with transaction.atomic(savepoint=False):
        rows = _locked().unsent().filter(tenant_id=tenant_id, subject=subject)
        # Locked in the order of the primary key, so that two calls cannot deadlock.
        keys = [notice.pk for notice in rows.filter(kind__in=kinds).order_by("pk")]
        return Notice.objects.filter(pk__in=keys).update(
            state=State.DROPPED, dropped_at=timezone.now(), enqueued_at=None
        )


def resend(*, notice_id: int) -> bool:
    """Enqueue a failed notice again; returns False if it has not failed."""
    with transaction.atomic():
        notice: Notice = _locked().get(pk=notice_id)
        if notice.state != State.FAILED:
            return False
        notice.state = State.WAITING
        notice.failures = 0
        notice.give_up_at = default_give_up_at()
        notice.save()
        notice.enqueue()
    return True


def deliver_notice(*, notice_id: int) -> Notice:
    """Send a notice by each channel that has not succeeded yet; return the notice.

    An error of one channel does not prevent the other. Unexpected errors are raised
    after both were tried.
    """
    notice = _claim(notice_id)
    if notice is not None:
        channels = (_send_message, _send_email)
        errors = [e for channel in channels if (e := _try_channel(channel, notice))]
        _record_result(notice, errors)
        for error in errors:
            if not isinstance(error, CaravelError):
                raise error
    return Notice.objects.get(pk=notice_id)


def _claim(notice_id: int) -> Notice | None:
    """Claim a waiting notice for this worker; None if it is claimed or not waiting."""
    now = timezone.now()
    with transaction.atomic():
        notice: Notice = _locked().select_related("tenant").get(pk=notice_id)
        # The claim of a killed worker expires.
        is_claimed = notice.held_until is not None and notice.held_until > now
        if notice.state != State.WAITING or is_claimed:
            return None
        notice.held_until = now + _CLAIM_DURATION
        # Committed before anything is sent: after a crash the next attempt sends the
        # same event and Message-ID, so that the tenant sees one message.
        notice.wrap = notice.wrap or _wrap(notice)
        notice.message_id = notice.message_id or new_message_id()
        Notice.objects.filter(pk=notice.pk).update(
            held_until=notice.held_until, wrap=notice.wrap, message_id=notice.message_id
        )
    return notice


def _wrap(notice: Notice) -> dict[str, object]:
    wrap = wrap_message(settings.ROBOT_SECRET, notice.tenant_id, notice.text)
    return dict(json.loads(wrap.to_json()))


def _try_channel(channel: Callable[[Notice], None], notice: Notice) -> Exception | None:
    try:
        channel(notice)
    except Exception as exc:  # even a bug in one channel must not block the other
        logger.warning("notice_not_delivered", notice=notice.pk, error=str(exc))
        return exc
    return None


def _send_message(notice: Notice) -> None:
    if notice.dm_sent_at is not None:
        return
    report = send_message(
        notice.wrap,
        notice.tenant_id,
        failures=notice.failures,
        is_wanted=partial(_is_wanted, notice),
    )
    if report is not None:
        _still_claimed(notice).update(dm_sent_at=timezone.now(), relays=report.relays)
        _add_support_note(notice, report.note)


def _send_email(notice: Notice) -> None:
    tenant = notice.tenant
    # The owner of the address may have removed it while the private message was sent.
    tenant.refresh_from_db(fields=["email", "email_confirmed_at"])
    address = tenant.mail_address if settings.EMAIL_ENABLED else ""
    if tenant.email and not tenant.email_confirmed:
        _add_support_note(notice, "The e-mail address is not confirmed.")
    if not address or notice.email_sent_at is not None or not _is_wanted(notice):
        return
    try:
        send_email(
            to=address,
            title=notice.title,
            text=f"{notice.text}\n\n{_FOOTER.format(url=stop_url(tenant))}",
            message_id=notice.message_id,
            headers=unsubscribe_headers(stop_url(tenant)),
        )
    except AddressRefused as exc:
        # Not an error that is retried: no later attempt can succeed.
        _add_support_note(notice, exc.message)
    else:
        _still_claimed(notice).update(email_sent_at=timezone.now())


def _add_support_note(notice: Notice, note: str) -> None:
    if note and note not in notice.note:
        notice.note = f"{notice.note} {note}".strip()[:240]
        _still_claimed(notice).update(note=notice.note)


def _record_result(notice: Notice, errors: list[Exception]) -> None:
    """Mark the notice as sent, or schedule the next attempt, and release the claim."""
    now = timezone.now()
    columns: dict[str, object] = {
        **NO_FAILURE,
        "state": State.SENT,
        "sent_at": now,
        "enqueued_at": None,
    }
    if errors:
        columns = failure_columns(_combine(errors), failures=notice.failures, now=now)
        if now >= notice.give_up_at:
            columns["state"] = State.FAILED
            logger.error("notice_given_up", notice=notice.pk)
    # It may have been dropped meanwhile: then only the claim is released.
    _still_claimed(notice).waiting().update(**columns)
    _still_claimed(notice).update(held_until=None)


def _combine(errors: list[Exception]) -> Exception:
    return errors[0] if len(errors) == 1 else NotDelivered(" ".join(map(str, errors)))


def _is_wanted(notice: Notice) -> bool:
    """Return whether the notice is still waiting and claimed by this worker."""
    with transaction.atomic():
        # The lock waits for a transaction that is about to drop the notice.
        rows = _still_claimed(notice).waiting().select_for_update()
        return bool(rows.values_list("pk"))


def _still_claimed(notice: Notice) -> NoticeQuerySet:
    """Return the row if this worker's claim on it still exists."""
    # `notify` clears the claim of a dropped notice when it starts again.
    return Notice.objects.filter(pk=notice.pk, held_until=notice.held_until)


def _locked() -> NoticeQuerySet:
    return Notice.objects.select_for_update(of=("self",))
