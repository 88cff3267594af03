"""Selection of records for one page: the newest ones, or those of one customer."""

from collections.abc import Iterable, Iterator
from itertools import islice
from operator import itemgetter
from typing import Any

from sandbox.common.http import dump_json
from sandbox.stripe.api.context import DELIVERY
from sandbox.stripe.app import StripeApp
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.stripe.pages.dashboard.query import PAGE_SIZE, View
from sandbox.stripe.store.records import Record, Store

# Events and requests have no index by customer: limit the search.
MAX_SEARCHED = 2_000


class Scope:
    """Records of a view. The caller must hold the app's lock."""

    def __init__(self, app: StripeApp, view: View) -> None:
        self.app = app
        self.store = app.store
        self.view = view
        #: Customers that match the filter; None without a filter.
        self.matches = (
            find_customers(app.store, view.customer) if view.customer else None
        )
        #: Id of the only customer that matches the filter, else None.
        self.customer: str | None = (
            self.matches[0]["id"] if self.matches and len(self.matches) == 1 else None
        )
        #: Id that rows must contain: the displayed object or the selected customer.
        self.mention = view.id or self.customer

    def newest(self, kind: str, table: str) -> list[Record]:
        """Return the newest objects of a type that has an index by customer."""
        index = ("customer", self.customer) if self.customer else None
        return self._first(table, self.store.scan(kind, index=index))

    def customers(self) -> list[Record]:
        """Return the newest customers, or those that match the filter."""
        found = self.store.scan("customer") if self.matches is None else self.matches
        return self._first("customers", found)

    def events(self) -> list[Record]:
        """Return the newest events that contain `mention`."""
        events = self.store.scan("event")
        return self._first("events", self._mentioned(events, itemgetter("_data")))

    def requests(self) -> list[dict[str, Any]]:
        """Return the newest requests that contain `mention`."""
        entries = reversed(self.app.log.list())
        return self._first("requests", self._mentioned(entries, _request_text))

    def deliveries(self) -> list[Record]:
        """Return the pending deliveries, oldest first."""
        pending = self.store.scan(DELIVERY, newest_first=False)
        return self._first("deliveries", self._mentioned(pending, self._event_text))

    def pending(self, endpoint: str) -> str:
        """Return the number of deliveries that an endpoint has not acknowledged."""
        deliveries = self.store.scan(DELIVERY, index=("endpoint", endpoint))
        count = sum(1 for _ in islice(deliveries, MAX_SEARCHED))
        return f"{count:,}{'+' if count == MAX_SEARCHED else ''}"

    def count(self, kind: str, row_count: int, table: str) -> str:
        """Return the number of objects; with a filter, the rows with "+" if cut off."""
        if not self.mention and self.matches is None:
            return f"{self.store.count(kind):,}"
        return f"{row_count}{'+' if row_count == self.view.limit(table) else ''}"

    def name(self, customer: str | None) -> str:
        """Return the display name of a customer: name, e-mail or id."""
        record = (self.store.get("customer", customer) if customer else None) or {}
        record = record.get("_last", record)
        return str(record.get("name") or record.get("email") or customer or "")

    def has_object(self, text: str) -> bool:
        """Return whether a text is the id of an object."""
        # The underscore saves most look-ups of strings that are no ids.
        return "_" in text and find_object(self.store, text) is not None

    def _first(self, table: str, records: Iterable[Any]) -> list[Any]:
        return list(islice(records, self.view.limit(table)))

    def _mentioned(self, records: Iterable[Any], text: Any) -> Iterator[Any]:
        if (id := self.mention) is None:
            return iter(records)
        return (
            record for record in islice(records, MAX_SEARCHED) if id in text(record)
        )

    def _event_text(self, delivery: Record) -> str:
        event = self.store.get("event", delivery["event"]) or {}
        return str(event.get("_data", ""))


def find_object(store: Store, id: str) -> Record | None:
    """Return the object with this id, of any type."""
    candidates = (store.get(kind, id) for kind in REGISTRY.by_name)
    return next((record for record in candidates if record is not None), None)


def find_customers(store: Store, text: str) -> list[Record]:
    """Return the customers that match a search text.

    These are the customer with this id, or those with this e-mail, or the newest ones
    whose id, name, e-mail or metadata contains it.
    """
    exact = store.get("customer", text)
    if exact is not None:
        return [exact]
    by_email = store.scan("customer", index=("email", text))
    if found := list(islice(by_email, PAGE_SIZE)):
        return found
    newest = islice(store.scan("customer"), MAX_SEARCHED)
    matching = filter(lambda record: text.lower() in _customer_text(record), newest)
    return list(islice(matching, PAGE_SIZE))


def _customer_text(customer: Record) -> str:
    customer = customer.get("_last", customer)
    words = (customer["id"], customer["name"], customer["email"])
    return " ".join(filter(None, (*words, *customer["metadata"].values()))).lower()


def _request_text(entry: dict[str, Any]) -> str:
    return f"{entry['path']} {dump_json(entry['params'])}"
