"""Context of a unit of work: store, time, and the events to emit."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from sandbox.common.http import dump_json
from sandbox.stripe import API_VERSION, settings
from sandbox.stripe.api.errors import missing
from sandbox.stripe.settings import AccountSettings
from sandbox.stripe.store.ids import Ids
from sandbox.stripe.store.records import Record, Store

# Names of objects in error messages, where they differ from the `object` field.
NOUNS = {
    "webhook_endpoint": "webhook endpoint",
    "billing_portal.configuration": "configuration",
    "credit_note": "credit note",
    "customer_balance_transaction": "customer balance transaction",
    "payment_method": "PaymentMethod",
    "tax_rate": "tax rate",
    "payment_record": "payment record",
    "radar.early_fraud_warning": "early fraud warning",
}
DELIVERY = "_delivery"
ACCOUNT = "acct_sandbox"
# Base of page URLs while the sandbox has no socket.
DEFAULT_PUBLIC_URL = "http://sandbox.invalid"


@dataclass(slots=True)
class Context:
    """Unit of work of one API request or timer."""

    store: Store
    #: Function that returns the API representation of a record.
    render: Callable[[Store, Record], dict[str, Any]]
    ids: Ids
    now: int
    public_url: str
    account: str = ACCOUNT
    livemode: bool = False
    request_id: str | None = None
    idempotency_key: str | None = None
    #: Ids of the deliveries that events of this unit of work have queued.
    queued: list[str] = field(default_factory=list)

    def at(self, now: int) -> "Context":
        """Return this unit of work at another time."""
        return replace(self, now=now)

    @contextmanager
    def preview(self) -> Iterator["Context"]:
        """Yield a unit of work without effect: its writes and events are discarded."""
        with self.store.discard():
            yield replace(self, queued=[])

    @property
    def settings(self) -> AccountSettings:
        """The account's current settings."""
        return settings.read(self.store)

    def get(self, kind: str, id: str) -> Record:
        """Return the object with the id in the URL. Raises a 404 `resource_missing`."""
        record = self.store.get(kind, id)
        if record is None:
            raise missing(NOUNS.get(kind, kind), id)
        return record

    def get_live(self, kind: str, id: str) -> Record:
        """Like `get`, but also raise the 404 for a deleted object."""
        record = self.get(kind, id)
        if record.get("deleted"):
            raise missing(NOUNS.get(kind, kind), id)
        return record

    def get_referenced(self, kind: str, id: str, param: str) -> Record:
        """Return the object whose id is in a parameter. Raises a 400 if missing."""
        record = self.store.get(kind, id)
        if record is None or record.get("deleted"):
            raise missing(NOUNS.get(kind, kind), id, param=param, status=400)
        return record

    def new(self, kind: str, prefix: str, length: int = 24) -> dict[str, Any]:
        """Return the fields that every new object has; its id starts with `prefix`."""
        return {
            "id": self.ids.new(prefix, length),
            "object": kind,
            "created": self.now,
            "livemode": self.livemode,
        }

    def insert(self, record: Record, event: str | None = None) -> Record:
        """Store a new object and emit its `event`."""
        self.store.put(record["object"], record)
        if event:
            self.emit(event, record)
        return record

    @contextmanager
    def update(
        self, kind: str, id: str, event: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield a copy to modify, then store it and emit `event` if it has changed."""
        old = self.get(kind, id)
        before = self.serialize(old) if event else {}
        draft = clone(old)
        yield draft
        self.store.put(kind, draft)
        if event:
            after = self.serialize(draft)
            if previous := difference(before, after):
                self._record(event, draft["id"], after, previous)

    def change(
        self, kind: str, id: str, event: str | None = None, /, **fields: Any
    ) -> Record:
        """Set fields of an object and return it; emit `event` if it has changed."""
        with self.update(kind, id, event) as draft:
            draft.update(fields)
        return draft

    def serialize(self, record: Record) -> dict[str, Any]:
        """Return the API representation of a record."""
        return self.render(self.store, record)

    def emit(
        self, type: str, record: Record, previous: Mapping[str, Any] | None = None
    ) -> None:
        """Record an event and its deliveries (docs: API reference, Events)."""
        self._record(type, record["id"], self.serialize(record), previous)

    def _record(
        self,
        type: str,
        id: str,
        content: Mapping[str, Any],
        previous: Mapping[str, Any] | None,
    ) -> None:
        # As JSON in its present state, since retries repeat it.
        data = {"object": content}
        if previous is not None:
            data["previous_attributes"] = previous
        endpoints = subscribers(self.store, type)
        event = {
            **self.new("event", "evt"),
            "api_version": API_VERSION,
            "_data": dump_json(data),
            "_invoice": id if type == "invoice.created" else None,
            "pending_webhooks": len(endpoints),
            "request": {"id": self.request_id, "idempotency_key": self.idempotency_key},
            "type": type,
            "_waiting": endpoints,
        }
        self.store.put("event", event)
        self.queued += [
            queue_delivery(self.store, event, endpoint, self.now)["id"]
            for endpoint in endpoints
        ]


def queue_delivery(store: Store, event: Record, endpoint: str, now: int) -> Record:
    """Store and return the delivery of an event to an endpoint."""
    delivery = {
        "id": f"{event['id']}.{endpoint}",
        "object": DELIVERY,
        "created": now,
        "event": event["id"],
        "endpoint": endpoint,
        "attempts": 0,
        # Id of the draft invoice whose finalization waits for this delivery.
        "draft": event.get("_invoice"),
    }
    store.put(DELIVERY, delivery)
    return delivery


def subscribers(store: Store, type: str) -> list[str]:
    """Return the ids of the enabled endpoints that are registered for an event type."""
    return [
        endpoint["id"]
        for endpoint in store.scan("webhook_endpoint", newest_first=False)
        if endpoint["status"] == "enabled"
        and not {"*", type}.isdisjoint(endpoint["enabled_events"])
    ]


def clone(value: Any) -> Any:
    """Return a deep copy of JSON data."""
    # Exact type comparison: this runs for every field of every change.
    kind = type(value)
    if kind is dict:
        return {key: clone(item) for key, item in value.items()}
    if kind is list:
        return [clone(item) for item in value]
    return value


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the old values of changed fields: an event's `previous_attributes`.

    Nested hashes contain the changed keys only; lists are complete.
    """
    changed: dict[str, Any] = {}
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            changed[key] = difference(before, after)
        else:
            changed[key] = before
    return changed
