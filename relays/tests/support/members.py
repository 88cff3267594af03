"""Relays with members at the sandbox's zooid."""

from typing import Any

from django.utils import timezone

from caravel.nostr import pubkey_of
from relays.clients.zooid import Zooid
from relays.models import Relay
from relays.tests.factories import RelayFactory
from sandbox.zooid import Zooid as SandboxZooid


def served_relay(zooid: SandboxZooid, people: int, **fields: Any) -> Relay:
    """Create a relay that zooid serves as configured, with its roles as members."""
    relay: Relay = RelayFactory(first_served_at=timezone.now(), **fields)
    roles = {"admin": relay.admins, "moderator": relay.moderators}
    config = {
        "host": f"{relay.subdomain}.relays.test",
        "schema": f"r{relay.pk.hex}",
        "secret": relay.secret.reveal(),
        "info": {"pubkey": relay.tenant_id},
        "roles": {name: {"pubkeys": keys} for name, keys in roles.items()},
    }
    Zooid().create_relay(relay.pk, config)
    admit(zooid, relay, people)
    zooid.requests.clear()
    Relay.objects.filter(pk=relay.pk).update(synced=True)
    return relay


def admit(zooid: SandboxZooid, relay: Relay, people: int) -> None:
    """Make a relay have so many people, beside those that do not count."""
    own_key = pubkey_of(relay.secret.reveal())
    others = [own_key, relay.tenant_id, *relay.admins, *relay.moderators]
    names = [pubkey_of(f"{number:064x}") for number in range(1_000, 1_000 + people)]
    zooid.set_members(relay.pk, [*others, *names])
