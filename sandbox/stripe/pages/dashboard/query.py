"""Query string of the status page."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, urlencode

PAGE_SIZE = 50
MAX_ROWS = 500
#: Tables with a link to more rows.
TABLES = (
    "customers",
    "subscriptions",
    "invoices",
    "events",
    "requests",
    "deliveries",
    "objects",
)


@dataclass(frozen=True, slots=True)
class View:
    """Customer to filter by, object to show, type to list, and rows per table."""

    customer: str = ""
    id: str = ""
    kind: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)

    def limit(self, table: str) -> int:
        """Return the maximum number of rows of a table."""
        return self.rows.get(table, PAGE_SIZE)

    def with_more(self, table: str) -> "View":
        """Return the view with more rows of a table."""
        more = min(self.limit(table) + PAGE_SIZE, MAX_ROWS)
        return replace(self, rows={**self.rows, table: more})

    def query(self) -> str:
        """Return the view as a query string, "" for the default view."""
        named = {"customer": self.customer, "id": self.id, "kind": self.kind}
        filters = {name: value for name, value in named.items() if value}
        rows = {
            name: str(count) for name, count in self.rows.items() if count > PAGE_SIZE
        }
        return urlencode({**filters, **rows})

    def url(self) -> str:
        """Return the URL of the view."""
        query = self.query()
        return f"/?{query}" if query else "/"


def read(query: str) -> View:
    """Return the view of a query string; invalid values are ignored."""
    values = {name: items[-1] for name, items in parse_qs(query).items()}
    rows = {
        table: min(int(values[table]), MAX_ROWS)
        for table in TABLES
        if values.get(table, "").isascii() and values.get(table, "").isdigit()
    }
    return View(
        customer=values.get("customer", "").strip(),
        id=values.get("id", "").strip(),
        kind=values.get("kind", "").strip(),
        rows=rows,
    )
