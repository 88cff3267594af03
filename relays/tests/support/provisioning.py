"""Relays, and the zooid that serves them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import time_machine
from django.utils import timezone

from relays.clients.nip11 import RelayDocument, fetch_document
from relays.models import Relay, RelaySync
from relays.services.provisioning.configuration import public_host
from relays.services.provisioning.probes import probe_relays
from relays.services.provisioning.sync import SyncOutcome, sync_relay
from relays.tests.factories import RelayFactory
from sandbox.zooid import Zooid
from tenants.models import Activity


class Provisioning:
    """Shortcuts of tests."""

    def __init__(self, zooid: Zooid) -> None:
        self.zooid = zooid

    def served_relay(self, **fields: Any) -> Relay:
        """Return a new relay that was synced."""
        relay: Relay = RelayFactory(**fields)
        assert self.sync(relay) == SyncOutcome.IN_SYNC
        self.zooid.requests.clear()
        return Relay.objects.get(pk=relay.pk)

    def sync(self, relay: Relay, *, after: float = 0.0) -> SyncOutcome:
        """Run a sync, some seconds later."""
        with time_machine.travel(timezone.now() + timedelta(seconds=after)):
            return sync_relay(relay_id=relay.pk)

    def settle(self, relay: Relay, *, after: float = 0.0) -> SyncOutcome:
        """Run a sync some seconds later, again while it waits for what zooid shows."""
        for seconds in range(0, 600, 20):
            outcome = self.sync(relay, after=after + seconds)
            if outcome != SyncOutcome.WAITING:
                break
        return outcome

    def probe(self, *relays: Relay, after: float = 0.0) -> None:
        with time_machine.travel(timezone.now() + timedelta(seconds=after)):
            probe_relays(relay_ids=[relay.pk for relay in relays])

    def row(self, relay: Relay) -> RelaySync:
        sync: RelaySync = RelaySync.objects.get(pk=relay.pk)
        return sync

    def document(self, relay: Relay) -> RelayDocument | None:
        """Return the public document under the relay's present name."""
        return fetch_document(public_host(Relay.objects.get(pk=relay.pk)))

    def config(self, relay: Relay) -> dict[str, Any]:
        """Return the configuration at zooid."""
        return self.zooid.relays[str(relay.pk)]

    @property
    def methods(self) -> list[str]:
        """Methods of the writes to zooid."""
        return [each.method for each in self.zooid.requests if each.method != "GET"]

    def activities(self, relay: Relay) -> list[str]:
        """Return the activities of syncs."""
        types = ("complete_relay_sync", "fail_relay_sync")
        rows = Activity.objects.filter(subject_id=str(relay.pk), type__in=types)
        return list(rows.order_by("pk").values_list("type", flat=True))
