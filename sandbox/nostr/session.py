"""One connection: its messages, its subscriptions and its proven keys."""

import secrets
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast

from sandbox.common.nostr import Event
from sandbox.nostr import messages
from sandbox.nostr.faulty_reply import Reply
from sandbox.nostr.filters import BadFilter, Filter, parse_filter
from sandbox.nostr.messages import AUTH_KIND, MalformedMessage, message
from sandbox.nostr.relay_core import RelayCore, Subscription

AUTH_REQUIRED = "auth-required: authenticate first"
# The maximum number of unsent bytes, before a client that does not read is dropped.
MAX_BACKLOG = 64 * 1024 * 1024


class Session:
    """A connection's state; use it on the relay's event loop only."""

    def __init__(self, core: RelayCore, connection: ServerConnection) -> None:
        self._core = core
        self._connection = connection
        self._subscriptions: dict[str, Subscription] = {}
        self._challenge = secrets.token_hex(16)
        self._is_challenged = False
        self._is_open = False
        self.pubkeys: set[str] = set()

    def open(self) -> None:
        """Register with the core."""
        self._is_open = True
        self._core.peers.add(self)
        self._core.accepted += 1
        settings = self._core.settings
        requires_auth = settings.requires_auth or settings.requires_auth_to_read
        if requires_auth and not settings.late_challenge:
            self._challenge_client()

    def close(self) -> None:
        """Unregister from the core; nothing is sent any more."""
        self._is_open = False
        self._core.peers.discard(self)
        for subscription_id in list(self._subscriptions):
            self._unsubscribe(subscription_id)

    def hang_up(self) -> None:
        """Close the connection at once, without a closing handshake."""
        self.close()
        self._connection.transport.abort()

    def receive(self, text: str | bytes) -> None:
        """Handle a client's message; answer NOTICE if it is malformed."""
        # Messages that arrived before `hang_up` are still read from the connection.
        if not self._is_open:
            return
        try:
            verb, arguments = messages.parse_message(text)
            if verb not in VERBS:
                raise MalformedMessage("only EVENT, REQ, CLOSE and AUTH are supported")
            VERBS[verb](self, arguments)
        except MalformedMessage as exc:
            self._send(message("NOTICE", f"invalid: {exc}"))

    def deliver(self, subscription: Subscription, text: str) -> None:
        """Send a message to a subscription, unless it was closed."""
        if self._subscriptions.get(subscription.id) is subscription:
            self._send(text)

    def may_read(self, event: Event) -> bool:
        """Return whether this client may get the event."""
        parties = {event.pubkey, *event.values("p")}
        is_party = bool(parties & self.pubkeys)
        return is_party or not self._core.settings.serves_own_events

    def end_subscriptions(self) -> None:
        """Close all subscriptions and send CLOSED for each."""
        for subscription_id in list(self._subscriptions):
            self._refuse(subscription_id, "error: the relay ended the subscription")

    def on_event(self, arguments: list[Any]) -> None:
        """Handle EVENT; answer OK."""
        event = messages.read_event(arguments, self._send)
        if event is None:
            return
        self._core.record_received(event)
        if self._core.settings.requires_auth and not self.pubkeys:
            self._send(message("OK", event.id, False, AUTH_REQUIRED))
            self._challenge_late()
        elif event.kind == AUTH_KIND:
            self._send(message("OK", event.id, False, "invalid: send it as AUTH"))
        else:
            self._publish(event)

    def on_req(self, arguments: list[Any]) -> None:
        """Handle REQ: send stored events, EOSE, then new events; or CLOSED."""
        subscription_id = messages.parse_subscription_id(arguments)
        self._core.requests += 1
        try:
            filters = tuple(parse_filter(data) for data in arguments[1:])
        except BadFilter as exc:
            self._refuse(subscription_id, f"invalid: {exc}")
            return
        if self._needs_auth_to_read():
            self._refuse(subscription_id, AUTH_REQUIRED)
            self._challenge_late()
        elif refusal := self._refusal(subscription_id, filters):
            self._refuse(subscription_id, refusal)
        else:
            self._request(subscription_id, filters)

    def on_close(self, arguments: list[Any]) -> None:
        """Handle CLOSE; an unknown subscription is ignored."""
        self._unsubscribe(messages.parse_subscription_id(arguments))

    def on_auth(self, arguments: list[Any]) -> None:
        """Handle AUTH (NIP-42): accept the key or answer why not."""
        event = messages.read_event(arguments, self._send)
        if event is None:
            return
        request = self._connection.request
        host = request.headers.get("Host", "") if request else ""
        reason = messages.rejection_reason(event, self._challenge, host)
        if reason is None:
            self.pubkeys.add(event.pubkey)
        text = f"invalid: {reason}" if reason else ""
        if self._core.settings.acknowledges_auth:
            self._send(message("OK", event.id, reason is None, text))

    def _publish(self, event: Event) -> None:
        reply = Reply(
            produce=lambda: self._core.publish(event),
            send=self._send,
            hang_up=self.hang_up,
            fake_ok=message("OK", event.id, True, ""),
            refusal=lambda reason: message("OK", event.id, False, reason),
        )
        self._core.reply(reply, "event", (event.kind,), (event.pubkey,))

    def _request(self, subscription_id: str, filters: tuple[Filter, ...]) -> None:
        reply = Reply(
            produce=lambda: self._subscribe(subscription_id, filters),
            send=self._send,
            hang_up=self.hang_up,
            fake_ok=message("EOSE", subscription_id),
            refusal=lambda reason: message("CLOSED", subscription_id, reason),
        )
        kinds = {kind for filter in filters for kind in filter.kinds or ()}
        authors = {author for filter in filters for author in filter.authors or ()}
        # NIP-01: a REQ replaces the subscription with the same id, even if it fails.
        self._unsubscribe(subscription_id)
        self._core.reply(reply, "req", kinds, authors)

    def _subscribe(self, subscription_id: str, filters: tuple[Filter, ...]) -> str:
        """Open a subscription and send the stored events; return the EOSE."""
        if self._is_open:
            self._unsubscribe(subscription_id)
            if self._core.settings.ignores_broad_filters:
                filters = tuple(each for each in filters if not each.is_broad)
            subscription = Subscription(self, subscription_id, filters)
            self._subscriptions[subscription_id] = subscription
            self._core.subscriptions.add(subscription.keys(), subscription)
            for record in self._core.query(filters):
                if self.may_read(record.event):
                    self._send(messages.event_message(subscription_id, record.json))
        return message("EOSE", subscription_id)

    def _unsubscribe(self, subscription_id: str) -> None:
        subscription = self._subscriptions.pop(subscription_id, None)
        if subscription is not None:
            self._core.subscriptions.remove(subscription.keys(), subscription)

    def _refusal(self, subscription_id: str, filters: tuple[Filter, ...]) -> str | None:
        if not filters:
            return "invalid: the filter is missing"
        is_any_broad = any(filter.is_broad for filter in filters)
        if is_any_broad and self._core.settings.refuses_broad_filters:
            return "invalid: a filter must have authors or #p"
        known = self._subscriptions.keys() | {subscription_id}
        if len(known) > self._core.settings.max_subscriptions:
            return "error: too many subscriptions"
        return None

    def _refuse(self, subscription_id: str, reason: str) -> None:
        self._unsubscribe(subscription_id)
        self._send(message("CLOSED", subscription_id, reason))

    def _needs_auth_to_read(self) -> bool:
        settings = self._core.settings
        requires_auth = settings.requires_auth or settings.requires_auth_to_read
        return requires_auth and not self.pubkeys

    def _challenge_client(self) -> None:
        self._is_challenged = True
        self._send(message("AUTH", self._challenge))

    def _challenge_late(self) -> None:
        """Send the challenge after a refusal, unless the client has it already."""
        if not self._is_challenged:
            self._challenge_client()

    def _send(self, text: str) -> None:
        if not self._is_open:
            return
        # Unlike send(), broadcast() does not wait, which keeps messages in order.
        broadcast((self._connection,), text)
        if self._connection.transport.get_write_buffer_size() > MAX_BACKLOG:
            self.hang_up()


VERBS: dict[str, Callable[[Session, list[Any]], None]] = {
    "EVENT": Session.on_event,
    "REQ": Session.on_req,
    "CLOSE": Session.on_close,
    "AUTH": Session.on_auth,
}
