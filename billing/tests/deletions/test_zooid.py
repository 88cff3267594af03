"""Suspension, warning and deletion of a relay that a zooid serves."""

import pytest

from billing.tests.deletions.conftest import Suspended, accept_notices
from relays.clients.nip11 import fetch_document
from relays.services.end_of_life.dates import Step
from relays.services.lifecycle import create_relay
from relays.services.provisioning import sync
from relays.services.provisioning.sync import sync_relay

pytestmark = pytest.mark.django_db


def test_deleted_relay_is_gone_from_zooid_and_its_name_is_free(
    clock, zooid, settings, monkeypatch, priced_plans
):
    monkeypatch.setattr(sync, "pause", lambda seconds: zooid.reload())
    relay = Suspended(clock)
    host = f"nest.{settings.RELAY_DOMAIN}"
    sync_relay(relay_id=relay.pk)
    assert zooid.relays[str(relay.pk)]["inactive"]

    for day in (30, 53, 60):
        step = relay.review(day)
        accept_notices()
        sync_relay(relay_id=relay.pk)

    assert step == Step.DELETE
    assert zooid.relays == {}
    next_relay = create_relay(
        tenant_id=Suspended(clock, "other").tenant.pk, subdomain="nest", plan_id="free"
    )
    sync_relay(relay_id=next_relay.pk)
    document = fetch_document(host)
    assert document and document.pubkey == next_relay.tenant_id
