"""Telling tenants something, each thing once, whatever crashes or is away."""

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
from tenants.services.emails import new_message_id, send_email

logger = structlog.get_logger(__name__)

State = Notice.State
#: How long one delivery may take: all its time-outs together, and some more.
_HOLD = timedelta(minutes=3)


def notify(*, tenant_id: str, kind: str, subject: str, title: str, text: str) -> Notice:
    """Have a tenant told something, in the transaction of what it tells of.

    The text is the whole message; the title heads the e-mail. Asked again about the
    same subject it changes nothing, unless the notice was dropped: then it is as good
    as a new one. Returns the notice. Raises Invalid for what cannot be sent.
    """
    key = {"tenant_id": tenant_id, "kind": kind, "subject": subject}
    said = {"title": " ".join(title.split()), "text": text}
    new = Notice(**key, **said)
    validate_fields(new, ("kind", "subject", *said))
    with transaction.atomic():
        notice: Notice
        notice, created = _locked().get_or_create(**key, defaults=said)
        if not created:
            if notice.state != State.DROPPED:
                return notice
            new.pk = notice.pk
            new.save(force_update=True)
            notice = new
        notice.enqueue()
    return notice


def drop_notices(*, tenant_id: str, kinds: Collection[str], subject: str) -> int:
    """Drop what was not sent yet, since it is no longer true; return how many."""
    with transaction.atomic():
        rows = _locked().unsent().filter(tenant_id=tenant_id, subject=subject)
        keys = [notice.pk for notice in rows.filter(kind__in=kinds).order_by("pk")]
        return Notice.objects.filter(pk__in=keys).update(
            state=State.DROPPED, dropped_at=timezone.now(), enqueued_at=None
        )


def send_again(*, notice_id: int) -> bool:
    """Let a notice that was given up wait anew; False if it is not such a one."""
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
    """Try every way to the tenant that is still open; return the notice as it is then.

    Whether it is still to be sent is looked at again right before each way is taken.
    A way that fails keeps no other from being tried. Raises what only a defect can.
    """
    notice = _hold(notice_id)
    if notice is not None:
        ways = (_send_message, _send_email)
        errors = [error for way in ways if (error := _try(way, notice))]
        _conclude(notice, errors)
        for error in errors:
            if not isinstance(error, CaravelError):
                raise error
    return Notice.objects.get(pk=notice_id)


def _hold(notice_id: int) -> Notice | None:
    """Claim a notice, and store what is sent; None if another has it or it is done.

    A claim whose worker was killed ends by itself.
    """
    now = timezone.now()
    with transaction.atomic():
        notice: Notice = _locked().select_related("tenant").get(pk=notice_id)
        is_held = notice.held_until is not None and notice.held_until > now
        if notice.state != State.WAITING or is_held:
            return None
        notice.held_until = now + _HOLD
        notice.wrap = notice.wrap or _wrap(notice)
        notice.message_id = notice.message_id or new_message_id()
        Notice.objects.filter(pk=notice.pk).update(
            held_until=notice.held_until, wrap=notice.wrap, message_id=notice.message_id
        )
    return notice


def _wrap(notice: Notice) -> dict[str, object]:
    wrap = wrap_message(settings.ROBOT_SECRET, notice.tenant_id, notice.text)
    return dict(json.loads(wrap.to_json()))


def _try(way: Callable[[Notice], None], notice: Notice) -> Exception | None:
    """Take one way; return what went wrong, so that the other is taken all the same."""
    try:
        way(notice)
    except Exception as exc:  # a defect too must not keep the other way shut
        logger.warning("notice_not_delivered", notice=notice.pk, error=str(exc))
        return exc
    return None


def _send_message(notice: Notice) -> None:
    if notice.dm_sent_at is not None:
        return
    sent = send_message(
        notice.wrap,
        notice.tenant_id,
        tries=notice.failures,
        is_wanted=partial(_is_wanted, notice),
    )
    if sent is not None:
        _held(notice).update(dm_sent_at=timezone.now(), relays=sent.relays)
        _note(notice, sent.note)


def _send_email(notice: Notice) -> None:
    address = notice.tenant.email if settings.EMAIL_ENABLED else ""
    if not address or notice.email_sent_at is not None or not _is_wanted(notice):
        return
    try:
        send_email(
            to=address,
            title=notice.title,
            text=notice.text,
            message_id=notice.message_id,
        )
    except AddressRefused as exc:
        _note(notice, exc.message)
    else:
        _held(notice).update(email_sent_at=timezone.now())


def _note(notice: Notice, sentence: str) -> None:
    """Add what support should know, once, whatever the number of tries."""
    if sentence and sentence not in notice.note:
        notice.note = f"{notice.note} {sentence}".strip()[:240]
        _held(notice).update(note=notice.note)


def _conclude(notice: Notice, errors: list[Exception]) -> None:
    """Note that all is sent, or when it is to be tried again, and let go of it."""
    now = timezone.now()
    columns: dict[str, object] = {
        **NO_FAILURE,
        "state": State.SENT,
        "sent_at": now,
        "enqueued_at": None,
    }
    if errors:
        columns = failure_columns(_one(errors), failures=notice.failures, now=now)
        if now >= notice.give_up_at:
            columns["state"] = State.FAILED
            logger.error("notice_given_up", notice=notice.pk)
    _held(notice).waiting().update(**columns)
    _held(notice).update(held_until=None)


def _one(errors: list[Exception]) -> Exception:
    return errors[0] if len(errors) == 1 else NotDelivered(" ".join(map(str, errors)))


def _is_wanted(notice: Notice) -> bool:
    """Return whether it is still to be sent, by us; waits for who is changing that."""
    with transaction.atomic():
        still = _held(notice).waiting().select_for_update()
        return bool(still.values_list("pk"))


def _held(notice: Notice) -> NoticeQuerySet:
    """Return the row, as long as it is the one that was claimed, by this worker."""
    return Notice.objects.filter(pk=notice.pk, held_until=notice.held_until)


def _locked() -> NoticeQuerySet:
    return Notice.objects.select_for_update(of=("self",))
