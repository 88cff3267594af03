"""Query string of the status page."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from sandbox.common.html import form

PAGE_SIZE = 50
MAX_ROWS = 500
#: Tables with a link to more rows.
TABLES = "customers subscriptions invoices events requests deliveries objects"


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
        filters = {"customer": self.customer, "id": self.id, "kind": self.kind}
        given = {name: value for name, value in filters.items() if value}
        rows = {name: rows for name, rows in self.rows.items() if rows > PAGE_SIZE}
        return urlencode({**given, **rows})

    def url(self) -> str:
        """Return the URL of the view."""
        query = self.query()
        return f"/?{query}" if query else "/"


def read(query: str) -> View:
    """Return the view of a query string; invalid values are ignored."""
    values = {name: value.strip() for name, value in form.read(query).items()}
    rows = {
        table: min(int(values[table]), MAX_ROWS)
        for table in TABLES.split()
        if values.get(table, "").isascii() and values.get(table, "").isdigit()
    }
    filters = {name: values.get(name, "") for name in ("customer", "id", "kind")}
    return View(**filters, rows=rows)
