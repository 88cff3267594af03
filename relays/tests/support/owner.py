"""The owner of a relay, who edits at the relay and has debts."""

import json
from typing import Any

import requests

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.http_auth import authorization
from relays.models import Relay
from relays.services.provisioning.configuration import public_host
from relays.services.provisioning.queue import mark_stale
from relays.tests.support.provisioning import Provisioning
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

_KEY = generate_secret_key()


def served_relay(provisioning: Provisioning) -> Relay:
    """Return a relay whose owner's key is known here."""
    return provisioning.served_relay(
        tenant=TenantFactory(pubkey=pubkey_of(_KEY)),
        name="Paint",
        description="Painters.",
    )


def edit(provisioning: Provisioning, relay: Relay, word: str, text: str) -> None:
    """Change a word at the relay, as the owner's client does (NIP-86)."""
    host = public_host(Relay.objects.get(pk=relay.pk))
    call = {"method": f"changerelay{word}", "params": [text]}
    body = json.dumps(call).encode()
    # The URL as khatru guesses it from the host.
    url = f"http://{host}" if ":" in host else f"https://{host}"
    headers = {
        "Host": host,
        "Content-Type": "application/nostr+json+rpc",
        "Authorization": authorization(_KEY, url=url, method="POST", body=body),
    }
    response = requests.post(
        provisioning.zooid.url, data=body, headers=headers, timeout=60
    )
    assert response.json() == {"result": True}


def set_past_due(relay: Relay, since: Any) -> None:
    """Record a debt, or that it was paid, as billing does."""
    Tenant.objects.filter(pk=relay.tenant_id).update(past_due_at=since)
    mark_stale(relay_id=relay.pk)
