"""Confirmation of e-mail addresses by a link: until then it is all that they get.

A mailbox gets one link a week at most, whoever asks for it, and a tenant causes only a
few: else strangers could have us write to anybody, as often as they like.
"""

import unicodedata
from contextlib import suppress
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from caravel.core.db.work_items import NO_FAILURE, error_columns, failure_columns
from caravel.core.seller import get_seller
from tenants.exceptions import AddressRefused, NotDelivered
from tenants.models import EmailConfirmation, Tenant
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
        # All of the mailbox: two tenants who ask at once wait for each other.
        rows = EmailConfirmation.objects.filter(mailbox=row.mailbox).order_by("pk")
        locked = rows.select_related("tenant").select_for_update(of=("self",))
        same = {each.pk: each for each in locked}
        row = same[confirmation_id]
        if row.state != State.WAITING or _is_held(row, now):
            return None
        if not _is_wanted(row, tenant):
            _update(row, state=State.DROPPED, enqueued_at=None)
            return None
        if (allowed_at := _allowed_at(row, list(same.values()), now)) > now:
            _update(row, next_attempt_at=allowed_at, enqueued_at=None)
            return None
        row.held_until = now + _CLAIM_DURATION
        row.message_id = row.message_id or new_message_id()
        _update(row, held_until=row.held_until, message_id=row.message_id)
        row.tenant = tenant
    return row


def _is_wanted(row: EmailConfirmation, tenant: Tenant) -> bool:
    is_open = tenant.closed_at is None and not tenant.email_confirmed
    return is_open and tenant.email == row.address


def _allowed_at(
    row: EmailConfirmation, same: list[EmailConfirmation], now: datetime
) -> datetime:
    """Return when the mailbox may get this link."""
    if not settings.EMAIL_ENABLED:
        return now + timedelta(days=1)
    ends = [_next_at(each) for each in same if each.sent_at]
    ends += [each.held_until for each in same if each.held_until]
    ends += _ends_of_tenant(row, now)
    if any(_goes_first(each, row, now) for each in same):
        ends.append(now + _TURN)
    return max(ends, default=now)


def _ends_of_tenant(row: EmailConfirmation, now: datetime) -> list[datetime]:
    """Return from when its tenant may cause another link: one time, or none."""
    ends = [
        # One that is being sent counts: workers send several at once.
        now + PAUSE if _is_held(each, now) else _next_at(each)
        for each in EmailConfirmation.objects.filter(tenant=row.tenant_id)
        if each.sent_at or _is_held(each, now)
    ]
    return sorted(ends, reverse=True)[MAX_PER_TENANT - 1 : MAX_PER_TENANT]


def _goes_first(
    other: EmailConfirmation, row: EmailConfirmation, now: datetime
) -> bool:
    """Return whether another tenant's link to the mailbox is sent before this one.

    Whoever has paid goes first, then who has asked first: else somebody who asks again
    at the end of each week would keep the owner from ever getting a link.
    """
    is_due = other.state == State.WAITING and other.next_attempt_at <= now
    is_earlier = _turn(other) < _turn(row)
    return is_due and is_earlier and _is_wanted(other, other.tenant)


def _turn(row: EmailConfirmation) -> tuple[bool, datetime, int]:
    return row.tenant.first_paid_at is None, row.asked_at, row.pk


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
