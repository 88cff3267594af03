"""Notices to the owner of a suspended relay; each has one per date."""

from datetime import datetime

from django.conf import settings

from relays.models import Relay
from relays.services.exports.links import export_url
from tenants.models import Notice
from tenants.services.notice_texts import format_date, format_time, render
from tenants.services.notices import drop_notices, notify

OFFER, WARNING, DELETED = "relay_export_offer", "relay_deletion", "relay_deleted"


def offer_export(relay: Relay) -> Notice:
    """Offer the owner an export, and name the date of the deletion."""
    return _notify(relay, OFFER, relay.export_offered_at)


def warn_of_deletion(relay: Relay) -> Notice:
    """Announce the date of the deletion again, shortly before it."""
    return _notify(relay, WARNING, relay.deletion_at)


def report_deletion(relay: Relay) -> Notice:
    """Report that a relay was deleted; call it while the row still has its dates."""
    return _notify(relay, DELETED, relay.deletion_at)


def accepted_at(notice: Notice) -> datetime | None:
    """Return when a relay or a mail server first accepted a notice."""
    times = (notice.dm_sent_at, notice.email_sent_at)
    return min((time for time in times if time), default=None)


def drop(notice: Notice) -> None:
    drop_notices(
        tenant_id=notice.tenant_id, kinds=[notice.kind], subject=notice.subject
    )


def drop_offer(relay: Relay) -> None:
    subject = _subject(relay, relay.export_offered_at)
    drop_notices(tenant_id=relay.tenant_id, kinds=[OFFER], subject=subject)


def _notify(relay: Relay, kind: str, date: datetime | None) -> Notice:
    title, text = render(kind, _context(relay, kind))
    return notify(
        tenant_id=relay.tenant_id,
        kind=kind,
        subject=_subject(relay, date),
        title=title,
        text=text,
    )


def _subject(relay: Relay, date: datetime | None) -> str:
    # A suspension has its own notices, and so has a date that was moved.
    return f"relay {relay.pk} {date.isoformat() if date else ''}"


def _context(relay: Relay, kind: str) -> dict[str, str]:
    tenant, since, end = relay.tenant, relay.delinquent_since, relay.deletion_at
    # One that never ran has no events.
    has_export = kind != DELETED and relay.first_served_at is not None
    return {
        # The title has 200 characters, fewer than a host may have.
        "name": relay.subdomain,
        "host": f"{relay.subdomain}.{settings.RELAY_DOMAIN}",
        "off_since": format_date(since, tenant) if since else "",
        "deletion_at": format_time(end, tenant) if end else "",
        "link": export_url(relay) if has_export else "",
    }
