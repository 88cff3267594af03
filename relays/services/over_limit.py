"""Relays with more people than their plan allows: reported, and not cut off (ADR 42).

An episode lasts until the relay fits its plan again; each is reported once.
"""

from datetime import datetime

from django.conf import settings
from django.utils import timezone

from caravel.core.alerts import alert_support
from relays.models import Relay
from tenants.services.notice_texts import render
from tenants.services.notices import drop_notices, notify

KIND = "members_over_limit"


def record_people(relay: Relay, people: int) -> None:
    """Store the number of people of a locked relay; begin or end an episode."""
    relay.people, relay.people_counted_at = people, timezone.now()
    Relay.objects.filter(pk=relay.pk).update(
        people=relay.people, people_counted_at=relay.people_counted_at
    )
    if relay.plan.allows(people):
        end_episode(relay)
    elif relay.over_limit_since is None:
        _begin_episode(relay)


def end_if_it_fits(relay: Relay) -> None:
    """End the episode of a locked relay whose plan has changed."""
    if relay.plan.allows(relay.people or 0):
        end_episode(relay)


def end_episode(relay: Relay) -> None:
    """End the episode of a locked relay, if there is one; drop an unsent notice."""
    if relay.over_limit_since is None:
        return
    drop_notices(tenant_id=relay.tenant_id, kinds=[KIND], subject=_subject(relay))
    _set_since(relay, None)


def _begin_episode(relay: Relay) -> None:
    _set_since(relay, relay.people_counted_at)
    context = {
        "host": f"{relay.subdomain}.{settings.RELAY_DOMAIN}",
        "people": str(relay.people),
        "limit": str(relay.plan.members),
        "plan": relay.plan.name,
    }
    title, text = render(KIND, context)
    notify(
        tenant_id=relay.tenant_id,
        kind=KIND,
        subject=_subject(relay),
        title=title,
        text=text,
    )
    alert_support(
        KIND,
        f"{relay} has {relay.people} people, its plan allows {relay.plan.members}.",
        tenant=relay.tenant_id,
        relay=str(relay.pk),
    )


def _set_since(relay: Relay, since: datetime | None) -> None:
    relay.over_limit_since = since
    Relay.objects.filter(pk=relay.pk).update(over_limit_since=since)


def _subject(relay: Relay) -> str:
    return f"relay {relay.pk} {relay.over_limit_since:%Y-%m-%dT%H:%M:%S.%f}"
