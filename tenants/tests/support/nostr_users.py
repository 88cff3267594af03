"""Nostr users that publish relay lists and read their messages."""

from typing import Any

from django.utils import timezone
from nostr_sdk import Event as SdkEvent
from nostr_sdk import Keys, UnwrappedGift

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.events import Event, sign_event
from caravel.nostr.relays.dial import Endpoint
from caravel.nostr.relays.pool import get_pool
from sandbox.common import nostr
from sandbox.nostr import SandboxRelay
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory


class NostrUser:
    """Key pair with the relay lists and messages of its owner."""

    def __init__(self) -> None:
        self.secret_key = generate_secret_key()
        self.pubkey = pubkey_of(self.secret_key)

    def tenant(self, **fields: Any) -> Tenant:
        """Create the user's tenant; its e-mail address, if any, is confirmed."""
        if "email" in fields:
            fields.setdefault("email_confirmed_at", timezone.now())
        tenant: Tenant = TenantFactory(pubkey=self.pubkey, **fields)
        return tenant

    def publish(self, relay: SandboxRelay, kind: int, **fields: Any) -> Event:
        event = sign_event(self.secret_key, kind=kind, **{"content": "", **fields})
        endpoint = Endpoint(relay.url, private_allowed=True)
        assert get_pool().publish([endpoint], event, timeout=60)
        return event

    def writes_to(self, relay: SandboxRelay, *, announced_at: SandboxRelay) -> None:
        self.lists_relays(10002, [relay.url], at=announced_at)

    def reads_messages_at(
        self, relay: SandboxRelay, *, announced_at: SandboxRelay, **fields: Any
    ) -> None:
        self.lists_relays(10050, [relay.url], at=announced_at, **fields)

    def lists_relays(
        self, kind: int, urls: list[str], *, at: SandboxRelay, **fields: Any
    ) -> None:
        """Publish a list of relays: to write to (10002), or for messages (10050)."""
        name = "r" if kind == 10002 else "relay"
        self.publish(at, kind, tags=[(name, url) for url in urls], **fields)

    def read(self, wrap: nostr.Event) -> UnwrappedGift:
        """Open a gift wrap with another implementation (rust-nostr)."""
        event = SdkEvent.from_json(wrap.to_json())
        return UnwrappedGift.from_gift_wrap(Keys.parse(self.secret_key), event)

    def messages(self, relay: SandboxRelay) -> list[str]:
        """Return the texts of the messages that a relay has for this user."""
        wraps = [w for w in relay.stored(1059) if w.values("p") == [self.pubkey]]
        return [self.read(wrap).rumor().content() for wrap in wraps]
