"""A Nostr connection to a relay, after zooid's `instance.go` and khatru.

It belongs to the relay as it was built when the client connected: later builds neither
end it, nor do their clients hear it.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sandbox.common.nostr import Event
from sandbox.nostr import messages
from sandbox.nostr.filters import BadFilter, Filter, parse_filter
from sandbox.nostr.messages import AUTH_KIND, MAX_AUTH_AGE, MalformedMessage, message
from sandbox.nostr.store import EPHEMERAL, Record
from sandbox.zooid.relays import rights
from sandbox.zooid.relays.database import Database
from sandbox.zooid.relays.instances import Instance

#: zooid answers each filter of a REQ with so many events, the newest.
MAX_RESULTS = 1_000
#: khatru closes the connection of a longer message.
MAX_MESSAGE_BYTES = 512_000


class Session:
    """State of a connection; use it on the server's event loop only.

    Callers must hold the database's lock.
    """

    def __init__(self, instance: Instance, database: Database, url: str) -> None:
        """Send the challenge; `url` is the relay's address in AUTH events."""
        #: Messages to the client.
        self.unsent: asyncio.Queue[str] = asyncio.Queue()
        self._instance = instance
        self._database = database
        self._url = url
        self._challenge = secrets.token_hex(8)
        self._pubkeys: dict[str, None] = {}
        self._subscriptions: dict[str, tuple[Filter, ...]] = {}
        instance.sessions.add(self)
        self._request_auth()

    def close(self) -> None:
        """End all subscriptions."""
        self._instance.sessions.discard(self)

    def receive(self, text: str | bytes) -> None:
        """Handle a client's message; answer NOTICE if it is malformed."""
        try:
            verb, arguments = messages.parse_message(text)
            if verb not in VERBS:
                raise MalformedMessage("unknown envelope label")
            VERBS[verb](self, arguments)
        except MalformedMessage as exc:
            self._send("NOTICE", f"failed to parse envelope: {exc}")

    def hear(self, event: Event) -> None:
        """Send a new event to the subscriptions that match it."""
        for name, filters in self._subscriptions.items():
            if any(filter.matches(event) for filter in filters):
                self._send_event(name, Record(event))

    def on_event(self, arguments: list[Any]) -> None:
        """Handle EVENT; answer OK."""
        event = messages.read_event(arguments, self.unsent.put_nowait)
        if event is None:
            return
        config = self._instance.config
        refusal = rights.publishing_refusal(
            config, self._database, event, self._pubkeys
        )
        if refusal is None:
            self._publish(event)
        elif refusal == rights.AUTH_REQUIRED:
            self._request_auth()
        self._send("OK", event.id, refusal is None, refusal or "")

    def on_req(self, arguments: list[Any]) -> None:
        """Handle REQ: send stored events and EOSE, then new events; or CLOSED."""
        name = messages.parse_subscription_id(arguments)
        filters = _read_filters(arguments[1:])
        config = self._instance.config
        refusal = rights.reading_refusal(config, self._database, self._pubkeys)
        if refusal is not None:
            if refusal == rights.AUTH_REQUIRED:
                self._request_auth()
            self._send("CLOSED", name, refusal)
            return
        self._subscriptions[name] = filters
        for filter in filters:
            self._send_stored(name, filter)
        self._send("EOSE", name)

    def on_close(self, arguments: list[Any]) -> None:
        """Handle CLOSE; an unknown subscription is ignored."""
        self._subscriptions.pop(messages.parse_subscription_id(arguments), None)

    def on_auth(self, arguments: list[Any]) -> None:
        """Handle AUTH (NIP-42); one connection can prove several keys."""
        event = messages.read_event(arguments, self.unsent.put_nowait)
        if event is None:
            return
        is_valid = self._is_valid_auth(event)
        if is_valid:
            self._pubkeys[event.pubkey] = None
        reason = "" if is_valid else "error: failed to authenticate"
        self._send("OK", event.id, is_valid, reason)

    def _is_valid_auth(self, event: Event) -> bool:
        relays = [url.removesuffix("/").lower() for url in event.values("relay")]
        return (
            event.kind == AUTH_KIND
            and self._challenge in event.values("challenge")
            # The first only, and with its scheme: `ws` is not `wss`.
            and relays[:1] == [self._url.lower()]
            and abs(event.created_at - time.time()) <= MAX_AUTH_AGE
        )

    def _publish(self, event: Event) -> None:
        if event.kind not in EPHEMERAL:
            added = self._database.add_events(self._instance.config, [event])
            if not added:
                return
        if rights.is_readable(event):
            for session in self._instance.sessions:
                session.hear(event)

    def _send_stored(self, name: str, filter: Filter) -> None:
        store = self._database.events(self._instance.config)
        found = store.query([filter], max_results=MAX_RESULTS, now=None)
        for record in found:
            if rights.is_readable(record.event):
                self._send_event(name, record)

    def _send_event(self, name: str, record: Record) -> None:
        config = self._instance.config
        if config.get("policy", {}).get("strip_signatures", False) and not any(
            rights.can_manage(config, pubkey) for pubkey in self._pubkeys
        ):
            record = Record(replace(record.event, sig="0" * 128))
        self.unsent.put_nowait(messages.event_message(name, record.json))

    def _request_auth(self) -> None:
        self._send("AUTH", self._challenge)

    def _send(self, verb: str, *values: object) -> None:
        self.unsent.put_nowait(message(verb, *values))


def _read_filters(data: list[Any]) -> tuple[Filter, ...]:
    """Return the filters of a REQ. Raises MalformedMessage."""
    try:
        return tuple(map(parse_filter, data))
    except BadFilter as exc:
        raise MalformedMessage(str(exc)) from exc


VERBS: dict[str, Callable[[Session, list[Any]], None]] = {
    "EVENT": Session.on_event,
    "REQ": Session.on_req,
    "CLOSE": Session.on_close,
    "AUTH": Session.on_auth,
}
