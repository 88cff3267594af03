"""What a page is asked to show: the query string, read and written again."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, urlencode

STEP = 50
MOST = 500
#: The tables that can show more than their newest rows.
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
    """A customer to filter by, an object to show, a kind to list, rows per table."""

    customer: str = ""
    id: str = ""
    kind: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)

    def limit(self, table: str) -> int:
        """Return how many rows the table shows."""
        return self.rows.get(table, STEP)

    def with_more(self, table: str) -> "View":
        """Return the view with the next rows of a table."""
        more = min(self.limit(table) + STEP, MOST)
        return replace(self, rows={**self.rows, table: more})

    def query(self) -> str:
        """Return the view as a query string, "" for the page as it begins."""
        named = {"customer": self.customer, "id": self.id, "kind": self.kind}
        given = {name: value for name, value in named.items() if value}
        rows = {name: str(count) for name, count in self.rows.items() if count > STEP}
        return urlencode({**given, **rows})

    def url(self) -> str:
        """Return the address of the page that shows this."""
        query = self.query()
        return f"/?{query}" if query else "/"


def read(query: str) -> View:
    """Return the view that a query string asks for, without what makes no sense."""
    given = {name: values[-1] for name, values in parse_qs(query).items()}
    rows = {
        table: min(int(given[table]), MOST)
        for table in TABLES
        if given.get(table, "").isascii() and given.get(table, "").isdigit()
    }
    return View(
        customer=given.get("customer", "").strip(),
        id=given.get("id", "").strip(),
        kind=given.get("kind", "").strip(),
        rows=rows,
    )
