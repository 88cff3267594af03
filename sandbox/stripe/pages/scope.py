"""The account as one page sees it: the newest of everything, or of one customer."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from sandbox.stripe.context import DELIVERY
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.stripe.pages.view import STEP, View
from sandbox.stripe.protocol.http import dump_json
from sandbox.stripe.store import Record, Store

if TYPE_CHECKING:
    from sandbox.stripe.app import StripeApp

# What has no index is searched this far back, so that no page reads everything.
SEARCHED = 2_000


class Scope:
    """Reads the store for a view; the caller holds the app's lock."""

    def __init__(self, app: "StripeApp", view: View) -> None:
        self.app = app
        self.store = app.store
        self.view = view
        #: The customers that the filter means; None without a filter.
        self.matches = (
            find_customers(app.store, view.customer) if view.customer else None
        )
        #: What the rows must mention: the object shown, or the only customer meant.
        self.mention = view.id or self.customer

    @property
    def customer(self) -> str | None:
        """The id of the customer that everything is narrowed to."""
        return (
            self.matches[0]["id"] if self.matches and len(self.matches) == 1 else None
        )

    def newest(self, kind: str, table: str) -> list[Record]:
        """Return the newest objects of a kind that has an index by customer."""
        index = ("customer", self.customer) if self.customer else None
        return self._first(table, self.store.scan(kind, index=index))

    def customers(self) -> list[Record]:
        """Return the newest customers, or those that the filter means."""
        found = self.store.scan("customer") if self.matches is None else self.matches
        return self._first("customers", found)

    def events(self) -> list[Record]:
        """Return the newest events, or those of them that mention the object."""
        events = self.store.scan("event")
        return self._first("events", self._mentioned(events, lambda one: one["_data"]))

    def requests(self) -> list[dict[str, Any]]:
        """Return the newest requests, or those of them that mention the object."""
        entries = reversed(self.app.log.list())
        return self._first("requests", self._mentioned(entries, _request_text))

    def deliveries(self) -> list[Record]:
        """Return what is to be delivered, the next first."""
        pending = self.store.scan(DELIVERY, newest_first=False)
        return self._first("deliveries", self._mentioned(pending, self._event_text))

    def pending(self, endpoint: str) -> str:
        """Return how many deliveries an endpoint has not acknowledged."""
        found = self.store.scan(DELIVERY, index=("endpoint", endpoint))
        count = sum(1 for _ in islice(found, SEARCHED))
        return f"{count:,}{'+' if count == SEARCHED else ''}"

    def count(self, kind: str, shown: int, table: str) -> str:
        """Return how many there are, which is not known of what is filtered."""
        if not self.mention and self.matches is None:
            return f"{self.store.count(kind):,}"
        return f"{shown}{'+' if shown == self.view.limit(table) else ''}"

    def name(self, customer: str | None) -> str:
        """Return what a person calls the customer: name, e-mail or id."""
        record = (self.store.get("customer", customer) if customer else None) or {}
        record = record.get("_last", record)
        return str(record.get("name") or record.get("email") or customer or "")

    def _first(self, table: str, found: Iterable[Any]) -> list[Any]:
        return list(islice(found, self.view.limit(table)))

    def _mentioned(self, found: Iterable[Any], text: Any) -> Iterator[Any]:
        if self.mention is None:
            return iter(found)
        wanted = self.mention
        return (one for one in islice(found, SEARCHED) if wanted in text(one))

    def _event_text(self, delivery: Record) -> str:
        event = self.store.get("event", delivery["event"]) or {}
        return str(event.get("_data", ""))


def find_object(store: Store, id: str) -> Record | None:
    """Return the object with this id, whatever its kind."""
    found = (store.get(kind, id) for kind in REGISTRY.by_name)
    return next((record for record in found if record is not None), None)


def find_customers(store: Store, text: str) -> list[Record]:
    """Return the customers that a text means.

    That is the one with this id or e-mail, else those of the newest in whose id,
    name, e-mail or metadata it occurs.
    """
    exact = store.get("customer", text)
    if exact is not None:
        return [exact]
    by_email = list(islice(store.scan("customer", index=("email", text)), STEP))
    if by_email:
        return by_email
    newest = islice(store.scan("customer"), SEARCHED)
    found = (one for one in newest if text.lower() in _customer_text(one))
    return list(islice(found, STEP))


def _customer_text(customer: Record) -> str:
    customer = customer.get("_last", customer)
    words = (customer["id"], customer["name"], customer["email"])
    return " ".join(filter(None, (*words, *customer["metadata"].values()))).lower()


def _request_text(entry: dict[str, Any]) -> str:
    return f"{entry['path']} {dump_json(entry['params'])}"
