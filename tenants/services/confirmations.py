"""Confirmation of e-mail addresses by a link: until then it is all that they get.

A mailbox gets one link a week at most, whoever asks for it, and a tenant causes only a
few: else strangers could have us write to anybody, as often as they like.
"""

import unicodedata
from contextlib import suppress
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from caravel.core.db.work_items import NO_FAILURE, error_columns, failure_columns
from caravel.core.seller import get_seller
from tenants.exceptions import AddressRefused, NotDelivered
from tenants.models import EmailConfirmation, EmailConfirmationQuerySet, Tenant
from tenants.services.email_links import CONFIRMATION_LIFETIME, confirmation_url
from tenants.services.emails import new_message_id, send_email

logger = structlog.get_logger(__name__)

State = EmailConfirmation.State
#: Pause between two links to one mailbox. A link is valid as long.
PAUSE = CONFIRMATION_LIFETIME
#: Links within one pause to all addresses that one tenant enters.
MAX_PER_TENANT = 3
#: Duration of a worker's claim: longer than the time-out of the mail server.
_CLAIM_DURATION = timedelta(minutes=3)
#: Delay of a link that lets one go first. That one is due, too.
_TURN = timedelta(minutes=5)
#: Domains of one provider: https://support.google.com/mail/answer/10313
_SAME_DOMAINS = {"googlemail.com": "gmail.com"}
#: Characters of a local part that are only notation (RFC 5321, section 4.1.2), or that
#: some servers ignore.
_IGNORED = str.maketrans("", "", '."\\')
_TEXT = """\
Hello, the account {npub} wants notices about its relays sent to you.

If the account is yours, please confirm the address on this page within a week:
{url}

If it is not, you do not need to do anything: we send nothing else to this address.

{seller}"""


def request_confirmation(tenant: Tenant) -> None:
    """Enqueue a link to the address of a locked tenant, unless it has a valid one."""
    row, created = EmailConfirmation.objects.select_for_update().get_or_create(
        tenant=tenant,
        mailbox=mailbox_of(tenant.email),
        defaults={"address": tenant.email},
    )
    now = timezone.now()
    is_same = row.address == tenant.email
    is_valid = row.state == State.SENT and _next_at(row) > now
    if not created:
        if is_same and (is_valid or row.state == State.WAITING):
            return
        row.address, row.state, row.message_id = tenant.email, State.WAITING, ""
        row.asked_at, row.failures = now, 0
        row.save()
    row.enqueue()


def send_confirmation(*, confirmation_id: int) -> EmailConfirmation:
    """Send a waiting link as soon as its mailbox may get one; return the row."""
    row = _claim(confirmation_id)
    if row is not None:
        columns = _send(row)
        # By the claim: one that has expired is another worker's now.
        claimed = EmailConfirmation.objects.filter(pk=row.pk, held_until=row.held_until)
        claimed.update(held_until=None, **columns)
    return EmailConfirmation.objects.get(pk=confirmation_id)


def mailbox_of(address: str) -> str:
    """Return an address without capitals, dots, quotes and tags.

    Mail servers differ in what they ignore. If two people's addresses become one, the
    second only waits a week.
    """
    folded = unicodedata.normalize("NFKC", address).casefold()
    local, _, domain = folded.rpartition("@")
    with suppress(UnicodeError):  # no name of the DNS: it stays as it is
        domain = domain.encode("idna").decode()
    name = local.partition("+")[0].translate(_IGNORED)
    return f"{name or local}@{_SAME_DOMAINS.get(domain, domain)}"[:254]


def _claim(confirmation_id: int) -> EmailConfirmation | None:
    """Claim a waiting row whose mailbox may get a link; else None."""
    now = timezone.now()
    with transaction.atomic():
        row: EmailConfirmation = EmailConfirmation.objects.get(pk=confirmation_id)
        tenant = Tenant.objects.lock(row.tenant_id)
        _lock_mailbox(row.mailbox)
        row = EmailConfirmation.objects.select_for_update().get(pk=confirmation_id)
        if row.state != State.WAITING or _is_held(row, now):
            return None
        if not _is_wanted(row, tenant):
            _update(row, state=State.DROPPED, enqueued_at=None)
            return None
        if (allowed_at := _allowed_at(row, now)) > now:
            _update(row, next_attempt_at=allowed_at, enqueued_at=None)
            return None
        row.held_until = now + _CLAIM_DURATION
        row.message_id = row.message_id or new_message_id()
        _update(row, held_until=row.held_until, message_id=row.message_id)
        row.tenant = tenant
    return row


def _lock_mailbox(mailbox: str) -> None:
    """Make tenants who ask at once for a link to one mailbox wait for each other."""
    # Not by its rows: strangers can add any number, and each claim would lock them all.
    with connection.cursor() as cursor:
        lock = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
        cursor.execute(lock, [f"mailbox {mailbox}"])


def _is_wanted(row: EmailConfirmation, tenant: Tenant) -> bool:
    is_open = tenant.closed_at is None and not tenant.email_confirmed
    return is_open and tenant.email == row.address


def _allowed_at(row: EmailConfirmation, now: datetime) -> datetime:
    """Return when the mailbox may get this link."""
    if not settings.EMAIL_ENABLED:
        return now + timedelta(days=1)
    of_mailbox = _recent(now).filter(mailbox=row.mailbox)
    ends = [_next_at(each) for each in of_mailbox if each.sent_at]
    ends += [each.held_until for each in of_mailbox if each.held_until]
    ends += _ends_of_tenant(row, now)
    if (latest := max(ends, default=now)) > now:
        return latest
    first = _first_in_turn(row, now)
    return now if first in (None, row) else now + _TURN


def _recent(now: datetime) -> EmailConfirmationQuerySet:
    """Return links that were sent within the last pause, or are being sent."""
    return EmailConfirmation.objects.filter(
        Q(sent_at__gt=now - PAUSE) | Q(held_until__gt=now)
    )


def _ends_of_tenant(row: EmailConfirmation, now: datetime) -> list[datetime]:
    """Return from when its tenant may cause another link: one time, or none."""
    ends = [
        # One that is being sent counts: workers send several at once.
        now + PAUSE if _is_held(each, now) else _next_at(each)
        for each in _recent(now).filter(tenant=row.tenant_id)
    ]
    return sorted(ends, reverse=True)[MAX_PER_TENANT - 1 : MAX_PER_TENANT]


def _first_in_turn(row: EmailConfirmation, now: datetime) -> EmailConfirmation | None:
    """Return the link that the mailbox gets first of those that are due.

    Whoever has paid comes first, then who has asked first: else somebody who asks again
    at the end of each week would keep the owner from ever getting a link.
    """
    due = EmailConfirmation.objects.waiting().filter(
        mailbox=row.mailbox,
        next_attempt_at__lte=now,
        tenant__email=F("address"),
        tenant__email_confirmed_at=None,
        tenant__closed_at=None,
    )
    paid = F("tenant__first_paid_at").asc(nulls_last=True)
    return due.order_by(paid, "asked_at", "pk").first()


def _next_at(row: EmailConfirmation) -> datetime:
    return (row.sent_at or row.asked_at) + PAUSE


def _is_held(row: EmailConfirmation, now: datetime) -> bool:
    # The claim of a killed worker expires; it may have sent the same Message-ID.
    return row.held_until is not None and row.held_until > now


def _send(row: EmailConfirmation) -> dict[str, object]:
    """Send a claimed link; return the columns that record the result."""
    text = _TEXT.format(
        npub=row.tenant.npub,
        url=confirmation_url(row.tenant),
        seller=get_seller().signature,
    )
    try:
        send_email(
            to=row.address,
            title=f"{settings.ROBOT_NAME}: please confirm your e-mail address",
            text=text,
            message_id=row.message_id,
        )
    except AddressRefused as exc:
        # It counts as sent: nobody may have us ask the mail server again and again.
        now = timezone.now()
        return _ended(State.REFUSED, now) | error_columns(exc)
    except NotDelivered as exc:
        now = timezone.now()
        columns = failure_columns(exc, failures=row.failures, now=now)
        given_up = {"state": State.REFUSED} if now >= row.asked_at + PAUSE else {}
        return columns | given_up
    logger.info("confirmation_sent", tenant=row.tenant_id)
    return _ended(State.SENT, timezone.now())


def _ended(state: State, now: datetime) -> dict[str, object]:
    return {**NO_FAILURE, "state": state, "sent_at": now, "enqueued_at": None}


def _update(row: EmailConfirmation, **columns: object) -> None:
    EmailConfirmation.objects.filter(pk=row.pk).update(**columns)
